"""A picture as plugins see it: decoded once, perhaps encoded, with what they kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vg_engine.core.contract.frozen import empty
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Encoding:
    """A picture and the beginning of a prompt, encoded once (`vg_open_scene`).

    Attributes:
        prompt: whose beginning it holds.
        depth: layers that are encoded; heads of deeper layers cannot be read behind it.
        nbytes: memory that it holds, bytes.
        data: the adapter's own. Use leaves it as it is: it serves several passes.
        close: releases it.
    """

    prompt: Prompt
    depth: int
    nbytes: int
    data: Any
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture during one pass.

    Attributes:
        picture: decoded, upright.
        encoding: its kept encoding; None = the pass encodes the picture itself. In one pass
            either every scene has one or none has.
        store: plugins keep here, under their own name, what they compute once per picture (the
            embedding of a segmentation model). It lasts as long as the picture is open.
    """

    picture: Picture
    encoding: Encoding | None = None
    store: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PostprocessContext:
    """The surroundings of a post-processor.

    Attributes:
        device: where the engine's model lies; a post-processor with a model puts it there.
        provenance: as in every answer: model, adapter, heads, prompt, region.
    """

    device: torch.device
    provenance: Mapping[str, Any] = field(default_factory=empty)
