"""The contract and the maths: hook specs, data types, errors, the engine, rows, maps, regions.

The innermost room. It imports nothing of the other rooms and knows no model, no file format, no
terminal and not transformers; what it needs of them reaches it through the hooks.
"""
