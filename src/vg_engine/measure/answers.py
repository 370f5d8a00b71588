"""What a contestant answers, read from maps that are there already.

The main contestant is read by the engine itself. The others are read here, the same way (a test
compares), but without what nobody asks for: a mask is painted only where a true one is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vg_engine.core import geometry
from vg_engine.core.attention import maps
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.settings import Settings
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import Outcome, outcome
from vg_engine.core.evaluation.samples import TrueMask
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import GridRegion


@dataclass(frozen=True, eq=False)
class Truth:
    """What a sample's answers are compared with, original upright pixels."""

    boxes: Float64[np.ndarray, "n 4"] | None
    mask: TrueMask | None


@dataclass(frozen=True, eq=False)
class Given:
    """One answer, original pixels.

    Attributes:
        boxes: best first; none where nothing was found.
        point: the peak.
        score: of the best box; None where a contestant has none.
        mask: all masks together; None = not painted.
    """

    boxes: Float64[np.ndarray, "n 4"]
    point: tuple[float, float]
    score: float | None = None
    mask: Bool[np.ndarray, "height width"] | None = None

    @classmethod
    def of(cls, grounding: Grounding) -> Given:
        """An engine's answer."""
        width, height = grounding.size
        mask = np.zeros((height, width), dtype=np.bool_)
        for one in grounding.masks:
            mask |= one
        boxes = np.asarray(grounding.boxes, dtype=np.float64)
        return cls(boxes, grounding.point, grounding.score, mask)

    def against(self, truth: Truth) -> Outcome:
        """What it is worth.

        Until something calibrates it, a score is a share of the map's mass, not a confidence: all
        boxes of an answer count for GREC's F1, whatever their score.
        """
        return outcome(
            true_boxes=truth.boxes,
            true_mask=truth.mask,
            found=bool(len(self.boxes)),
            boxes=self.boxes,
            point=self.point,
            mask=self.mask,
        )


def centre(size: tuple[int, int], share: float, *, mask: bool) -> Given:
    """A box in the middle of the picture, `share` of each side long."""
    width, height = size
    x, y = width * (1 - share) / 2, height * (1 - share) / 2
    box = np.array([[x, y, width - x, height - y]])
    painted = None
    if mask:
        # A pixel belongs to the box if its middle lies inside.
        xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
        across, down = (x <= xs) & (xs < width - x), (y <= ys) & (ys < height - y)
        painted = np.outer(down, across)
    middle = geometry.clip_point((width / 2, height / 2), size)
    return Given(box, middle, mask=painted)


class Reader:
    """Reads one query's maps for many contestants.

    Args:
        observed: of all heads that any of them needs.
        size: (width, height) of the original.
        settings: the engine's region and smoothing.
        mask: whether masks are asked for.
    """

    def __init__(
        self, observed: HeadMaps, size: tuple[int, int], settings: Settings, *, mask: bool
    ) -> None:
        self._observed, self._size, self._settings, self._mask = observed, size, settings, mask
        self._place = {head: i for i, head in enumerate(observed.heads)}

    def combined(self, heads: Sequence[Head]) -> Given:
        """What these heads answer together, as the engine would."""
        chosen = self._observed.maps.values[self._where(heads)]
        how = self._settings
        return self._answers(maps.combine(chosen, how.sigma, how.kernel)[None], mask=self._mask)[0]

    def sums(self, groups: Sequence[Sequence[Head]]) -> list[Given]:
        """What each group of heads answers; all sums are smoothed at once."""
        values = self._observed.maps.values
        added = [values[self._where(heads)].sum(axis=0, dtype=np.float64) for heads in groups]
        return self._smoothed(np.stack(added).astype(np.float32), mask=self._mask)

    def singles(self, heads: Sequence[Head]) -> list[Given]:
        """What each head alone answers, without masks."""
        return self._smoothed(self._observed.maps.values[self._where(heads)], mask=False)

    def _where(self, heads: Sequence[Head]) -> list[int]:
        return [self._place[head] for head in heads]

    def _smoothed(self, values: Float32[np.ndarray, "n rows cols"], *, mask: bool) -> list[Given]:
        how = self._settings
        return self._answers(maps.smooth(values, how.sigma, how.kernel), mask=mask)

    def _answers(self, values: Float32[np.ndarray, "n rows cols"], *, mask: bool) -> list[Given]:
        seen = self._observed.maps.with_values(values).inside(self._size)
        return [
            self._answer(self._settings.region(np.ascontiguousarray(one)), seen, mask=mask)
            for one in seen.values
        ]

    def _answer(self, found: GridRegion, seen: geometry.SoftMap, *, mask: bool) -> Given:
        size = self._size
        point = geometry.clip_point(seen.to_original.point(*found.peak), size)
        try:
            box = geometry.clip_box(seen.to_original.box(found.box), size)
        except InputError:
            # A region finer than a cell can lie in the padded part of a cell on the edge.
            box = geometry.cell_box(seen, point, size)
        painted = None
        if mask:
            painted = geometry.mask_to_original(found.mask, seen.shape, seen.to_original, size)
            if not painted.any():  # thinner than a pixel: at least the pixel at the peak
                painted[int(point[1]), int(point[0])] = True
        score = float(np.clip(found.score, 0.0, 1.0))
        return Given(np.array([box], dtype=np.float64), point, score, painted)
