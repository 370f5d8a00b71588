"""Regions: from one combined map on the token grid to a box and a mask (paper, section 3).

Grid frame: cell (row r, column c) spans [c, c + 1) x [r, r + 1); boxes are float xyxy in it. A mask
is a raster over the whole grid at a whole multiple of its resolution.

`paper` follows the paper exactly. On coarse grids its boxes are far too large (everything above
the mean of a smoothed map); the other functions therefore read the map interpolated between cells.
Each takes a map of any size. Without mass or when constant, its region is the whole grid, with
score 0 or 1. A map without cells or one that is not finite raises `InputError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from vg_engine.core.attention.criteria import binarise, otsu_threshold
from vg_engine.core.attention.maps import smooth, upsample
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Box

FACTOR = 16  # sub-cells per cell and axis, on grids of ordinary size
_FINEST = 512  # sub-cells along the longer axis at most, so large grids get fewer per cell
_PAINTED = 2  # neither 0 nor 1

# The fitted box has edges every half cell (fewer on long axes) and no side below two cells; long
# shapes lose a little. Objects fill the middle of their box and leave its corners empty, so along
# each axis the template falls from 1 to a half towards the edge.
_EDGES = 64
_LEAST_SIDE = 2.0
_FALL = 0.5
_AGAINST_LONG = 0.02
_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class GridRegion:
    """The region that one map points at, in grid units.

    Attributes:
        box: tight float xyxy inside the grid, with x0 < x1 and y0 < y1.
        mask: the region on a raster over the whole grid, a whole number of sub-cells per cell.
        peak: (x, y) of the bilinear map's maximum; the middle of a plateau.
        score: share of the map's mass inside the mask, in [0, 1].
    """

    box: Box
    mask: Bool[np.ndarray, "fine_rows fine_cols"]
    peak: tuple[float, float]
    score: float


Region = Callable[[Float32[np.ndarray, "rows cols"]], GridRegion]


def sub_cells(shape: tuple[int, int], most: int = FACTOR) -> int:
    """Choose the number of sub-cells per cell and axis: `most`, or fewer on large grids."""
    if most < 1:
        raise InputError(f"factor must be at least 1, got {most}")
    return max(1, min(most, _FINEST // max(shape)))


def paper(values: Float32[np.ndarray, "rows cols"]) -> GridRegion:
    """Find the paper's region: the largest convex hull above the mean, and its tight box.

    Take the cells strictly above the mean over *all* cells, their 8-connected components, the
    convex hull of each component's cell corners, and the hull of largest area (of equal ones the
    one whose cells hold more mass, then the first from the top left). The mask is the filled hull.
    """
    _check(values)
    above = binarise(values)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        above.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    if count == 1:
        return _whole(values)
    best = (0.0, 0.0, 0)
    hull = np.zeros((0, 2))
    extents = stats[1:, cv2.CC_STAT_WIDTH] * stats[1:, cv2.CC_STAT_HEIGHT]
    for label in (1 + np.argsort(-extents)).tolist():
        x, y, width, height, _ = stats[label].tolist()
        if width * height < best[0]:
            break  # neither this hull nor any later one can be larger
        window = labels[y : y + height, x : x + width] == label
        mass = float(values[y : y + height, x : x + width][window].sum(dtype=np.float64))
        points = _hull(window) + np.array([x, y])
        size = (float(cv2.contourArea(points.astype(np.float32))), mass, -label)
        if size > best:
            best, hull = size, points.astype(np.float64)
    (left, top), (right, bottom) = hull.min(axis=0).tolist(), hull.max(axis=0).tolist()
    box = (left, top, right, bottom)
    mask = _fill(hull, box, values.shape, sub_cells(values.shape))
    return _region(values, mask, peak_of(values), box)


def all_positive(values: Float32[np.ndarray, "rows cols"]) -> GridRegion:
    """Find *all* cells above the mean and the box around them, as the paper's public code does."""
    _check(values)
    above = binarise(values)
    return _region(values, above, peak_of(values)) if above.any() else _whole(values)


