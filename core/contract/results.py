"""Results: frozen, validated, read-only, picklable.

Frames: *original* is the upright picture in pixels, x to the right, y down, float, the left edge
of the first pixel at 0. *grid* is a map's own frame: one unit is one cell. Only
`vg_engine.core.geometry` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vg_engine.core.contract.frozen import Rebuilt, empty
from vg_engine.core.contract.picture import read_only
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import Box, SoftMap
from vg_engine.core.heads import Head

_ROUNDING = 1e-6  # by which a share may pass 1


@dataclass(frozen=True, eq=False)
class HeadMaps(Rebuilt):
    """The maps of one query.

    Attributes:
        expression: the cleaned text.
        heads: whose maps these are.
        maps: the heads' maps fused on one grid (for a single view the token grid itself).
        image_attention: S_img per head: sum of the image entries over all views, in [0, 1].
        notes: what the user should know (a cropped picture, words the tokenizer does not know).
        token: the text of the token whose row this is, where rows are kept apart; else None.
        size: (width, height) of the original picture; None where it is not known.
    """

    expression: str
    heads: tuple[Head, ...]
    maps: SoftMap
    image_attention: Float32[np.ndarray, " heads"]
    notes: tuple[str, ...] = ()
    token: str | None = None
    size: tuple[int, int] | None = None

    def __repr__(self) -> str:
        rows, columns = self.maps.values.shape[-2:]
        return f"HeadMaps({self.expression!r}, {len(self.heads)} heads, {rows} x {columns} cells)"

    def of(self, heads: Sequence[Head]) -> HeadMaps:
        """The maps of some of the heads, in the given order.

        Raises:
            HeadsError: a head whose map was not taken.
        """
        if tuple(heads) == self.heads:
            return self
        place = {head: index for index, head in enumerate(self.heads)}
        lacking = [str(head) for head in heads if head not in place]
        if lacking:
            raise HeadsError(
                f"no map of {', '.join(lacking)} was taken; ask for maps of these heads"
            )
        where = [place[head] for head in heads]
        return replace(
            self,
            heads=tuple(heads),
            maps=self.maps.with_values(self.maps.values[where]),
            image_attention=self.image_attention[where],
        )


@dataclass(frozen=True, eq=False)
class Instance(Rebuilt):
    """One object that an expression may mean, in original upright pixels.

    Attributes:
        box: float xyxy.
        score: in [0, 1]; until something calibrates it, the share of the map's mass inside the
            region.
        point: (x, y) of the map's peak in the region.
        mask: bool, height x width, read-only; None only where no masks were requested.
    """

    box: Box
    score: float
    point: tuple[float, float]
    mask: Bool[np.ndarray, "height width"] | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = (float(value) for value in self.box)
        if not (left < right and top < bottom):
            raise InputError(f"a box must be xyxy with x0 < x1 and y0 < y1, got {self.box}")
        if not 0.0 <= self.score <= 1.0 + _ROUNDING:
            raise InputError(f"score must lie in [0, 1], got {self.score}")
        object.__setattr__(self, "box", (left, top, right, bottom))
        object.__setattr__(self, "score", min(float(self.score), 1.0))
        object.__setattr__(self, "point", (float(self.point[0]), float(self.point[1])))
        if self.mask is not None:
            if self.mask.dtype != np.bool_ or self.mask.ndim != 2:
                raise InputError(
                    f"a mask must be bool, height x width, got {self.mask.dtype} {self.mask.shape}"
                )
            object.__setattr__(self, "mask", read_only(self.mask))

    def __repr__(self) -> str:
        mask = "" if self.mask is None else f", mask of {int(self.mask.sum())} pixels"
        return f"Instance(box={_short(self.box)}, score={self.score:.3f}{mask})"


@dataclass(frozen=True, eq=False)
class Grounding(Rebuilt):
    """The answer to one expression: the places that it names in the picture.

    Attributes:
        expression: the cleaned text.
        size: (width, height) of the original upright picture.
        instances: the objects that may be meant, best first; those with a score below
            `threshold` are candidates, kept for whoever wants another threshold.
        soft_map: the combined map on its grid; `heatmap` renders it.
        presence: in [0, 1], how sure it is that the picture shows what is meant at all; until
            something calibrates it, the best instance's score.
        threshold: from which presence and score on something counts as found. 0 until something
            calibrates it: every answer is then found.
        heads: whose maps were combined.
        notes: what the user should know.
        timings: seconds per stage.
        provenance: model, revision, head set, prompt, settings, tool version.

    Example:
        >>> cup = Instance((1.0, 1.0, 3.0, 2.0), 0.8, (2.0, 1.5), np.ones((4, 4), bool))
        >>> from vg_engine.core.geometry import Affine
        >>> flat = SoftMap(np.ones((2, 2), np.float32), Affine((2.0, 2.0), (0.0, 0.0)))
        >>> answer = Grounding("the cup", (4, 4), (cup,), flat, presence=0.8)
        >>> answer.found, answer.box
        (True, (1.0, 1.0, 3.0, 2.0))
    """

    expression: str
    size: tuple[int, int]
    instances: tuple[Instance, ...]
    soft_map: SoftMap
    presence: float
    threshold: float = 0.0
    heads: tuple[Head, ...] = ()
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=empty)
    provenance: Mapping[str, Any] = field(default_factory=empty)

    def __post_init__(self) -> None:
        width, height = self.size
        for name, share in (("presence", self.presence), ("threshold", self.threshold)):
            if not 0.0 <= share <= 1.0 + _ROUNDING:
                raise InputError(f"{name} must lie in [0, 1], got {share}")
        for one in self.instances:
            left, top, right, bottom = one.box
            if left < 0 or top < 0 or right > width or bottom > height:
                raise InputError(f"a box must lie inside {width} x {height}, got {one.box}")
            if one.mask is None or one.mask.shape != (height, width):
                got = "none" if one.mask is None else one.mask.shape
                raise InputError(f"an instance needs a mask of shape {(height, width)}, got {got}")
        scores = [one.score for one in self.instances]
        if scores != sorted(scores, reverse=True):
            raise InputError(f"instances must come best first, got scores {scores}")
        object.__setattr__(self, "instances", tuple(self.instances))
        object.__setattr__(self, "presence", min(float(self.presence), 1.0))
        object.__setattr__(self, "timings", MappingProxyType(dict(self.timings)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __repr__(self) -> str:
        place = f"box={_short(self.box)}" if self.box else "not found"
        more = f", instances: {len(self.accepted)}" if len(self.accepted) > 1 else ""
        notes = f", notes: {len(self.notes)}" if self.notes else ""
        return f"Grounding({self.expression!r}, {place}, score={self.score:.3f}{more}{notes})"

    @property
    def found(self) -> bool:
        """True where `presence` reaches `threshold` and there is an instance."""
        return bool(self.instances) and self.presence >= self.threshold

    @property
    def accepted(self) -> tuple[Instance, ...]:
        """The instances that count, best first: those that reach `threshold`, at least the best.

        None where nothing was found.
        """
        if not self.found:
            return ()
        reaching = tuple(one for one in self.instances if one.score >= self.threshold)
        return reaching or self.instances[:1]

    @property
    def box(self) -> Box | None:
        """The best box, xyxy in original pixels; None where nothing was found."""
        return self.accepted[0].box if self.found else None

    @property
    def mask(self) -> Bool[np.ndarray, "height width"] | None:
        """The best box's mask, original pixels; None where nothing was found."""
        return self.accepted[0].mask if self.found else None

    @property
    def boxes(self) -> Float64[np.ndarray, "n 4"]:
        """The accepted boxes, n x 4, xyxy, original pixels, best first."""
        return read_only(np.array([one.box for one in self.accepted], np.float64).reshape(-1, 4))

    @property
    def masks(self) -> tuple[Bool[np.ndarray, "height width"], ...]:
        """One mask per accepted box."""
        return tuple(one.mask for one in self.accepted if one.mask is not None)

    @property
    def score(self) -> float:
        """Score of the best instance, candidates included; 0 where there is none."""
        return self.instances[0].score if self.instances else 0.0

    @property
    def point(self) -> tuple[float, float]:
        """Peak (x, y) of the best instance, original pixels; of the map, where there is none."""
        return self.instances[0].point if self.instances else self.soft_map.peak(self.size)

    @property
    def heatmap(self) -> Float32[np.ndarray, "height width"]:
        """The soft map in original pixels, scaled to a maximum of 1; rendered at each access."""
        return self.soft_map.render(self.size)


def _short(box: Box) -> str:
    return f"({', '.join(f'{value:.1f}' for value in box)})"
