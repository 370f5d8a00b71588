"""Numbers as files keep them: 6 decimals, pixels 3; what is not known is None."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vg_engine.core.evaluation.intervals import Estimate, Paired

DIGITS = 6
_PIXELS = 3


def cut(share: float) -> float | None:
    """A share with 6 decimals, never larger than it is; NaN is None.

    >>> cut(0.4999999), cut(0.5), cut(math.nan)
    (0.499999, 0.5, None)
    """
    return None if math.isnan(share) else math.floor(share * 10**DIGITS) / 10**DIGITS


def rounded(value: float) -> float | None:
    """A number as files keep it; what is not finite is None."""
    return round(float(value), DIGITS) if math.isfinite(value) else None


def pixels(values: Sequence[float] | np.ndarray) -> list[float]:
    """Coordinates as files keep them."""
    return [round(float(value), _PIXELS) for value in values]


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """A number with its interval, 6 decimals; what is not known is None."""
    return {
        "value": rounded(estimate.value),
        "low": rounded(estimate.low),
        "high": rounded(estimate.high),
        "n": estimate.n,
    }


def paired_json(difference: Paired) -> dict[str, Any]:
    """A difference with its interval and p-value, 6 decimals."""
    return {
        "difference": rounded(difference.difference),
        "low": rounded(difference.low),
        "high": rounded(difference.high),
        "p": rounded(difference.p),
        "n": difference.n,
    }