def otsu(values: Float32[np.ndarray, "rows cols"], *, factor: int = FACTOR) -> GridRegion:
    """Find the component around the peak above Otsu's threshold of the bilinear map.

    Args:
        values: one map.
        factor: sub-cells per cell and axis, fewer on large grids.
    """
    fine = interpolated(values, factor)
    return around_peak(values, fine, otsu_threshold(fine))


def mean_std(
    values: Float32[np.ndarray, "rows cols"], *, c: float = 1.0, factor: int = FACTOR
) -> GridRegion:
    """Find the component around the peak above the bilinear map's mean + `c` deviations.

    Args:
        values: one map.
        c: how many standard deviations.
        factor: sub-cells per cell and axis, fewer on large grids.
    """
    fine = interpolated(values, factor)
    spread = fine.std(dtype=np.float64)
    return around_peak(values, fine, float(fine.mean(dtype=np.float64) + c * spread))


def peak_share(
    values: Float32[np.ndarray, "rows cols"], *, share: float = 0.5, factor: int = FACTOR
) -> GridRegion:
    """Find the component around the peak above `share` of the bilinear map's maximum.

    Args:
        values: one map.
        share: of the maximum, from 0 to 1.
        factor: sub-cells per cell and axis, fewer on large grids.
    """
    fine = interpolated(values, factor)
    return around_peak(values, fine, share * float(values.max()))


def half_level(
    values: Float32[np.ndarray, "rows cols"], *, level: float = 0.55, factor: int = FACTOR
) -> GridRegion:
    """Find the component around the peak above `level` of the way from background to peak.

    The background is the median cell, so neither a diffuse floor nor the object's own size moves
    the threshold. An edge blurred by the smoothing lies half way up; small objects, whose peak the
    smoothing lowers too, need a little more, hence 0.55.

    Args:
        values: one map.
        level: 0 is the background, 1 the peak.
        factor: sub-cells per cell and axis, fewer on large grids.
    """
    fine = interpolated(values, factor)
    floor, rise = floor_and_rise(values)
    return around_peak(values, fine, floor + level * rise)


def floor_and_rise(values: Float32[np.ndarray, "rows cols"]) -> tuple[float, float]:
    """Return a map's background (its median cell) and the height of its peak above that."""
    floor = float(np.median(values))
    return floor, float(values.max()) - floor


def interpolated(
    values: Float32[np.ndarray, "rows cols"], factor: int = FACTOR
) -> Float32[np.ndarray, "fine_rows fine_cols"]:
    """Interpolate a map bilinearly to `factor` sub-cells per cell and axis, fewer on large grids.

    Raises:
        InputError: the map has no cells or is not finite.
    """
    _check(values)
    return upsample(values, sub_cells(values.shape, factor))


def box_fit(
    values: Float32[np.ndarray, "rows cols"], *, sigma: float = 1.0, kernel: int = 7
) -> GridRegion:
    """Find the box around the peak whose smoothed template correlates best with the map.

    There is no threshold: every cell counts. As the template is smoothed like the map, small
    objects are not widened. The mask holds the sub-cells inside the box that lie above half the
    way from the median cell to the peak.

    Args:
        values: one map.
        sigma, kernel: the smoothing that the map went through, in cells.
    """
    _check(values)
    peak = peak_of(values)
    if values.min() == values.max():
        return _whole(values)
    rows, cols = values.shape
    x0, x1, across = _templates(cols, peak[0], sigma, kernel)
    y0, y1, down = _templates(rows, peak[1], sigma, kernel)
    centred = values.astype(np.float64) - values.mean(dtype=np.float64)
    # Templates are products of one profile per axis, so are their sums and sums of squares.
    total = np.outer(down.sum(axis=0), across.sum(axis=0))
    power = np.outer((down**2).sum(axis=0), (across**2).sum(axis=0))
    spread = np.sqrt(np.maximum(power - total**2 / values.size, 1e-12))
    fit = (down.T @ centred @ across) / (spread * np.sqrt((centred**2).sum()))
    fit -= _AGAINST_LONG * np.abs(np.log((y1 - y0)[:, None] / (x1 - x0)[None, :]))
    v, h = divmod(int(np.argmax(fit)), fit.shape[1])
    box = (float(x0[h]), float(y0[v]), float(x1[h]), float(y1[v]))
    factor = sub_cells(values.shape)
    ys, xs = ((np.arange(n * factor) + 0.5) / factor for n in (rows, cols))
    inside = np.outer((box[1] < ys) & (ys < box[3]), (box[0] < xs) & (xs < box[2]))
    floor, rise = floor_and_rise(values)
    high = inside & (upsample(values, factor) > floor + 0.5 * rise)
    return _region(values, high if high.any() else inside, peak, box)


