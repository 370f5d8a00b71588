"""Maps on the token grid: smoothing, combination, interpolation (paper, section 3).

Every function is pure and works on the last two axes, rows x columns. Sums run in float64.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from scipy import ndimage

from vg_engine.core.errors import InputError


def smooth(
    maps: Float32[np.ndarray, "*heads rows cols"], sigma: float = 1.0, kernel: int = 7
) -> Float32[np.ndarray, "*heads rows cols"]:
    """Gaussian smoothing of each map (paper, section 3: sigma 1.0, kernel 7 x 7).

    Beyond its border a map is mirrored with its outermost cells repeated (b a | a b c), so that
    its sum does not change. Grids smaller than the kernel are mirrored as often as needed. A sigma
    of 0 or a kernel of 1 changes nothing.

    Args:
        maps: float32, any leading axes.
        sigma: standard deviation in cells.
        kernel: side of the square window in cells, odd.

    Raises:
        InputError: the kernel is even, or the sigma negative.
    """
    return _smoothed(maps.astype(np.float64), sigma, kernel).astype(np.float32)


def combine(
    maps: Float32[np.ndarray, "heads rows cols"], sigma: float = 1.0, kernel: int = 7
) -> Float32[np.ndarray, "rows cols"]:
    """Sum the smoothed maps of several heads (paper, section 3).

    Smoothing is linear, so the sum is smoothed once; that equals smoothing each map.

    Raises:
        InputError: there is no head, the kernel is even, or the sigma negative.
    """
    if not len(maps):
        raise InputError("no head's map to combine; name at least one head")
    total = maps.sum(axis=0, dtype=np.float64)
    return _smoothed(total, sigma, kernel).astype(np.float32)


def _smoothed(
    values: Float64[np.ndarray, "*heads rows cols"], sigma: float, kernel: int
) -> Float64[np.ndarray, "*heads rows cols"]:
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"the smoothing kernel must be odd and positive, got {kernel}; try 7")
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InputError(f"the smoothing sigma must be finite and not negative, got {sigma}")
    return ndimage.gaussian_filter(values, sigma, mode="reflect", radius=kernel // 2, axes=(-2, -1))


def upsample(
    values: Float32[np.ndarray, "rows cols"], factor: int
) -> Float32[np.ndarray, "fine_rows fine_cols"]:
    """Interpolate bilinearly to `factor` sub-cells per cell and axis, with half-pixel centres.

    Sub-cell i lies at (i + 0.5) / factor in grid units, cell c at c + 0.5; beyond the outermost
    centres the map stays level.

    Raises:
        InputError: the factor is below 1.
    """
    if factor < 1:
        raise InputError(f"the factor must be at least 1, got {factor}")
    rows, cols = values.shape
    # In float64 the weights of factors 2, 4, 8 and 16 are exact: mirrored maps stay mirrored.
    fine = cv2.resize(
        values.astype(np.float64), (cols * factor, rows * factor), interpolation=cv2.INTER_LINEAR
    )
    return fine.astype(np.float32)


def normalise(
    maps: Float32[np.ndarray, "*heads rows cols"],
) -> Float64[np.ndarray, "*heads rows cols"]:
    """Divide each map by its sum, in float64; a map without mass stays 0."""
    wide = maps.astype(np.float64)
    total = wide.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(np.divide(wide, total, out=np.zeros_like(wide), where=total > 0))
