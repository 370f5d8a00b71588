"""Smoothing, combination and interpolation, against plain readings of their definitions."""

import math

import numpy as np
import pytest

from vg_engine.core.attention.maps import combine, normalise, smooth, upsample
from vg_engine.core.errors import InputError


def plain_smooth(values: np.ndarray, sigma: float, kernel: int) -> np.ndarray:
    """The double sum over the window, mirrored at the border, cell by cell."""
    rows, cols = values.shape
    reach = kernel // 2
    window = [math.exp(-(d * d) / (2 * sigma * sigma)) for d in range(-reach, reach + 1)]
    weights = [w / sum(window) for w in window]

    def mirrored(i: int, n: int) -> int:
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i

    result = np.zeros((rows, cols))
    for r in range(rows):
        for c in range(cols):
            for i, wi in enumerate(weights):
                for j, wj in enumerate(weights):
                    row, col = mirrored(r + i - reach, rows), mirrored(c + j - reach, cols)
                    result[r, c] += wi * wj * float(values[row, col])
    return result


def maps_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 4), (14, 14)])
@pytest.mark.parametrize(("sigma", "kernel"), [(1.0, 7), (0.4, 3), (1.8, 11)])
def test_smoothing_is_the_double_sum(shape: tuple[int, int], sigma: float, kernel: int) -> None:
    values = maps_of(*shape)
    smoothed = smooth(values, sigma, kernel)
    np.testing.assert_allclose(smoothed, plain_smooth(values, sigma, kernel), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (24, 24)])
def test_smoothing_neither_loses_nor_makes_mass(shape: tuple[int, int]) -> None:
    corner = np.zeros(shape, np.float32)
    corner[0, 0] = 1.0
    assert smooth(corner).sum(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
    constant = np.full(shape, 0.25, np.float32)
    np.testing.assert_allclose(smooth(constant), constant, atol=1e-7)


def test_no_sigma_or_a_kernel_of_one_changes_nothing() -> None:
    values = maps_of(2, 6, 5)
    for sigma, kernel in ((0.0, 7), (1.0, 1), (1e-300, 7)):
        np.testing.assert_array_equal(smooth(values, sigma, kernel), values)
    assert smooth(values, 0.0) is not values


def test_any_leading_axes() -> None:
    values = maps_of(2, 3, 6, 5)
    np.testing.assert_array_equal(smooth(values)[1, 2], smooth(values[1, 2]))
    assert smooth(values[:0]).shape == (0, 3, 6, 5)


def test_combination_is_the_sum_of_the_smoothed_maps() -> None:
    values = maps_of(3, 14, 11)
    expected = sum(plain_smooth(one, 1.0, 7) for one in values)
    np.testing.assert_allclose(combine(values), expected, atol=1e-6)
    np.testing.assert_allclose(combine(values, 0.0), values.sum(0), atol=1e-6)


@pytest.mark.parametrize("kernel", [0, 2, -3])
def test_a_kernel_that_has_no_middle_is_refused(kernel: int) -> None:
    with pytest.raises(InputError, match="odd"):
        smooth(maps_of(3, 3), 1.0, kernel)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_a_sigma_without_meaning_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        combine(maps_of(1, 3, 3), sigma)


def test_no_head_is_refused() -> None:
    with pytest.raises(InputError, match="head"):
        combine(maps_of(0, 3, 3))


def plain_bilinear(values: np.ndarray, x: float, y: float) -> float:
    """The map at (x, y) in grid units: cell centres at + .5, level beyond the outermost."""
    rows, cols = values.shape
    u, v = min(max(x - 0.5, 0.0), cols - 1.0), min(max(y - 0.5, 0.0), rows - 1.0)
    c, r = int(u), int(v)
    total = 0.0
    for row in (r, r + 1):
        for col in (c, c + 1):
            weight = max(0.0, 1 - abs(u - col)) * max(0.0, 1 - abs(v - row))
            if weight:
                total += weight * float(values[row, col])
    return total


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3, 16])
def test_upsampling_is_bilinear_between_cell_centres(shape: tuple[int, int], factor: int) -> None:
    values = maps_of(*shape)
    fine = upsample(values, factor)
    assert fine.shape == (shape[0] * factor, shape[1] * factor)
    for row in range(fine.shape[0]):
        for col in range(fine.shape[1]):
            expected = plain_bilinear(values, (col + 0.5) / factor, (row + 0.5) / factor)
            assert fine[row, col] == pytest.approx(expected, abs=1e-6)


def test_upsampling_by_one_changes_nothing_and_zero_is_refused() -> None:
    values = maps_of(4, 3)
    np.testing.assert_array_equal(upsample(values, 1), values)
    with pytest.raises(InputError, match="factor"):
        upsample(values, 0)


def test_normalised_maps_sum_to_one_or_are_empty() -> None:
    values = maps_of(3, 4, 5)
    values[1] = 0
    total = normalise(values).sum(axis=(1, 2))
    np.testing.assert_allclose(total, [1, 0, 1], atol=1e-12)
