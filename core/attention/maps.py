"""Maps on the token grid: smoothing, combination, interpolation (paper, section 3).

Every function is pure and works on the last two axes, rows x columns. Sums run in float64.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from vg_engine.core.errors import InputError


def gaussian_kernel(sigma: float, kernel: int) -> Float64[np.ndarray, " kernel"]:
    """Weights of a sampled Gaussian over `kernel` cells, summing to 1.

    A sigma of 0 gives the identity.

    Raises:
        InputError: `kernel` is not odd and positive, or `sigma` is negative or not finite.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"the smoothing kernel must be odd and positive, got {kernel}; try 7")
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InputError(f"the smoothing sigma must be finite and not negative, got {sigma}")
    steps = np.arange(kernel, dtype=np.float64) - kernel // 2
    if sigma == 0:
        return np.asarray(steps == 0, dtype=np.float64)
    # Below a sigma of about .04 the square overflows to inf and exp(-inf) is the 0 it should be.
    with np.errstate(over="ignore"):
        weights = np.exp(-0.5 * np.square(steps / sigma))
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def smooth(
    maps: Float32[np.ndarray, "*heads rows cols"], sigma: float = 1.0, kernel: int = 7
) -> Float32[np.ndarray, "*heads rows cols"]:
    """Gaussian smoothing of each map (paper, section 3: sigma 1.0, kernel 7 x 7).

    Beyond its border a map is mirrored with its outermost cells repeated (b a | a b c), so that
    no mass is lost or made: the sum of a map stays what it was. Grids smaller than the kernel are
    mirrored as often as needed. A sigma of 0 or a kernel of 1 changes nothing.

    Args:
        maps: float32, any leading axes.
        sigma: standard deviation in cells.
        kernel: side of the square window in cells, odd.

    Raises:
        InputError: an even kernel, a negative sigma.
    """
    weights = gaussian_kernel(sigma, kernel)
    if kernel == 1 or sigma == 0:
        return maps.copy()
    return _smoothed(maps.astype(np.float64), weights).astype(np.float32)


def combine(
    maps: Float32[np.ndarray, "heads rows cols"], sigma: float = 1.0, kernel: int = 7
) -> Float32[np.ndarray, "rows cols"]:
    """The sum of the smoothed maps of several heads (paper, section 3).

    Smoothing is linear, so the sum is smoothed once; that equals smoothing each map.

    Raises:
        InputError: no head, an even kernel, a negative sigma.
    """
    if not len(maps):
        raise InputError("no head's map to combine; name at least one head")
    weights = gaussian_kernel(sigma, kernel)
    total = maps.sum(axis=0, dtype=np.float64)
    if kernel > 1 and sigma > 0:
        total = _smoothed(total, weights)
    return np.asarray(total, dtype=np.float32)


def _smoothed(
    values: Float64[np.ndarray, "*heads rows cols"], weights: Float64[np.ndarray, " kernel"]
) -> Float64[np.ndarray, "*heads rows cols"]:
    reach = len(weights) // 2
    for axis in (values.ndim - 2, values.ndim - 1):
        length = values.shape[axis]
        border = [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)]
        padded = np.pad(values, border, mode="symmetric")
        window = [slice(None)] * values.ndim
        values = np.zeros_like(values)
        for step, weight in enumerate(weights):
            window[axis] = slice(step, step + length)
            values += weight * padded[tuple(window)]
    return values


def upsample(
    values: Float32[np.ndarray, "rows cols"], factor: int
) -> Float32[np.ndarray, "fine_rows fine_cols"]:
    """Bilinear interpolation to `factor` sub-cells per cell and axis, half-pixel centres.

    Sub-cell i lies at (i + 0.5) / factor in grid units, cell c at c + 0.5; beyond the outermost
    centres the map stays level.

    Raises:
        InputError: a factor below 1.
    """
    if factor < 1:
        raise InputError(f"the factor must be at least 1, got {factor}")
    fine = values.astype(np.float64)
    for axis in (0, 1):
        low, high, share = _neighbours(values.shape[axis], factor)
        share = share.reshape((-1, 1) if axis == 0 else (1, -1))
        near, far = np.take(fine, low, axis=axis), np.take(fine, high, axis=axis)
        fine = near + share * (far - near)
    return fine.astype(np.float32)


def _neighbours(
    cells: int, factor: int
) -> tuple[np.ndarray, np.ndarray, Float64[np.ndarray, " fine"]]:
    centre = np.clip((np.arange(cells * factor) + 0.5) / factor - 0.5, 0, cells - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), centre - low


def normalise(
    maps: Float32[np.ndarray, "*heads rows cols"],
) -> Float64[np.ndarray, "*heads rows cols"]:
    """Each map divided by its sum, float64; a map without mass stays 0."""
    wide = maps.astype(np.float64)
    total = wide.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(np.divide(wide, total, out=np.zeros_like(wide), where=total > 0))
