"""Values as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from vg_engine.core.evaluation.intervals import Estimate, Paired
from vg_engine.core.heads import Head

_TINY, _LARGE = 5e-4, 1e4  # three decimals would show nothing, or too much


class Cell(NamedTuple):
    """A value as plain text.

    Attributes:
        text: the value.
        small: shown smaller beside it: an interval, a few words.
        stacked: `small` has a line of its own.
        muted: `text` is smaller and grey, too.
    """

    text: str
    small: str = ""
    stacked: bool = False
    muted: bool = False


NOT_KNOWN = Cell("n/a", muted=True)


def cell(value: object) -> Cell:
    """Any value as it is shown.

    Estimates as `0.853 [0.826, 0.879]`, floats with three decimals, large whole numbers with
    commas, NaN and None as `n/a`, lists with commas, everything else as its text.

    >>> cell(12345).text, cell(0.5).text, cell(["L14H24", "L14H13"]).text
    ('12,345', '0.500', 'L14H24, L14H13')
    """
    if isinstance(value, Cell):
        return value
    number = value.value if isinstance(value, Estimate) else value
    if number is None or (isinstance(number, Real) and math.isnan(number)):
        return NOT_KNOWN
    if isinstance(value, Estimate):
        text, _, interval = str(value).partition(" ")
        return Cell(text, interval)
    if isinstance(value, list | tuple) and not isinstance(value, Head):
        return Cell(", ".join(cell(each).text for each in value))
    return Cell(_number(value) if isinstance(value, Real) else str(value))


def _number(value: Real) -> str:
    if isinstance(value, Integral):
        return f"{int(value):,}" if abs(int(value)) >= _LARGE else str(int(value))
    number = float(value)
    if number and abs(number) < _TINY:
        return f"{number:.1e}"
    return f"{number:,.3f}" if abs(number) < _LARGE else f"{number:,.1f}"


def estimate_cell(estimate: Estimate, *, muted: bool = False) -> Cell:
    """A number above its interval, for tables of many columns."""
    shown = cell(estimate)
    return shown._replace(stacked=True, muted=muted or shown.muted)


def paired_cells(paired: Paired) -> tuple[Cell, Cell]:
    """A difference above its interval, and its p-value."""
    if math.isnan(paired.difference):
        return NOT_KNOWN, NOT_KNOWN
    value, _, p = str(paired).replace("-", "−").partition(", p = ")
    difference, _, interval = value.partition(" ")
    return Cell(difference, interval, stacked=True), Cell(
        f"{paired.p:.3f}" if paired.p >= _TINY else p
    )


def model_name(settings: Mapping[str, Any]) -> str:
    """The name of a model in a title: its known name, else the last part of its own."""
    return str(settings.get("entry") or str(settings["model"]).rstrip("/").rpartition("/")[2])


def stated(settings: Mapping[str, Any], *keys: str) -> dict[str, object]:
    """Settings by their names in words."""
    return {key.replace("_", " "): settings[key] for key in keys}
