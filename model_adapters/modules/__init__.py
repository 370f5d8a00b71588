"""Models that transformers has no class for, built from its parts.

They are loaded through their concrete class (an adapter's `auto_class`); nothing is registered.
"""
