"""One file per family of vision-language models, beside what all Hugging Face models share.

The only room, with the registry, in which models have names. Adapters are found through entry
points and import `vg_engine.core` and nothing of the sibling rooms.
"""
