"""Adapters, one file per model family."""
