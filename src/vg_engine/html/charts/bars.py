"""A row per name: bars with their spread, and forest plots of scores with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat

from markupsafe import Markup

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.html.charts import svg
from vg_engine.html.charts.axes import tick_labels
from vg_engine.html.charts.scales import (
    Numbers,
    Scale,
    check_lengths,
    finite,
    floats,
    labelled_ticks,
    round_range,
    value_range,
    width_of,
)

_BAR: Final = 14.0
_STEP: Final = 26.0  # from one row to the next
_DOUBLE_STEP: Final = 42.0  # where a row has its name above
_TOP: Final = svg.TITLE + 2
_NAME: Final = 230.0  # pixels that a name may take
_SHARE: Final = 0.4  # of the width may go to names
_CAP: Final = 3.5  # half the height of a whisker's end


@dataclass(frozen=True)
class ForestRow:
    """A score in a forest plot.

    Attributes:
        label: name of the row.
        estimate: with its interval; NaN is written n/a.
        control: drawn in grey.
        highlight: drawn in the accent colour.
        note: a few words, on hovering.
        text: stands for the estimate's own.
    """

    label: str
    estimate: Estimate
    control: bool = False
    highlight: bool = False
    note: str = ""
    text: str = ""


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
    width: int = 390,
) -> Markup:
    """Horizontal bars from 0, in the order given, each with its value.

    Args:
        labels: L14H24 and its like.
        values: not negative; one that is not finite is written n/a.
        title: stands above, and is the alternative text.
        x_label: name of the axis.
        errors: half the spread of each value, drawn as a whisker.
        highlight: labels in the accent colour, the others are grey; none: all are accented.
        decimals: of the values that are written.
        limit: the end of the axis (1 for shares); None: at the largest value.
        width: in CSS pixels; the height follows from the number of bars.

    Raises:
        InputError: lists of different lengths, or a negative value.
    """
    lengths = floats(values)
    spreads = floats(errors) if errors is not None else [math.nan] * len(lengths)
    check_lengths("labels, values and errors", labels, lengths, spreads)
    if any(value < 0 for value in finite(lengths)):
        raise InputError("bars begin at 0; draw negative values as a forest plot")
    if not finite(lengths):
        return svg.no_data(title, width)
    tops = [v + (e if math.isfinite(e) else 0.0) for v, e in zip(lengths, spreads, strict=True)]
    end = float(limit) if limit is not None else round_range(0.0, max(finite(tops)) or 1.0)[1]
    texts = [f"{value:,.{decimals}f}" if math.isfinite(value) else "n/a" for value in lengths]
    left = _name_width(labels, width) + 10
    x = Scale(0.0, end, left, width - _widest(texts) - 10)
    parts = list(_axis(x, _TOP + _STEP * len(lengths), x_label, width))
    chosen = set(highlight)
    for i, (label, value, error) in enumerate(zip(labels, lengths, spreads, strict=True)):
        middle = _TOP + _STEP * (i + 0.5)
        stressed = label in chosen
        name = "strong" if stressed else "ink"
        parts.append(svg.text(label, 0.0, middle + 4, name, room=left - 10))
        after = left
        if math.isfinite(value):
            colour = "c0" if stressed or not chosen else "cm"
            place = x.start, middle - _BAR / 2, max(1.0, x(value) - x.start), _BAR
            tip = svg.element("title", f"{label}: {texts[i]}")
            parts.append(svg.rect(*place, f"f {colour}", tip, rx=2.0))
            after = x(value)
        if math.isfinite(value) and math.isfinite(error):
            ends = x(max(0.0, value - error)), x(value + error)
            parts += _whisker(*ends, middle)
            after = max(after, ends[1])
        parts.append(svg.text(texts[i], after + 7, middle + 4, "strong" if stressed else ""))
    height = _TOP + _STEP * len(lengths) + (44 if x_label else 26)
    return svg.chart(title, width, height, *parts, description=_description(labels, texts))


def _widest(texts: Sequence[str]) -> float:
    return max(width_of(text, strong=True) for text in texts)


def _name_width(labels: Sequence[str], width: int) -> float:
    return min(_NAME, width * _SHARE, _widest(labels))


def _description(labels: Sequence[str], texts: Sequence[str]) -> str:
    return ", ".join(f"{label} {text}" for label, text in zip(labels, texts, strict=True))


def _whisker(start: float, stop: float, middle: float) -> Iterator[Markup]:
    yield svg.line(start, middle, stop, middle, "s thin cq")
    for end in (start, stop):
        yield svg.line(end, middle - _CAP, end, middle + _CAP, "s thin cq")


def _axis(x: Scale, bottom: float, label: str, width: int) -> Iterator[Markup]:
    """The axis below the rows, with thin lines upwards."""
    room = x.stop - x.start
    marks = labelled_ticks(x.low, x.high, room, most=6)
    for mark, _ in marks:
        yield svg.line(x(mark), _TOP, x(mark), bottom, "axis" if mark == 0 else "grid")
    yield from tick_labels(marks, x, bottom, float(width))
    if label:
        yield svg.text(label, (x.start + x.stop) / 2, bottom + 37, "", "middle", room=room)


def forest(
    rows: Sequence[ForestRow],
    *,
    title: str,
    low: SupportsFloat | None = None,
    high: SupportsFloat | None = None,
    reference: SupportsFloat | None = None,
    width: int = 390,
) -> Markup:
    """A forest plot: per row its name, below it a dot, its 95 % interval as a line, the numbers.

    Args:
        rows: in the order drawn.
        title: stands above, and is the alternative text.
        low, high: ends of the axis, wider if a dot lies beyond; None: as the data needs.
        reference: a value with a vertical line of its own.
        width: in CSS pixels; the height follows from the number of rows.
    """
    estimates = [row.estimate for row in rows]
    dots = finite([each.value for each in estimates])
    if not dots:
        return svg.no_data(title, width)
    line = math.nan if reference is None else float(reference)
    known = [v for each in estimates for v in (each.value, each.low, each.high)]
    ends = round_range(*value_range(finite([*known, line])))
    # A dot beyond the ends would be drawn at a wrong place.
    x_range = (
        ends[0] if low is None else min(float(low), *dots),
        ends[1] if high is None else max(float(high), *dots),
    )
    labels, texts = [row.label for row in rows], [row.text or str(row.estimate) for row in rows]
    x = Scale(*value_range(x_range), 12.0, width - _widest(texts) - 16)
    bottom = _TOP + _DOUBLE_STEP * len(rows)
    parts = list(_axis(x, bottom, "", width))
    if math.isfinite(line):
        parts.append(svg.line(x(line), _TOP, x(line), bottom, "s thin dash cq"))
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        parts += _forest_row(row, text, x, _TOP + _DOUBLE_STEP * i, float(width))
    description = _description(labels, texts)
    return svg.chart(title, width, bottom + 26, *parts, description=description)


def _forest_row(row: ForestRow, text: str, x: Scale, top: float, width: float) -> Iterator[Markup]:
    colour = "c0" if row.highlight else "cm" if row.control else "cq"
    style = "strong" if row.highlight else "" if row.control else "ink"
    middle = top + _DOUBLE_STEP - 13
    yield svg.text(row.label, 0.0, top + 15, f"halo {style}".strip(), room=width)
    yield svg.text(text, width, middle + 4, style, "end")
    each = row.estimate
    if not math.isfinite(each.value):
        return
    if math.isfinite(each.low) and math.isfinite(each.high):
        yield svg.line(x(each.low), middle, x(each.high), middle, f"s {colour}")
    tip = ", ".join(filter(None, (f"{row.label}: {text}", row.note)))
    yield svg.dot(x(each.value), middle, 4.5, f"f ring {colour}", tip)
