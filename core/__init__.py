"""The contract and the maths: hook specs, data types, errors, the engine, rows, maps, regions.

This is the innermost package. It imports none of the others and knows no model, file format,
terminal or transformers; everything it needs of them arrives through the hooks.
"""
