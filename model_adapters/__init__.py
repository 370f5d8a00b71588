"""Adapters of model families, and what they share.

The only room, with the registry, in which models have names. Adapters are found through entry
points and import `vg_engine.core` and nothing of the sibling rooms. Whoever writes an adapter
imports what its file needs from here:

    from vg_engine.model_adapters import Grid, HuggingFaceAdapter, resize_steps, tiles
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vg_engine.model_adapters.shared import resize_steps
    from vg_engine.model_adapters.shared.grids import Grid, tiles
    from vg_engine.model_adapters.shared.huggingface import VICUNA, HuggingFaceAdapter

__all__ = ["VICUNA", "Grid", "HuggingFaceAdapter", "resize_steps", "tiles"]

_SHARED = "vg_engine.model_adapters.shared"
# Public name -> the module that it comes from, imported when the name is first used.
_HOMES = {
    "VICUNA": f"{_SHARED}.huggingface",
    "HuggingFaceAdapter": f"{_SHARED}.huggingface",
    "Grid": f"{_SHARED}.grids",
    "tiles": f"{_SHARED}.grids",
    "resize_steps": _SHARED,
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    if hasattr(home, name):
        return getattr(home, name)
    return importlib.import_module(f"{_HOMES[name]}.{name}")
