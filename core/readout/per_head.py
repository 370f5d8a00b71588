"""What every head would answer on its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64

from vg_engine.core import geometry
from vg_engine.core.attention import maps
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.readout.regions import Region


def own_answers(
    observed: HeadMaps, size: tuple[int, int], region: Region, *, sigma: float, kernel: int
) -> tuple[Float64[np.ndarray, "heads 4"], Float64[np.ndarray, "heads 2"]]:
    """The box and the peak that each head alone would answer, in original pixels.

    Boxes are xyxy, NaN where a head has none (a region finer than a cell, in the padding).

    Args:
        observed: maps of any heads.
        size: (width, height) of the original.
        region: how a map becomes a region.
        sigma, kernel: of the Gaussian, in cells.
    """
    seen = observed.maps.with_values(maps.smooth(observed.maps.values, sigma, kernel)).inside(size)
    boxes, points = np.full((len(observed.heads), 4), np.nan), np.zeros((len(observed.heads), 2))
    for number, values in enumerate(seen.values):
        found = region(np.ascontiguousarray(values))
        points[number] = geometry.clip_point(seen.to_original.point(*found.peak), size)
        try:
            boxes[number] = geometry.clip_box(seen.to_original.box(found.box), size)
        except InputError:
            continue
    return boxes, points


def best_iou(
    boxes: Float64[np.ndarray, "heads 4"], truth: Float[np.ndarray, "n 4"]
) -> Float32[np.ndarray, " heads"]:
    """IoU of each box with the true box that it fits best; 0 where a box is NaN."""
    pairs = iou(np.nan_to_num(boxes)[:, None], truth[None].astype(np.float64))
    return np.asarray(pairs.max(axis=1), dtype=np.float32)


def inside_any(
    points: Float64[np.ndarray, "heads 2"], truth: Float[np.ndarray, "n 4"]
) -> Float32[np.ndarray, " heads"]:
    """1 where a point lies inside one of the true boxes, else 0."""
    x, y = points[:, None, 0], points[:, None, 1]
    inside = (x >= truth[:, 0]) & (x < truth[:, 2]) & (y >= truth[:, 1]) & (y < truth[:, 3])
    return np.asarray(inside.any(axis=1), dtype=np.float32)