def _templates(
    cells: int, peak: float, sigma: float, kernel: int
) -> tuple[
    Float64[np.ndarray, " spans"], Float64[np.ndarray, " spans"], Float64[np.ndarray, "cells spans"]
]:
    """List the spans (start, end) of one axis that hold the peak, and their smoothed profiles."""
    coarser = max(1, -(-2 * cells // _EDGES))
    step = 0.5 * coarser
    edges = np.minimum(np.arange(0.0, cells + step, step), cells)
    first, last = np.meshgrid(edges[edges <= peak], edges[edges >= peak], indexing="ij")
    wide = last - first >= min(_LEAST_SIDE, cells)
    low, high = first[wide], last[wide]
    samples = _SAMPLES if coarser == 1 else 1  # coarse edges need no fine profile
    at = (np.arange(cells * samples) + 0.5) / samples
    off = (2 * at[:, None] - low - high) / (high - low)
    profile = np.where(np.abs(off) <= 1, 1.0 - _FALL * off**2, 0.0)
    averaged = profile.reshape(cells, samples, -1).mean(axis=1).astype(np.float32)
    # As columns of width one each, so that the smoothing runs along this axis alone.
    columns = np.ascontiguousarray(averaged.T[:, :, None])
    return low, high, smooth(columns, sigma, kernel)[:, :, 0].T.astype(np.float64)


def peak_of(values: Float32[np.ndarray, "rows cols"]) -> tuple[float, float]:
    """Find the bilinear map's maximum: (x, y) in grid units.

    It lies on a cell's centre. Equal cells that touch (8-connected) form a plateau. The plateau
    with most cells wins (then the first from the top left), and the peak is its middle, or the
    plateau's nearest cell where the middle is hollow.
    """
    tied = values == values.max()
    rows, columns = np.nonzero(tied)
    if len(rows) == 1:
        return float(columns[0]) + 0.5, float(rows[0]) + 0.5
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        tied.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    rows, columns = np.nonzero(labels == largest)
    x, y = float(columns.mean()), float(rows.mean())
    # The middle lies on the plateau if the cells around it do.
    if not tied[
        int(np.floor(y)) : int(np.ceil(y)) + 1, int(np.floor(x)) : int(np.ceil(x)) + 1
    ].all():
        nearest = int(np.argmin((columns - x) ** 2 + (rows - y) ** 2))
        x, y = float(columns[nearest]), float(rows[nearest])
    return x + 0.5, y + 0.5


def _check(values: Float32[np.ndarray, "rows cols"]) -> None:
    if 0 in values.shape or not np.isfinite(values).all():
        raise InputError(f"a region needs a finite map with cells, got shape {values.shape}")


def _hull(cells: Bool[np.ndarray, "rows cols"]) -> np.ndarray:
    """Compute the convex hull of the cells' corners: its corners (x, y), int32."""
    lines = np.flatnonzero(cells.any(axis=1))
    first = cells.argmax(axis=1)[lines]
    last = cells.shape[1] - cells[:, ::-1].argmax(axis=1)[lines]
    ends = [(x, y) for x in (first, last) for y in (lines, lines + 1)]
    points = np.concatenate([np.stack(end, axis=1) for end in ends]).astype(np.int32)
    return np.asarray(cv2.convexHull(points).reshape(-1, 2))


def _fill(
    hull: Float64[np.ndarray, "corners 2"], box: Box, shape: tuple[int, ...], factor: int
) -> Bool[np.ndarray, "fine_rows fine_cols"]:
    """Mark the sub-cells with their centre in a convex polygon of cell corners and extent `box`."""
    left, top, right, bottom = (int(side) * factor for side in box)
    ys = (np.arange(top, bottom) + 0.5) / factor
    xs = (np.arange(left, right) + 0.5) / factor
    ahead = np.roll(hull, -1, axis=0)
    slanted = hull[:, 1] != ahead[:, 1]
    (x0, y0), (x1, y1) = hull[slanted].T[:, :, None], ahead[slanted].T[:, :, None]
    crossed = (np.minimum(y0, y1) <= ys) & (ys <= np.maximum(y0, y1))
    at = x0 + (ys - y0) * ((x1 - x0) / (y1 - y0))
    first = np.searchsorted(xs, np.where(crossed, at, np.inf).min(axis=0))
    end = np.searchsorted(xs, np.where(crossed, at, -np.inf).max(axis=0), side="right")
    columns = np.arange(len(xs), dtype=np.int32)  # narrow, which is fast
    inside = columns >= first[:, None].astype(np.int32)
    inside &= columns < end[:, None].astype(np.int32)
    mask = np.zeros((shape[0] * factor, shape[1] * factor), dtype=bool)
    mask[top:bottom, left:right] = inside
    return mask


def around_peak(
    values: Float32[np.ndarray, "rows cols"],
    fine: Float32[np.ndarray, "fine_rows fine_cols"],
    threshold: float,
) -> GridRegion:
    """Find the component of the bilinear map above a threshold that holds the peak.

    Args:
        values: one map.
        fine: the same map, `interpolated`.
        threshold: in the map's own values.
    """
    peak = peak_of(values)
    if values.min() == values.max():
        return _whole(values)
    mask, box = component_at(fine, threshold, peak, values.shape)
    return _region(values, mask, peak, box)


def component_at(
    fine: Float32[np.ndarray, "fine_rows fine_cols"],
    threshold: float,
    peak: tuple[float, float],
    shape: tuple[int, ...],
) -> tuple[Bool[np.ndarray, "fine_rows fine_cols"], Box]:
    """Find the 8-connected sub-cells strictly above a threshold around a peak.

    Args:
        fine: a raster of sub-cells.
        threshold: values above it count.
        peak: (x, y) in grid units.
        shape: (rows, columns) of the grid.

    Returns:
        The component and its tight box in grid units. Where nothing at the peak exceeds the
        threshold, the component is the sub-cells that touch the peak.
    """
    factor = fine.shape[0] // shape[0]
    x, y = peak[0] * factor, peak[1] * factor
    # The peak lies on the border between sub-cells or in the middle of one.
    left, top = math.ceil(x) - 1, math.ceil(y) - 1
    right, bottom = math.floor(x) + 1, math.floor(y) + 1
    canvas = (fine > threshold).view(np.uint8)
    touching = canvas[top:bottom, left:right]
    if touching.any():
        row, column = divmod(int(touching.argmax()), right - left)
        seed = (left + column, top + row)
        _, _, _, (left, top, width, height) = cv2.floodFill(canvas, None, seed, _PAINTED, flags=8)
        right, bottom = left + width, top + height
    else:
        touching[:] = _PAINTED
    box = left / factor, top / factor, right / factor, bottom / factor
    return canvas == _PAINTED, box


def _whole(values: Float32[np.ndarray, "rows cols"]) -> GridRegion:
    mask = np.ones(values.shape, dtype=bool)
    return _region(values, mask, peak_of(values))


def _region(
    values: Float32[np.ndarray, "rows cols"],
    mask: Bool[np.ndarray, "fine_rows fine_cols"],
    peak: tuple[float, float],
    box: Box | None = None,
) -> GridRegion:
    """Build a region with the share of the mass inside, and the mask's tight box by default."""
    rows, cols = values.shape
    factor = mask.shape[0] // rows
    if box is None:
        lines, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (
            float(columns[0]) / factor,
            float(lines[0]) / factor,
            float(columns[-1] + 1) / factor,
            float(lines[-1] + 1) / factor,
        )
    mass = np.clip(values.astype(np.float64), 0.0, None)
    # One axis at a time is far faster than both at once.
    covered = mask.reshape(rows, factor, cols * factor).sum(axis=1, dtype=np.uint16)
    share = covered.reshape(rows, cols, factor).sum(axis=2) / factor**2
    total = float(mass.sum())
    score = min(1.0, float((mass * share).sum()) / total) if total > 0 else 0.0
    return GridRegion(box, mask, peak, score)
