"""Data sets: samples of picture, expression and truth that need no download."""
