from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from vg_engine.core.attention.maps import smooth
from vg_engine.core.readout.edge_level import blurred_edge, edge_level
from vg_engine.core.readout.regions import half_level


@pytest.mark.parametrize("side", [1.0, 2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_the_edge_of_a_smoothed_bar(side: float, sigma: float) -> None:
    """Against a bar that is drawn finely and smoothed by scipy."""
    fine = 200
    bar = np.zeros(60 * fine)
    half = round(side * fine / 2)
    bar[30 * fine - half : 30 * fine + half] = 1
    blurred = gaussian_filter1d(bar, sigma * fine, truncate=6)
    edge = (blurred[30 * fine + half - 1] + blurred[30 * fine + half]) / 2
    assert blurred_edge(side, sigma) == pytest.approx(edge / blurred.max(), abs=2e-3)


def test_without_smoothing_the_edge_stands_half_way() -> None:
    assert blurred_edge(3.0, 0.0) == 0.5


def square(side: float, *, grid: int = 16, fine: int = 20) -> np.ndarray:
    """A bright square of any side in the middle of a grid, averaged over cells and smoothed."""
    canvas = np.zeros((grid * fine, grid * fine))
    low, high = round((grid - side) * fine / 2), round((grid + side) * fine / 2)
    canvas[low:high, low:high] = 1
    cells = canvas.reshape(grid, fine, grid, fine).mean(axis=(1, 3))
    return smooth(cells.astype(np.float32)[None], 1.0, 7)[0]


@pytest.mark.parametrize("side", [2.0, 3.0, 4.0, 5.0, 6.0])
def test_small_and_large_squares_come_back_at_their_size(side: float) -> None:
    left, top, right, bottom = edge_level(square(side), trust=1.0).box
    assert math.sqrt((right - left) * (bottom - top)) == pytest.approx(side, abs=0.55)


def test_one_level_cannot_do_that() -> None:
    widths = [half_level(square(side), level=0.5).box for side in (2.0, 6.0)]
    small, large = (box[2] - box[0] for box in widths)
    assert small > 2.6
    assert large == pytest.approx(6.0, abs=0.3)


@pytest.mark.parametrize("values", [np.zeros((1, 1)), np.ones((4, 9)), np.eye(7)])
def test_maps_without_a_place_are_taken(values: np.ndarray) -> None:
    found = edge_level(values.astype(np.float32))
    left, top, right, bottom = found.box
    assert 0 <= left < right <= values.shape[1]
    assert 0 <= top < bottom <= values.shape[0]
