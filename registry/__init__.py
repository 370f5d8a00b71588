"""Adapters, models and localization heads: schema, look-up and YAML entries.

Entries carry their provenance; the files of the embedded model lie here as well. The package
imports `vg_engine.core` and nothing of its siblings.
"""
