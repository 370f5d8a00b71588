"""Exporters: groundings in the forms that other programs read."""
