"""Exporters: groundings in formats that other programs read."""
