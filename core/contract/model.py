"""A model: how it is asked for, and as it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vg_engine.core.contract.frozen import empty
from vg_engine.core.heads import Head

# The paper never takes heads from the first two layers (section 2).
FIRST_LAYER = 2


@dataclass(frozen=True)
class Capabilities:
    """The abilities of a model, as its adapter declares them.

    Attributes:
        early_exit: the forward pass may stop behind the last wanted layer.
        prefix_reuse: `vg_open_scene` keeps a picture's encoding for further expressions.
        packing: expressions about one picture share a sequence.
        generation: `vg_generate` answers.
    """

    early_exit: bool = True
    prefix_reuse: bool = False
    packing: bool = False
    generation: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """The model to load, as the user described it.

    Attributes:
        source: folder or hub id; with `module` set, only a label.
        folder: what the cache holds of a hub id, once that was looked for.
        offline: no other file can be had.
        module, processor: a model that is already in memory.
        device: torch device name; `auto` takes CUDA, then MPS, then the CPU.
        dtype: `auto` takes the checkpoint's on an accelerator and float32 on the CPU.
        options: an adapter's own switches (for one: `geometry` = crop or pad).
    """

    source: str
    revision: str | None = None
    folder: Path | None = None
    offline: bool = False
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    module: torch.nn.Module | None = None
    processor: Any = None
    options: Mapping[str, Any] = field(default_factory=empty)


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
    context: Mapping[str, Any] = field(default_factory=empty)
    close: Callable[[], None] = lambda: None

    @property
    def candidate_heads(self) -> tuple[Head, ...]:
        """The heads that are candidates for localization: none of the first two layers (section 2).

        A model without deeper heads that can point at the picture has all of its heads here.
        """
        deep = tuple(head for head in self.all_heads if head.layer >= FIRST_LAYER)
        return deep or self.all_heads

    @property
    def shape(self) -> dict[str, Any]:
        """Layers, heads per layer and map layers, as `vg_engine.core.heads` checks heads with."""
        return {"layers": self.layers, "per_layer": self.heads, "map_layers": self.map_layers}

    @property
    def all_heads(self) -> tuple[Head, ...]:
        """Every head that can point at the picture, by layer, then head."""
        layers = range(self.layers) if self.map_layers is None else self.map_layers
        return tuple(Head(layer, head) for layer in layers for head in range(self.heads))
