"""The conformance kit: what every adapter has to pass, ours and other people's alike.

Subclass `AdapterContract` in a test module, name the adapter and build a tiny checkpoint; pytest
runs the rest. The checks themselves are plain functions in `parity`, `paint` and `conduct`, which
`vg-engine doctor` runs on real checkpoints; the contract alone needs pytest.

`tiny` and `tiny_qwen` write tiny checkpoints to a folder, for tests of any plugin; docs/plugins.md
lists them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vg_engine.testing.contract import AdapterContract, Golden
    from vg_engine.testing.harness import ContractError, Harness, noise, open_adapter

__all__ = ["AdapterContract", "ContractError", "Golden", "Harness", "noise", "open_adapter"]

# Public name -> the module that it comes from.
_HOMES = {
    "AdapterContract": "vg_engine.testing.contract",
    "Golden": "vg_engine.testing.contract",
    "ContractError": "vg_engine.testing.harness",
    "Harness": "vg_engine.testing.harness",
    "noise": "vg_engine.testing.harness",
    "open_adapter": "vg_engine.testing.harness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
