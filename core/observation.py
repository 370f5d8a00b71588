"""What one picture with its expressions tells about every head, and running sums of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Float64

from vg_engine.core.criteria import common_change, sensitivity, spatial_entropy
from vg_engine.core.errors import HeadsError
from vg_engine.core.heads import Head
from vg_engine.core.types import HeadMaps


@dataclass(frozen=True, eq=False)
class Observation:
    """What one picture with its expressions tells about every head.

    Attributes:
        heads: whose columns these are; every head, not only candidates.
        image_attention: S_img, a line per expression.
        entropy: spatial entropy, a line per expression; +inf where the map has no component.
        sensitivity: 1 - overlap, a line per pair of different expressions.
        agreement: `common_change` of the same pairs.
    """

    heads: tuple[Head, ...]
    image_attention: Float32[np.ndarray, "samples heads"]
    entropy: Float32[np.ndarray, "samples heads"]
    sensitivity: Float32[np.ndarray, "pairs heads"]
    agreement: Float32[np.ndarray, "pairs heads"]


def observe(maps: Sequence[HeadMaps], *, cut: float = 1.0) -> Observation:
    """Measure one picture: `maps` holds one entry per expression about it, all of the same heads.

    Args:
        maps: at least one; a picture with two or more different expressions also tells how
            sensitive each head is.
        cut: of the entropy, in means of the map.

    Raises:
        HeadsError: no maps, or maps of different heads.
    """
    if not maps or any(one.heads != maps[0].heads for one in maps):
        raise HeadsError("an observation needs the maps of the same heads for each expression")
    heads = maps[0].heads
    attention = np.stack([one.image_attention for one in maps])
    entropy = np.stack([spatial_entropy(one.maps.values, cut=cut) for one in maps])
    moved, agreed = [np.zeros((0, len(heads)))], [np.zeros((0, len(heads)))]
    for (i, a), (j, b) in combinations(enumerate(maps), 2):
        if a.expression != b.expression:
            weights = (attention[i] + attention[j]) / 2
            moved.append(sensitivity(a.maps.values, b.maps.values)[None])
            agreed.append(common_change(a.maps.values, b.maps.values, weights)[None])
    return Observation(
        heads,
        attention,
        entropy.astype(np.float32),
        np.concatenate(moved).astype(np.float32),
        np.concatenate(agreed).astype(np.float32),
    )


@dataclass(eq=False)
class Sums:
    """Running sums over observations: memory O(heads)."""

    heads: tuple[Head, ...] = ()
    samples: int = 0
    pairs: int = 0
    attention: Float64[np.ndarray, " heads"] = field(default_factory=lambda: np.zeros(0))
    moved: Float64[np.ndarray, " heads"] = field(default_factory=lambda: np.zeros(0))
    agreed: Float64[np.ndarray, " heads"] = field(default_factory=lambda: np.zeros(0))

    def add(self, seen: Observation) -> None:
        """Take in one picture."""
        if not self.heads:
            self.heads = seen.heads
            self.attention, self.moved, self.agreed = np.zeros((3, len(seen.heads)))
        if seen.heads != self.heads:
            raise HeadsError("every observation must be of the same heads in the same order")
        self.samples += len(seen.image_attention)
        self.pairs += len(seen.sensitivity)
        self.attention = self.attention + seen.image_attention.sum(axis=0, dtype=np.float64)
        self.moved = self.moved + seen.sensitivity.sum(axis=0, dtype=np.float64)
        self.agreed = self.agreed + seen.agreement.sum(axis=0, dtype=np.float64)

    def means(
        self, *, pairs: bool = False
    ) -> tuple[
        Float64[np.ndarray, " heads"], Float64[np.ndarray, " heads"], Float64[np.ndarray, " heads"]
    ]:
        """Mean S_img, sensitivity and agreement; the last two 0 without pairs."""
        if not self.samples:
            raise HeadsError("no sample was observed; give at least one picture and expression")
        if pairs and not self.pairs:
            raise HeadsError(
                "this rule compares expressions about one picture: give pictures with at least "
                "two different expressions each"
            )
        count = max(self.pairs, 1)
        return self.attention / self.samples, self.moved / count, self.agreed / count
