"""A line per name: bars with their spread, scores with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import Estimate
from vg_engine.report.frame import TITLE, dot, drawing, fitted, nothing, rule, shape, under, words
from vg_engine.report.markup import Markup, tag
from vg_engine.report.scales import (
    Numbers,
    Scale,
    covering,
    finite,
    fitting,
    floats,
    same_length,
    spread,
    width_of,
)

_BAR: Final = 14.0
_STEP: Final = 26.0  # from one row to the next
_NAME: Final = 230.0  # pixels that a name may take
_SHARE: Final = 0.4  # of the width may go to names
_CAP: Final = 3.5  # half the height of a whisker's end


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
    limit: SupportsFloat | None = None,
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
    lengths = floats(values)
    spreads = floats(errors) if errors is not None else [math.nan] * len(lengths)
    same_length("labels, values and errors", labels, lengths, spreads)
    if any(value < 0 for value in finite(lengths)):
        raise InputError("bars begin at 0; draw negative values with dots_with_intervals")
    if not finite(lengths):
        return nothing(title, width)
    tops = [v + (e if math.isfinite(e) else 0.0) for v, e in zip(lengths, spreads, strict=True)]
    end = float(limit) if limit is not None else covering(0.0, max(finite(tops)) or 1.0)[1]
    texts = [f"{value:,.{decimals}f}" if math.isfinite(value) else "n/a" for value in lengths]
    left = min(_NAME, width * _SHARE, max(width_of(label, strong=True) for label in labels)) + 10
    x = Scale(0.0, end, left, width - max(width_of(text, strong=True) for text in texts) - 10)
    top = TITLE + 2
    bottom = top + _STEP * len(lengths)
    parts = list(_ground(x, top, bottom, x_label, float(width)))
    chosen = set(highlight)
    for i, (label, value, error) in enumerate(zip(labels, lengths, spreads, strict=True)):
        middle = top + _STEP * (i + 0.5)
        stressed = label in chosen
        colour = "c0" if stressed or not chosen else "cm"
        parts.append(fitted(label, left - 10, 0.0, middle + 4, "strong" if stressed else "ink"))
        after = left
        if math.isfinite(value):
            parts.append(_bar(x, value, middle, colour, f"{label}: {texts[i]}"))
            after = x(value)
        if math.isfinite(value) and math.isfinite(error):
            ends = x(max(0.0, value - error)), x(value + error)
            parts += _whisker(*ends, middle, "s thin cq")
            after = max(after, ends[1])
        parts.append(words(texts[i], after + 7, middle + 4, "strong" if stressed else ""))
    says = ", ".join(f"{label} {text}" for label, text in zip(labels, texts, strict=True))
    return drawing(title, width, bottom + (44 if x_label else 26), *parts, says=says)


def _bar(x: Scale, value: float, middle: float, colour: str, tip: str) -> Markup:
    return shape(
        "rect",
        tag("title", tip),
        x=x.start,
        y=middle - _BAR / 2,
        width=max(1.0, x(value) - x.start),
        height=_BAR,
        rx=2.0,
        class_=f"f {colour}",
    )


def _whisker(start: float, stop: float, middle: float, class_: str) -> Iterator[Markup]:
    yield rule(start, middle, stop, middle, class_)
    for end in (start, stop):
        yield rule(end, middle - _CAP, end, middle + _CAP, class_)


def _ground(x: Scale, top: float, bottom: float, label: str, width: float) -> Iterator[Markup]:
    """The axis below, with thin lines upwards."""
    room = x.stop - x.start
    marks = fitting(x.low, x.high, room, most=6)
    for mark, _ in marks:
        yield rule(x(mark), top, x(mark), bottom, "axis" if mark == 0 else "grid")
    yield from under(marks, x, bottom, width)
    if label:
        yield fitted(label, room, (x.start + x.stop) / 2, bottom + 37, "", "middle")


def dots_with_intervals(
    rows: Sequence[Row],
    *,
    title: str,
    x_label: str = "",
    low: SupportsFloat | None = None,
    high: SupportsFloat | None = None,
    reference: SupportsFloat | None = None,
    width: int = 760,
) -> Markup:
    """A forest plot: a dot per contestant, its 95 % interval as a line, the numbers beside it.

    Args:
        rows: in the order drawn.
        title: stands above, and is the alternative text.
        x_label: of the axis.
        low, high: ends of the axis, wider if a dot lies beyond; None: what the data needs.
        reference: a value with a vertical line of its own.
        width: in CSS pixels; the height follows from the number of rows.
    """
    estimates = [row.estimate for row in rows]
    known = finite([v for each in estimates for v in (each.value, each.low, each.high)])
    if not finite([each.value for each in estimates]):
        return nothing(title, width)
    line = math.nan if reference is None else float(reference)
    ends = covering(*spread([*known, *finite([line])]))
    # A dot beyond the ends would be drawn where it is not.
    within = finite([each.value for each in estimates])
    x_range = (
        ends[0] if low is None else min(float(low), *within),
        ends[1] if high is None else max(float(high), *within),
    )
    texts = [str(each) for each in estimates]
    left = min(_NAME, width * _SHARE, max(width_of(row.label, strong=True) for row in rows)) + 16
    x = Scale(
        *spread(x_range), left, width - max(width_of(text, strong=True) for text in texts) - 16
    )
    top = TITLE + 2
    bottom = top + _STEP * len(rows)
    parts = list(_ground(x, top, bottom, x_label, float(width)))
    if math.isfinite(line):
        parts.append(rule(x(line), top, x(line), bottom, "s thin dash cq"))
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        parts += _contestant(row, text, x, top + _STEP * (i + 0.5), float(width))
    says = ", ".join(f"{row.label} {text}" for row, text in zip(rows, texts, strict=True))
    return drawing(title, width, bottom + (44 if x_label else 26), *parts, says=says)


def _contestant(row: Row, text: str, x: Scale, middle: float, width: float) -> Iterator[Markup]:
    colour = "c0" if row.highlight else "cm" if row.control else "cq"
    style = "strong" if row.highlight else "" if row.control else "ink"
    yield fitted(row.label, x.start - 16, 0.0, middle + 4, style)
    yield words(text, width, middle + 4, style, "end")
    each = row.estimate
    if not math.isfinite(each.value):
        return
    if math.isfinite(each.low) and math.isfinite(each.high):
        yield rule(x(each.low), middle, x(each.high), middle, f"s {colour}")
    tip = ", ".join(filter(None, (f"{row.label}: {text}", row.note)))
    yield dot(x(each.value), middle, 4.5, f"f ring {colour}", tip)
