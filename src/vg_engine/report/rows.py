"""A line per name: bars with their spread, scores with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vg_engine.core.metrics import Estimate
from vg_engine.report.markup import Markup
from vg_engine.report.scales import Numbers


@dataclass(frozen=True)
class Row:
    """A contestant and its score.

    Attributes:
        label: its name.
        estimate: with its interval; NaN says n/a.
        control: drawn in grey.
        highlight: drawn in the accent colour.
        note: a few words, on hovering.
    """

    label: str
    estimate: Estimate
    control: bool = False
    highlight: bool = False
    note: str = ""


def bars(
    labels: Sequence[str],
    values: Numbers,
    *,
    title: str,
    x_label: str = "",
    errors: Numbers | None = None,
    highlight: Sequence[str] = (),
    decimals: int = 2,
    limit: float | None = None,
    width: int = 560,
) -> Markup:
    """Horizontal bars from 0, in the order given, each with its value.

    Args:
        labels: L14H24 and its like.
        values: not negative; one that is not finite says n/a.
        title: stands above, and is the alternative text.
        x_label: of the axis.
        errors: half the spread of each value, drawn as a whisker.
        highlight: labels in the accent colour, the others are grey; none: all are accented.
        decimals: of the values that are written.
        limit: where the axis ends (1 for shares); None: at the largest value.
        width: in CSS pixels; the height follows from the number of bars.

    Raises:
        InputError: lists of different lengths.
    """
    raise NotImplementedError


def dots_with_intervals(
    rows: Sequence[Row],
    *,
    title: str,
    x_label: str = "",
    low: float | None = None,
    high: float | None = None,
    reference: float | None = None,
    width: int = 640,
) -> Markup:
    """A forest plot: a dot per contestant, its 95 % interval as a line, the numbers beside it.

    Args:
        rows: in the order drawn.
        title: stands above, and is the alternative text.
        x_label: of the axis.
        low, high: ends of the axis; None: what the data needs.
        reference: a value with a vertical line of its own.
        width: in CSS pixels; the height follows from the number of rows.
    """
    raise NotImplementedError
