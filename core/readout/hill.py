"""The bilinear map around the peak of a map, cut at many thresholds at the price of one.

Grid frame as in `core/readout/regions.py`; a raster has a whole number of sub-cells per cell and
axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from vg_engine.core.geometry import Box

_PAINTED = 2  # neither 0 nor 1


@dataclass(frozen=True, eq=False)
class Piece:
    """Some sub-cells of a raster, cut out.

    Attributes:
        top, left: the piece's first line and column on the whole raster.
        mask: which sub-cells, from there on; some in each outermost line and column.
    """

    top: int
    left: int
    mask: Bool[np.ndarray, "piece_rows piece_cols"]

    def box(self, factor: int) -> Box:
        """Its tight box in grid units."""
        height, width = self.mask.shape
        right, bottom = self.left + width, self.top + height
        return self.left / factor, self.top / factor, right / factor, bottom / factor

    def on(self, rows: int, cols: int) -> Bool[np.ndarray, "{rows} {cols}"]:
        """The whole raster, `rows` x `cols` sub-cells, with this piece on it."""
        raster = np.zeros((rows, cols), dtype=bool)
        height, width = self.mask.shape
        raster[self.top : self.top + height, self.left : self.left + width] = self.mask
        return raster


def held(
    above: Bool[np.ndarray, "window_rows window_cols"],
    corner: tuple[int, int],
    peak: tuple[float, float],
    factor: int,
) -> Piece:
    """The 8-connected sub-cells of a window that count and hang together with the peak.

    Where none counts there, the sub-cells that touch the peak.

    Args:
        above: what counts.
        corner: the window's first line and column on the whole raster.
        peak: (x, y) in grid units.
        factor: sub-cells per cell and axis.
    """
    x, y = peak[0] * factor, peak[1] * factor
    # The peak lies on a border between sub-cells, or in the middle of one.
    top, left = max(0, math.ceil(y) - 1), max(0, math.ceil(x) - 1)
    bottom, right = math.floor(y) + 1, math.floor(x) + 1
    rows = slice(max(0, top - corner[0]), max(0, bottom - corner[0]))
    columns = slice(max(0, left - corner[1]), max(0, right - corner[1]))
    touching = above[rows, columns]
    if not touching.any():
        return Piece(top, left, np.ones((bottom - top, right - left), dtype=bool))
    row, column = divmod(int(touching.argmax()), touching.shape[1])
    seed = (columns.start + column, rows.start + row)
    canvas = above.astype(np.uint8, order="C")
    _, _, _, (x0, y0, width, height) = cv2.floodFill(canvas, None, seed, _PAINTED, flags=8)
    mask = canvas[y0 : y0 + height, x0 : x0 + width] == _PAINTED
    return Piece(corner[0] + y0, corner[1] + x0, mask)


class Hill:
    """One map's peak and the bilinear map around it.

    Only the cells that the peak's component can reach are interpolated, and only anew when a
    threshold reaches further down than those before it.

    Args:
        values: one finite map.
        peak: (x, y) of its maximum in grid units.
        factor: sub-cells per cell and axis.

    Attributes:
        floor: the median cell.
        top: the highest cell.
    """

    def __init__(
        self, values: Float32[np.ndarray, "rows cols"], peak: tuple[float, float], factor: int
    ) -> None:
        middle = values.size // 2
        lower = middle - 1 + values.size % 2
        ordered = np.partition(values, (lower, middle), axis=None)
        self.floor = float(ordered[lower : middle + 1].mean())
        self.top = float(values.max())
        self.values, self.peak, self.factor = values, peak, factor
        self._lowest = math.inf
        self._corner = (0, 0)
        self._fine: Float32[np.ndarray, "rows cols"] = np.zeros((0, 0), dtype=np.float32)

    def height(self, level: float) -> float:
        """The threshold at a level: 0 is the median cell, 1 the peak."""
        return self.floor + level * (self.top - self.floor)

    def above(self, threshold: float) -> Piece:
        """The sub-cells strictly above a threshold that hang together with the peak."""
        self.reach(threshold)
        return held(self._fine > threshold, self._corner, self.peak, self.factor)

    def reach(self, threshold: float) -> None:
        """Interpolate far enough for all thresholds from this one on."""
        if threshold >= self._lowest:
            return
        # A sub-cell is no higher than the highest of the four cells around it. So whatever lies
        # above the threshold lies less than a cell from the middle of a cell that does.
        high = (self.values > threshold).view(np.uint8)
        near = cv2.dilate(high, np.ones((3, 3), np.uint8))
        seed = (int(self.peak[0]), int(self.peak[1]))
        left = top = width = height = 0
        if near[seed[1], seed[0]]:
            _, _, _, (left, top, width, height) = cv2.floodFill(near, None, seed, _PAINTED, flags=8)
        self._fine = window(
            self.values, self.factor, (range(top, top + height), range(left, left + width))
        )
        self._corner = (top * self.factor, left * self.factor)
        self._lowest = threshold


def window(
    values: Float32[np.ndarray, "rows cols"], factor: int, cells: tuple[range, range]
) -> Float32[np.ndarray, "window_rows window_cols"]:
    """The sub-cells of some rows and columns of cells, bit for bit as `upsample` makes them."""
    # Turned over, so that the second and larger step copies whole lines.
    fine = values.astype(np.float64).T
    for axis in (1, 0):
        length, span = values.shape[1 - axis], cells[1 - axis]
        steps = np.arange(span.start * factor, span.stop * factor)
        centre = np.clip((steps + 0.5) / factor - 0.5, 0, length - 1)
        low = np.floor(centre).astype(np.int64)
        near = fine.take(low, axis=axis)
        fine = fine.take(np.minimum(low + 1, length - 1), axis=axis)
        fine -= near
        fine *= (centre - low).reshape((1, -1) if axis == 1 else (-1, 1))
        fine += near
    return fine.T.astype(np.float32, order="C")
