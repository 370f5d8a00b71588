"""How well boxes, masks and points fit, and how sure that is.

Boxes are float xyxy, right and bottom exclusive, no + 1. What has no sample is NaN, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from vg_engine.core.errors import InputError

_CHUNK = 1 << 20  # numbers drawn at a time: 8 MB


def iou(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float64[np.ndarray, "*#n"]:
    """Intersection over union of xyxy boxes, pair by pair; leading axes broadcast.

    Two boxes without area have 0.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    common = np.clip(sides, 0.0, None).prod(axis=-1)
    union = _area(first) + _area(second) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def _area(boxes: Float64[np.ndarray, "*n 4"]) -> Float64[np.ndarray, "*n"]:
    return np.asarray(np.clip(boxes[..., 2:] - boxes[..., :2], 0.0, None).prod(axis=-1))


def mask_iou(a: Bool[np.ndarray, "height width"], b: Bool[np.ndarray, "height width"]) -> float:
    """Intersection over union of two masks; two empty masks agree: 1 (as in LISA's gIoU)."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def pointing(point: tuple[float, float], mask: Bool[np.ndarray, "height width"]) -> bool:
    """The pointing game: whether the pixel that holds `point` (x, y) belongs to the mask.

    A point outside the picture is a miss.
    """
    column, row = math.floor(point[0]), math.floor(point[1])
    height, width = mask.shape
    return 0 <= column < width and 0 <= row < height and bool(mask[row, column])


def accuracy_at(ious: Float[np.ndarray, " n"], threshold: float = 0.5) -> float:
    """Acc@threshold: the share of IoUs that reach it (>=); NaN without samples."""
    return float(np.mean(ious >= threshold)) if len(ious) else math.nan


def mean_iou(ious: Float[np.ndarray, " n"]) -> float:
    """Mean of the IoUs; NaN without samples."""
    return float(np.mean(ious, dtype=np.float64)) if len(ious) else math.nan


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: NaN without samples.
        low, high: NaN with fewer than two pictures.
        n: number of samples.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Read by people: `0.853 [0.826, 0.879]`, `0.853` without an interval, else `n/a`."""
        if math.isnan(self.value):
            return "n/a"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    clusters: Sequence[Hashable],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean of the samples with a percentile bootstrap interval, **clustered by picture**.

    Samples of one picture are not independent, so whole pictures are drawn, with replacement,
    with all their samples.

    Args:
        values: one number per sample (an IoU, a hit).
        clusters: the picture of each sample.
        resamples: how often a set of pictures is drawn.
        level: share of the resampled means inside the interval.
        seed: same seed, same interval.

    Returns:
        NaN throughout without samples; NaN bounds with one picture, which tells no spread.

    Raises:
        InputError: lengths differ, a value is not finite, a level outside (0, 1), no resample.
    """
    if len(values) != len(clusters):
        raise InputError(f"{len(values)} values but {len(clusters)} clusters")
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level must lie in (0, 1) and resamples above 0: {level}, {resamples}")
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError("a value is not finite; leave out what was not measured")
    if not len(numbers):
        return Estimate(math.nan, math.nan, math.nan, 0)
    index: dict[Hashable, int] = {}
    owner = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    value, pictures = float(numbers.mean()), len(index)
    if pictures == 1:
        return Estimate(value, math.nan, math.nan, len(numbers))
    sums = np.bincount(owner, weights=numbers)
    counts = np.bincount(owner).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CHUNK // pictures)
    for start in range(0, resamples, step):
        part = min(step, resamples - start)
        drawn = rng.integers(0, pictures, size=(part, pictures))
        means[start : start + part] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), len(numbers))
