"""The plugin manager with its typed façade, and the plugins that serve any model.

Picture decoding, refiners, data sets and exporters live here. They import `vg_engine.core` and
none of the sibling packages.
"""
