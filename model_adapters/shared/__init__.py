"""Parts that all families share: loading, prompts, capture, early exit, geometry helpers."""
