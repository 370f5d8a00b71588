"""Smoothing, combination and interpolation, against plain readings of their definitions."""

import math

import numpy as np
import pytest

from vg_engine.core.attention.maps import combine, normalise, smooth, upsample
from vg_engine.core.errors import InputError


def plain_smooth(values: np.ndarray, sigma: float, kernel: int) -> np.ndarray:
    """The double sum over the window, mirrored at the border, cell by cell."""
    reach = kernel // 2
    window = [math.exp(-(d * d) / (2 * sigma * sigma)) for d in range(-reach, reach + 1)]
    weights = np.outer(window, window) / sum(window) ** 2
    # As many mirror images side by side as the window needs.
    images = np.pad(values.astype(float), reach, mode="symmetric")
    result = np.zeros(values.shape)
    for r, c in np.ndindex(values.shape):
        result[r, c] = (weights * images[r : r + kernel, c : c + kernel]).sum()
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


@pytest.mark.parametrize(
    ("sigma", "kernel", "says"),
    [(1.0, k, "odd") for k in (0, 2, -3)] + [(s, 7, "sigma") for s in (-1.0, math.nan, math.inf)],
)
def test_settings_without_meaning_are_refused(sigma: float, kernel: int, says: str) -> None:
    for refuse in (smooth, combine):
        with pytest.raises(InputError, match=says):
            refuse(maps_of(1, 3, 3), sigma, kernel)


def test_no_head_is_refused() -> None:
    with pytest.raises(InputError, match="head"):
        combine(maps_of(0, 3, 3))


def plain_bilinear(values: np.ndarray, x: float, y: float) -> float:
    """The map at (x, y) in grid units: cell centres at + .5, level beyond the outermost."""
    rows, cols = values.shape
    u, v = min(max(x - 0.5, 0.0), cols - 1.0), min(max(y - 0.5, 0.0), rows - 1.0)
    return sum(
        max(0.0, 1 - abs(u - col)) * max(0.0, 1 - abs(v - row)) * float(values[row, col])
        for row, col in np.ndindex(values.shape)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3, 16])
def test_upsampling_is_bilinear_between_cell_centres(shape: tuple[int, int], factor: int) -> None:
    values = maps_of(*shape)
    fine = upsample(values, factor)
    assert fine.shape == (shape[0] * factor, shape[1] * factor)
    for row, col in np.ndindex(fine.shape):
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
