"""Measures of a head: attention to the picture, spatial entropy, sensitivity (paper, section 3).

`S_img` says whether a head looks at the picture at all, the spatial entropy whether it looks at
one place, the sensitivity whether that place follows the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from vg_engine.core.attention.maps import normalise
from vg_engine.core.errors import InputError

Weighting = Literal["area", "mass"]
CONNECTIVITIES = (4, 8)

# Both are shares of a curve's range. A curve that dips less than _STRAIGHT below its chord is a
# straight line; distances that differ by less than _EQUAL are equal. So rounding moves no elbow.
_STRAIGHT = 1e-9
_EQUAL = 1e-12
_SHORTEST_CURVE = 3
_BINS = 1024  # of Otsu's histogram


@dataclass(frozen=True)
class Elbow:
    """The point of maximum curvature of a sorted curve.

    Attributes:
        index: its place among the values sorted ascending; 0 keeps all of them.
        threshold: its value; values that reach it (>=) are kept.
    """

    index: int
    threshold: float

    def keeps(self, values: Float[np.ndarray, " heads"]) -> Bool[np.ndarray, " heads"]:
        """Mark the values that reach the threshold."""
        return np.asarray(values.astype(np.float64) >= self.threshold)


def elbow(values: Float[np.ndarray, " heads"]) -> Elbow:
    """Find the elbow of the sorted values: the point furthest below the chord (paper, section 3).

    The chord joins the first and the last point; the vertical distance to it is largest where the
    perpendicular one is. Of equal distances the lowest index wins, which keeps more values. A
    curve that never lies below its chord (straight, concave, constant, fewer than three values)
    has no elbow: everything is kept.

    Raises:
        InputError: there is no value, or one is not finite.
    """
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"the elbow needs finite values, got {len(values)} values")
    curve = np.sort(values.astype(np.float64))
    low, high = float(curve[0]), float(curve[-1])
    if len(curve) < _SHORTEST_CURVE or low == high:
        return Elbow(0, low)
    below = np.linspace(0.0, 1.0, len(curve)) - (curve - low) / (high - low)
    furthest = below.max()
    if furthest <= _STRAIGHT:
        return Elbow(0, low)
    index = int(np.argmax(below >= furthest - _EQUAL))
    return Elbow(index, float(curve[index]))


def image_attention(
    maps: Float32[np.ndarray, "heads rows cols"],
) -> Float32[np.ndarray, " heads"]:
    """Sum each head's map: S_img, its attention on the picture (paper, section 3).

    With several views, the engine adds up their sums before it fuses their maps: a fused map holds
    densities, and its sum is not S_img.
    """
    return np.asarray(maps.sum(axis=(1, 2), dtype=np.float64), dtype=np.float32)


def binarise(
    maps: Float32[np.ndarray, "*heads rows cols"], cut: float = 1.0
) -> Bool[np.ndarray, "*heads rows cols"]:
    """Mark the cells strictly above `cut` times the mean over all cells of their map."""
    mean = maps.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    return np.asarray(maps > cut * mean)


def otsu_threshold(values: Float32[np.ndarray, "*any"]) -> float:
    """Compute Otsu's threshold, which maximises the variance between two classes of values.

    It uses 1,024 even bins between minimum and maximum. Values strictly above the threshold form
    the upper class.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high
    scaled = (values.astype(np.float64).ravel() - low) * (_BINS / (high - low))
    counts = np.bincount(np.minimum(scaled.astype(np.int64), _BINS - 1), minlength=_BINS)
    weights = counts / counts.sum()
    levels = np.arange(_BINS) + 0.5
    below, moment = np.cumsum(weights)[:-1], np.cumsum(weights * levels)[:-1]
    mean = float((weights * levels).sum())
    # The first and last bin are never empty, so neither class is.
    between = (mean * below - moment) ** 2 / (below * (1.0 - below))
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    # Between two clusters every threshold is equally good: take the middle of the gap.
    middle = (best[0] + best[-1]) / 2 + 1.0
    return low + (high - low) * float(middle) / _BINS


