"""Predictions: what was answered on one sample, read from an engine's answer or from maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from vg_engine.core import geometry
from vg_engine.core.contract.results import Grounding, HeadMaps, Instance
from vg_engine.core.evaluation.outcomes import Outcome, outcome
from vg_engine.core.heads import Head
from vg_engine.core.readout.instances import ReadOut
from vg_engine.studies.shared.open_samples import SampleTruth


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer, original pixels.

    Attributes:
        boxes: best first; none where nothing was found.
        point: the peak.
        score: of the best box; None where an entry has none.
        mask: all masks together; None = not painted.
    """

    boxes: Float64[np.ndarray, "n 4"]
    point: tuple[float, float]
    score: float | None = None
    mask: Bool[np.ndarray, "height width"] | None = None

    @classmethod
    def of(cls, grounding: Grounding) -> Prediction:
        """An engine's answer."""
        width, height = grounding.size
        mask = np.zeros((height, width), dtype=np.bool_)
        for one in grounding.masks:
            mask |= one
        boxes = np.asarray(grounding.boxes, dtype=np.float64)
        return cls(boxes, grounding.point, grounding.score, mask)

    @classmethod
    def of_instances(cls, instances: Sequence[Instance]) -> Prediction:
        """Take what was read from maps; at least one instance."""
        painted = [one.mask for one in instances if one.mask is not None]
        boxes = np.array([one.box for one in instances], dtype=np.float64)
        mask = np.logical_or.reduce(painted) if painted else None
        return cls(boxes, instances[0].point, instances[0].score, mask)

    def against(self, truth: SampleTruth) -> Outcome:
        """Score it against the truth.

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


def centre(size: tuple[int, int], share: float, *, mask: bool) -> Prediction:
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
    return Prediction(box, middle, mask=painted)


@dataclass(frozen=True, eq=False)
class MapReader:
    """One query's maps, read for many entries of a table.

    Attributes:
        observed: maps of all heads that any of them needs.
        size: (width, height) of the original.
        how: how maps are read.
        masks: whether masks are painted.
    """

    observed: HeadMaps
    size: tuple[int, int]
    how: ReadOut
    masks: bool

    def combined(self, heads: Sequence[Head]) -> Prediction:
        """Read what these heads answer together, as the engine does."""
        seen = self.how.combined(self.observed.of(heads), self.size)
        return Prediction.of_instances(self.how.instances(seen, self.size, masks=self.masks))

    def sums(self, groups: Sequence[Sequence[Head]]) -> list[Prediction]:
        """Read what each group of heads answers; all sums are smoothed at once."""
        found = self.how.each(self.observed, groups, self.size, masks=self.masks)
        return [Prediction.of_instances(instances) for instances in found]

    def per_head(self, heads: Sequence[Head]) -> list[Prediction]:
        """Read what each head alone answers, without masks."""
        alone = [(head,) for head in heads]
        found = self.how.each(self.observed, alone, self.size, masks=False)
        return [Prediction.of_instances(instances) for instances in found]
