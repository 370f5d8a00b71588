"""Parts that all families share: loading, prompts, capture, leaving early, geometry helpers."""
