"""Attention: rows, maps on the token grid, and the criteria that judge them."""
