"""Which adapters, models and localization heads exist: schema, look-up and YAML entries.

Entries carry their provenance; the files of the embedded model lie here as well. The room imports
`vg_engine.core` and nothing of its siblings.
"""