def spatial_entropy(
    maps: Float32[np.ndarray, "heads rows cols"],
    *,
    cut: float = 1.0,
    connectivity: int = 8,
    weighting: Weighting = "area",
) -> Float64[np.ndarray, " heads"]:
    """Compute H = -sum P ln P over the connected components above the mean (paper, section 3).

    Args:
        maps: one map per head.
        cut: a cell counts when it lies strictly above `cut` times its map's mean.
        connectivity: 8 (the paper's) or 4.
        weighting: P of a component is its share of all components' cells (`area`, the paper's) or
            of their attention (`mass`).

    Returns:
        Entropies in nats: 0 for a single component, +inf where there is none.

    Raises:
        InputError: an unknown connectivity or weighting.
    """
    if connectivity not in CONNECTIVITIES:
        raise InputError(f"connectivity must be 4 or 8, got {connectivity}")
    if weighting not in ("area", "mass"):
        raise InputError(f"weighting must be area or mass, got {weighting!r}")
    heads, rows, cols = maps.shape
    if not maps.size:
        return np.full(heads, np.inf)
    # All maps lie on one sheet, one below the other, so that one call labels them all. OpenCV
    # labels from top to bottom, by single lines or pairs of lines; with a blank line between two
    # maps no pair spans both, so the labels ascend from map to map.
    flat = maps.reshape(heads, rows * cols)
    # float64 adds equal float32 without rounding: no cell of a constant map exceeds its mean.
    mean = np.einsum("hc->h", flat, dtype=np.float64) / flat.shape[1]
    lines = np.zeros((heads, (rows + 1) * cols), dtype=bool)
    above = lines[:, : flat.shape[1]]
    np.greater(flat, _just_below(cut * mean)[:, None], out=above)
    count, labels = cv2.connectedComponents(
        lines.view(np.uint8).reshape(-1, cols), connectivity=connectivity, ltype=cv2.CV_32S
    )
    last = np.maximum.accumulate(labels.reshape(heads, -1).max(axis=1))
    components = np.diff(last, prepend=last.dtype.type(0))
    owner = np.repeat(np.arange(heads), components)
    alone = components == 1
    lines[alone] = False  # its share is 1: nothing to count
    counted = labels.ravel()[np.flatnonzero(lines)]
    mass = flat[above] if weighting == "mass" else None
    weight = np.bincount(counted, weights=mass, minlength=count)[1:].astype(np.float64)
    weight[alone[owner]] = 1.0
    total = np.bincount(owner, weights=weight, minlength=heads)
    share = weight / total[owner]
    entropy = -np.bincount(owner, weights=share * np.log(share), minlength=heads)
    entropy = np.maximum(entropy, 0.0)  # -0 and rounding below 0
    entropy[components == 0] = np.inf
    return entropy


def _just_below(levels: Float64[np.ndarray, "*any"]) -> Float32[np.ndarray, "*any"]:
    """Round each level down to float32.

    A float32 exceeds the level exactly if it exceeds the result, and comparing float32 is faster.
    """
    with np.errstate(over="ignore"):
        near = levels.astype(np.float32)
    return np.where(near > levels, np.nextafter(near, np.float32(-np.inf)), near)


def overlap(
    maps_a: Float32[np.ndarray, "heads rows cols"], maps_b: Float32[np.ndarray, "heads rows cols"]
) -> Float64[np.ndarray, " heads"]:
    """Sum the minima of two maps normalised to sum 1: 1 for equal maps, 0 for disjoint ones."""
    common = np.minimum(normalise(maps_a), normalise(maps_b)).sum(axis=(1, 2))
    return np.asarray(np.clip(common, 0.0, 1.0))


def sensitivity(
    maps_a: Float32[np.ndarray, "heads rows cols"], maps_b: Float32[np.ndarray, "heads rows cols"]
) -> Float64[np.ndarray, " heads"]:
    """Measure how much each head's map changes between two expressions on one picture.

    Returns:
        1 - overlap per head, in [0, 1]; 0 where one of the two maps has no mass.
    """
    massive = (maps_a.sum(axis=(1, 2)) > 0) & (maps_b.sum(axis=(1, 2)) > 0)
    return np.where(massive, 1.0 - overlap(maps_a, maps_b), 0.0)


def common_change(
    maps_a: Float32[np.ndarray, "heads rows cols"],
    maps_b: Float32[np.ndarray, "heads rows cols"],
    weights: Float[np.ndarray, " heads"],
) -> Float64[np.ndarray, " heads"]:
    """Measure how far each head's change between two expressions agrees with the other heads'.

    A head's change is the difference of its two normalised maps.

    Returns:
        Per head the cosine between its change and the weighted sum of the other heads' changes, in
        [0, 1]; 0 where it is negative or undefined.
    """
    change = (normalise(maps_a) - normalise(maps_b)).reshape(len(maps_a), -1)
    parts = change * weights.astype(np.float64)[:, None]
    others = parts.sum(axis=0) - parts
    length = np.linalg.norm(change, axis=1) * np.linalg.norm(others, axis=1)
    along = (change * others).sum(axis=1)
    cosine = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    return np.asarray(np.clip(cosine, 0.0, 1.0))


def ranked(
    *keys: Sequence[float] | Float[np.ndarray, " heads"] | Int[np.ndarray, " heads"],
) -> Int[np.ndarray, " heads"]:
    """Sort indices ascending by the first key, ties by the next key and so on, then by index."""
    return np.lexsort(tuple(np.asarray(key) for key in reversed(keys)))
