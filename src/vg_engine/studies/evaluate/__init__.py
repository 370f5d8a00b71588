"""Scoring answers on a data set, with controls beside them."""
