"""Two evaluations on what both scored."""
