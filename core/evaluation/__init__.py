"""Evaluation: samples, outcomes, metrics and their intervals."""
