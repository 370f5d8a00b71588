"""Statistics of every head on one picture, for the paper's rule (section 3) and the others.

`S_img` says whether a head looks at the picture at all, the spatial entropy whether it looks at
one place, the sensitivity whether that place follows the words, the contrast what the words alone
added, the share inside whether it is the right place. Every column has one row per sample and one
entry per head; NaN means that nothing was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64

from vg_engine.core.attention.criteria import (
    CONNECTIVITIES,
    Weighting,
    common_change,
    sensitivity,
    spatial_entropy,
)
from vg_engine.core.attention.maps import normalise
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import share_inside
from vg_engine.core.heads import Head

ATTENTION, ENTROPY = "image_attention", "entropy"
INSIDE = "inside"
SENSITIVITY, AGREEMENT = "sensitivity", "agreement"
CONTRAST, CONTRAST_ENTROPY = "contrast", "contrast_entropy"
IOU, HIT = "iou", "hit"
COLUMNS: Mapping[str, str] = {
    ATTENTION: "S_img: attention on the picture",
    ENTROPY: "spatial entropy of the map; +inf where it has no component",
    INSIDE: "share of the map inside the true boxes",
    SENSITIVITY: "1 - overlap with the map of another sentence about the same picture",
    AGREEMENT: "cosine of that change with the change of the other heads",
    CONTRAST: "S_img times the share of the map that a neutral prompt does not have",
    CONTRAST_ENTROPY: "spatial entropy of that share",
    IOU: "IoU of the head's own box with the true one",
    HIT: "1 where the head's own peak lies inside the true boxes",
}


@dataclass(frozen=True)
class Criteria:
    """The settings of the spatial entropy; the defaults are the paper's.

    Attributes:
        cut: a cell counts when it lies above `cut` times its map's mean.
        connectivity: 8 or 4.
        weighting: `area` or `mass`.
    """

    cut: float = 1.0
    connectivity: int = 8
    weighting: str = "area"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.cut) and self.cut > 0):
            raise InputError(f"the cut of the entropy must be above 0, got {self.cut}")
        if self.connectivity not in CONNECTIVITIES:
            raise InputError(f"connectivity must be 4 or 8, got {self.connectivity}")
        if self.weighting not in get_args(Weighting):
            raise InputError(f"weighting must be area or mass, got {self.weighting!r}")

    def entropy(
        self, maps: Float32[np.ndarray, "heads rows cols"]
    ) -> Float64[np.ndarray, " heads"]:
        """Compute the spatial entropy of each map, in nats."""
        weighting = cast("Weighting", self.weighting)
        return spatial_entropy(
            maps, cut=self.cut, connectivity=self.connectivity, weighting=weighting
        )


@dataclass(frozen=True, eq=False)
class HeadStatistics:
    """The statistics of every head on some samples.

    Attributes:
        heads: the heads of the columns; every head, not only candidates.
        columns: name (one of `COLUMNS`, or a rule's own) -> float32, samples x heads.
    """

    heads: tuple[Head, ...]
    columns: Mapping[str, Float32[np.ndarray, "_samples _heads"]]

    def __post_init__(self) -> None:
        shapes = {name: values.shape for name, values in self.columns.items()}
        if len(set(shapes.values())) > 1 or any(s[1] != len(self.heads) for s in shapes.values()):
            raise HeadsError(f"columns must be samples x {len(self.heads)} heads, got {shapes}")

    def __len__(self) -> int:
        """Count the samples."""
        return len(next(iter(self.columns.values()), ()))


def measure_heads(
    maps: Sequence[HeadMaps],
    *,
    criteria: Criteria | None = None,
    boxes: Sequence[Float[np.ndarray, "_boxes 4"] | None] | None = None,
    partners: Sequence[int | None] | None = None,
    neutral: HeadMaps | None = None,
) -> HeadStatistics:
    """Measure one picture from the maps of several expressions, all of the same heads.

    Args:
        maps: one entry per expression, at least one. Those beyond the length of `boxes` or
            `partners` serve for comparison only and get no row of their own.
        criteria: settings of the spatial entropy.
        boxes: per expression its true boxes, xyxy in original pixels; gives `inside`.
        partners: per expression the index of one about something else, or None; gives
            `sensitivity` and `agreement`.
        neutral: the maps of the neutral prompt on the same picture; gives `contrast` and
            `contrast_entropy`.

    Raises:
        HeadsError: no maps, or maps of different heads.
    """
    every = [*maps, *([neutral] if neutral is not None else [])]
    if not maps or any(one.heads != maps[0].heads for one in every):
        raise HeadsError("head statistics need the maps of the same heads for each expression")
    criteria = criteria or Criteria()
    stated = {len(given) for given in (boxes, partners) if given is not None} or {len(maps)}
    if len(stated) > 1 or not 0 < min(stated) <= len(maps):
        raise HeadsError(f"{len(maps)} maps, but boxes or partners for {sorted(stated)}")
    measured = maps[: min(stated)]
    lines: dict[str, list[np.ndarray]] = {
        ATTENTION: [one.image_attention for one in measured],
        ENTROPY: [criteria.entropy(one.maps.values) for one in measured],
    }
    if boxes is not None:
        lines[INSIDE] = [_inside(one, box) for one, box in zip(measured, boxes, strict=True)]
    if partners is not None:
        changes = [_change(maps, i, j) for i, j in enumerate(partners)]
        lines[SENSITIVITY], lines[AGREEMENT] = map(list, zip(*changes, strict=True))
    if neutral is not None:
        contrasts = [_contrast(one, neutral, criteria) for one in measured]
        lines[CONTRAST], lines[CONTRAST_ENTROPY] = map(list, zip(*contrasts, strict=True))
    columns = {name: np.stack(values).astype(np.float32) for name, values in lines.items()}
    return HeadStatistics(maps[0].heads, columns)


def _unknown(maps: HeadMaps) -> Float64[np.ndarray, " heads"]:
    return np.full(len(maps.heads), np.nan)


def _inside(
    maps: HeadMaps, boxes: Float[np.ndarray, "_boxes 4"] | None
) -> Float64[np.ndarray, " heads"]:
    if boxes is None or not len(boxes):
        return _unknown(maps)
    return share_inside(maps.maps, boxes)


def _change(
    maps: Sequence[HeadMaps], one: int, other: int | None
) -> tuple[Float64[np.ndarray, " heads"], Float64[np.ndarray, " heads"]]:
    if other is None:
        return _unknown(maps[one]), _unknown(maps[one])
    a, b = maps[one], maps[other]
    weights = (a.image_attention + b.image_attention) / 2
    return (
        sensitivity(a.maps.values, b.maps.values),
        common_change(a.maps.values, b.maps.values, weights),
    )


def _contrast(
    maps: HeadMaps, neutral: HeadMaps, criteria: Criteria
) -> tuple[Float64[np.ndarray, " heads"], Float64[np.ndarray, " heads"]]:
    """Measure the part of a map that the words added: its attention and its spatial entropy."""
    added = np.clip(normalise(maps.maps.values) - normalise(neutral.maps.values), 0.0, None)
    amount = added.sum(axis=(1, 2)) * maps.image_attention
    return amount, criteria.entropy(added.astype(np.float32))
