"""A model: how it is asked for, and as it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from vg_engine.core.heads import Head


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Capabilities:
    """What an adapter declares that this model can do."""

    early_exit: bool = True
    prefix_reuse: bool = False
    packing: bool = False
    generation: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """What to load, as it came from the user.

    Attributes:
        source: folder or hub id; with `module` set, only a label.
        module, processor: a model that is already in memory.
        device: torch device name; `auto` takes CUDA, then MPS, then the CPU.
        dtype: `auto` takes the checkpoint's on an accelerator and float32 on the CPU.
        options: an adapter's own switches (for one: `geometry` = crop or pad).
    """

    source: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    module: torch.nn.Module | None = None
    processor: Any = None
    options: Mapping[str, Any] = field(default_factory=_empty)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready for capture.

    Attributes:
        name: id or folder, for messages and provenance.
        layers, heads: decoder layers, attention heads per layer.
        map_layers: the layers whose attention can point at the picture (all, unless the family
            mixes in linear attention or keeps the picture in cross-attention layers).
        statements: what the adapter found or assumed and the user should know, a sentence each.
        context: the adapter's own, opaque to core.
        close: undoes what loading did to a module that was handed in.
    """

    name: str
    module: torch.nn.Module
    processor: Any
    layers: int
    heads: int
    device: torch.device
    dtype: torch.dtype
    revision: str | None = None
    map_layers: tuple[int, ...] | None = None
    capabilities: Capabilities = Capabilities()
    statements: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=_empty)
    close: Callable[[], None] = lambda: None

    @property
    def all_heads(self) -> tuple[Head, ...]:
        """Every head that can point at the picture, by layer, then head."""
        layers = range(self.layers) if self.map_layers is None else self.map_layers
        return tuple(Head(layer, head) for layer in layers for head in range(self.heads))
