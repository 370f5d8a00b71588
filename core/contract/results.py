"""Results: frozen, validated, read-only.

Frames: *original* is the upright picture in pixels, x to the right, y down, float, the left edge
of the first pixel at 0. *grid* is a map's own frame: one unit is one cell. Only
`vg_engine.core.geometry` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from vg_engine.core.errors import InputError
from vg_engine.core.geometry import SoftMap
from vg_engine.core.heads import Head


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """The maps of one query.

    Attributes:
        heads: whose maps these are.
        maps: the heads' maps fused on one grid (for a single view the token grid itself).
        image_attention: S_img per head: sum of the image entries over all views, in [0, 1].
        notes: what the user should know (a cropped picture, words the tokenizer does not know).
    """

    expression: str
    heads: tuple[Head, ...]
    maps: SoftMap
    image_attention: Float32[np.ndarray, " heads"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Grounding:
    """Where the picture shows what the expression says.

    Attributes:
        expression: the cleaned text.
        size: (width, height) of the original upright picture.
        boxes: float64, n x 4, xyxy, original pixels, inside the picture, best first; n = 0 only
            if `found` is false.
        masks: one per box.
        soft_map: the combined map on its grid; `heatmap` renders it.
        point: the map's peak (x, y), original pixels.
        score: share of the map's mass inside the region, until something calibrates it.
        found: true until something calibrates it.
        heads: whose maps were combined.
        notes: what the user should know.
        timings: seconds per stage.
        provenance: model, revision, head set, prompt, settings, tool version.
    """

    expression: str
    size: tuple[int, int]
    boxes: Float[np.ndarray, "n 4"]
    masks: tuple[Bool[np.ndarray, "height width"], ...]
    soft_map: SoftMap
    point: tuple[float, float]
    score: float
    found: bool
    heads: tuple[Head, ...]
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=_empty)
    provenance: Mapping[str, Any] = field(default_factory=_empty)

    def __post_init__(self) -> None:
        width, height = self.size
        boxes = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        if len(boxes) != len(self.masks):
            raise InputError(f"{len(boxes)} boxes but {len(self.masks)} masks")
        if self.found != bool(len(boxes)):
            raise InputError(f"found is {self.found} but there are {len(boxes)} boxes")
        low, high = boxes[:, :2], boxes[:, 2:]
        limit = np.array([width, height])
        if len(boxes) and not ((low >= 0).all() and (low < high).all() and (high <= limit).all()):
            raise InputError(f"boxes must be xyxy inside {width} x {height}: {boxes.tolist()}")
        masks = []
        for mask in self.masks:
            if mask.shape != (height, width) or mask.dtype != np.bool_:
                raise InputError(
                    f"a mask must be bool of shape {(height, width)}, got {mask.dtype} {mask.shape}"
                )
            masks.append(_read_only(mask))
        if not 0.0 <= self.score <= 1.0 + 1e-6:
            raise InputError(f"score must lie in [0, 1], got {self.score}")
        object.__setattr__(self, "boxes", _read_only(boxes))
        object.__setattr__(self, "masks", tuple(masks))
        object.__setattr__(self, "score", min(float(self.score), 1.0))
        object.__setattr__(self, "timings", MappingProxyType(dict(self.timings)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The best box, xyxy in original pixels; None where nothing was found."""
        if not len(self.boxes):
            return None
        left, top, right, bottom = (float(value) for value in self.boxes[0])
        return left, top, right, bottom

    @property
    def mask(self) -> Bool[np.ndarray, "height width"] | None:
        """The best box's mask, original pixels."""
        return self.masks[0] if self.masks else None

    @property
    def heatmap(self) -> Float32[np.ndarray, "height width"]:
        """The soft map in original pixels, scaled to a maximum of 1; rendered at each access."""
        return self.soft_map.render(self.size)


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
