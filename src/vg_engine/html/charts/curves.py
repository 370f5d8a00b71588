"""Curves: one or several lines with intervals and marks, and a sorted curve with its elbow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat

from markupsafe import Markup

from vg_engine.html.charts import svg
from vg_engine.html.charts.axes import Axes, make_axes
from vg_engine.html.charts.labels import LINE, Labels, points_along, spaced
from vg_engine.html.charts.scales import (
    Numbers,
    check_lengths,
    finite,
    floats,
    round_range,
    value_range,
    width_of,
)

_COLOURS: Final = 6
_END: Final = 0.36  # of the width may go to the names of lines
_SAMPLE, _KEY_LINE = 24.0, 20.0  # pixels of a line beside its name, and from one to the next


@dataclass(frozen=True, eq=False)
class Series:
    """One line.

    Attributes:
        name: written at its end if there are several lines.
        y: values; one that is not finite is a gap.
        x: ascending, as long as `y`; None counts from 0.
        low, high: an interval around `y`, shaded.
        muted: grey and dashed, for a control.
    """

    name: str
    y: Numbers
    x: Numbers | None = None
    low: Numbers | None = None
    high: Numbers | None = None
    muted: bool = False


@dataclass(frozen=True)
class Mark:
    """A point that is drawn and named."""

    x: float
    y: float
    label: str = ""


def line(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
    x_ticks: Sequence[str] | None = None,
    dots: bool = False,
    key: bool = False,
    width: int = 560,
    height: int = 300,
) -> Markup:
    """One or several lines, the first in the accent colour, each named at its end.

    Args:
        series: the lines; the name of a single one is not written.
        title: stands above, and is the alternative text.
        x_label, y_label: names of the axes.
        marks: points with a name.
        from_zero: the y axis begins at 0.
        x_ticks: names of x = 0, 1, 2 ... in place of numbers.
        dots: draw each value, too: for a few measured settings.
        key: name the lines above the field: for lines that meet at their ends.
        width, height: in CSS pixels.

    Raises:
        InputError: lists of different lengths.
    """
    muted = [one for one in series if one.muted]
    curves = [
        _Curve.of(one, i, later=one.muted and one is not muted[0]) for i, one in enumerate(series)
    ]
    drawn = [mark for mark in marks if math.isfinite(mark.x) and math.isfinite(mark.y)]
    across = [x for curve in curves for x in curve.used] + [mark.x for mark in drawn]
    heights = finite([y for curve in curves for y in curve.heights] + [mark.y for mark in drawn])
    if not any(curve.used for curve in curves):
        return svg.no_data(title, width)
    named = [curve for curve in curves if curve.used and curve.name and len(curves) > 1]
    room = max((width_of(curve.name, strong=True) for curve in named), default=0.0)
    room = min(_END * width, room)
    legend, above = _key(named, float(width)) if key else ([], 0.0)
    tall = max(float(height), LINE * len(named) + 110) + above
    x_range = value_range(across)
    if x_ticks is not None:  # named places stand a little off the ends
        edge = (x_range[1] - x_range[0]) * 0.04
        x_range = x_range[0] - edge, x_range[1] + edge
    axes = make_axes(
        x_range,
        round_range(*value_range([*heights, 0.0] if from_zero else heights)),
        width=float(width),
        height=tall,
        x_label=x_label,
        y_label=y_label,
        names=x_ticks,
        right=room + 18 if named and not key else 0.0,
        above=above,
        whole=all(x.is_integer() for x in across),
    )
    parts = [part for curve in reversed(curves) for part in curve.drawn(axes, dots=dots)]
    parts += _marks(axes, drawn, [point for curve in curves for point in curve.covered(axes)])
    parts += legend if key else _names(axes, named, room)
    return svg.chart(title, width, tall, *axes.parts, *parts, description=_description(curves))


@dataclass(frozen=True, eq=False)
class _Curve:
    """A series in plain floats."""

    name: str
    points: Sequence[tuple[float, float]]
    bounds: Sequence[tuple[float, float, float]]
    style: str
    dashes: str

    @classmethod
    def of(cls, series: Series, place: int, *, later: bool) -> _Curve:
        y = floats(series.y)
        x = floats(series.x) if series.x is not None else [float(i) for i in range(len(y))]
        low = floats(series.low) if series.low is not None else [math.nan] * len(y)
        high = floats(series.high) if series.high is not None else [math.nan] * len(y)
        check_lengths(f"x, y and bounds of {series.name!r}", x, y, low, high)
        return cls(
            series.name,
            list(zip(x, y, strict=True)),
            list(zip(x, low, high, strict=True)),
            "cm" if series.muted else f"c{place % _COLOURS}",
            " dotted" if later or place >= _COLOURS else " dash" if series.muted else "",
        )

    @property
    def used(self) -> list[float]:
        """Abscissas of what can be drawn."""
        return [x for run in _runs(self.points) for x, _ in run]

    @property
    def heights(self) -> list[float]:
        """Values, and bounds that can be drawn."""
        bounds = [b for run in _runs(self.bounds) for _, *pair in run for b in pair]
        return [y for _, y in self.points] + bounds

    def covered(self, axes: Axes) -> Iterator[tuple[float, float]]:
        """Pixels that the line runs through."""
        for run in _runs(self.points):
            places = [(axes.x(x), axes.y(y)) for x, y in run]
            yield from [*places, *points_along(places)]

    def drawn(self, axes: Axes, *, dots: bool) -> Iterator[Markup]:
        """The band, the line, the dots."""
        for run in _runs(self.bounds):
            upper = [(axes.x(x), axes.y(high)) for x, _, high in run]
            lower = [(axes.x(x), axes.y(low)) for x, low, _ in reversed(run)]
            yield svg.path([*upper, *lower], f"band {self.style}", closed=True)
        for run in _runs(self.points):
            places = [(axes.x(x), axes.y(y)) for x, y in run]
            if len(run) > 1:
                yield svg.path(places, f"s {self.style}{self.dashes}")
            if dots or len(run) == 1:
                for place, (x, y) in zip(places, run, strict=True):
                    tip = f"{self.name} {x:g}: {y:.4g}".strip()
                    yield svg.dot(*place, 4.0, f"f ring {self.style}", tip)


def _runs(points: Sequence[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _marks(
    axes: Axes, marks: Sequence[Mark], points: Sequence[tuple[float, float]]
) -> Iterator[Markup]:
    left, top, right, bottom = axes.area
    labels = Labels((left, top - 8, right, bottom), points)
    for mark in marks:
        x, y = axes.x(mark.x), axes.y(mark.y)
        yield svg.dot(x, y, 5.0, "f ring c0", mark.label)
        label = labels.beside(mark.label, x, y, "strong") if mark.label else None
        if label is not None:
            yield label


def _names(axes: Axes, curves: Sequence[_Curve], room: float) -> Iterator[Markup]:
    """Each line's name, beside its last value."""
    _, top, right, bottom = axes.area
    lasts = [_runs(curve.points)[-1][-1] for curve in curves]
    wanted = [axes.y(y) for _, y in lasts]
    placed = spaced(wanted, LINE, top, bottom)
    for curve, (x, _), y, place in zip(curves, lasts, wanted, placed, strict=True):
        if abs(place - y) > LINE / 4:
            yield svg.line(axes.x(x) + 6, y, right + 13, place, f"s thin {curve.style}")
        yield svg.text(curve.name, right + 16, place + 4, f"named {curve.style}", room=room)


def _key(curves: Sequence[_Curve], width: float) -> tuple[list[Markup], float]:
    """The lines' names below the title, each behind a piece of its line; and their height."""
    parts, x, y = [], 0.0, svg.TITLE + 6
    for curve in curves:
        wide = _SAMPLE + 8 + width_of(curve.name)
        if x and x + wide > width:
            x, y = 0.0, y + _KEY_LINE
        parts.append(svg.line(x, y - 4, x + _SAMPLE, y - 4, f"s {curve.style}{curve.dashes}"))
        parts.append(svg.text(curve.name, x + _SAMPLE + 8, y, "ink", room=width - _SAMPLE - 8))
        x += wide + 18
    return parts, y - svg.TITLE + 12 if curves else 0.0


def _description(curves: Sequence[_Curve]) -> str:
    """The ends of each line, for those who do not see the chart."""
    ends = []
    for curve in curves:
        if runs := _runs(curve.points):
            first, last = runs[0][0][1], runs[-1][-1][1]
            ends.append(f"{curve.name} from {first:.3g} to {last:.3g}".strip())
    return "; ".join(ends)


def elbow(
    values: Numbers, *, index: int, threshold: SupportsFloat, title: str, y_label: str
) -> Markup:
    """A curve sorted ascending, with its chord, the elbow, tau, and how many values are kept.

    Args:
        values: of the heads, in any order.
        index, threshold: as `core.criteria.elbow` found them; 0 keeps everything.
        title: stands above, and is the alternative text.
        y_label: name of the axis.
    """
    curve, tau, width, height = sorted(finite(floats(values))), float(threshold), 390.0, 300.0
    if not curve or not math.isfinite(tau):
        return svg.no_data(title, width)
    axes = make_axes(
        value_range([0.0, float(len(curve) - 1)]),
        round_range(*value_range([*curve, 0.0])),
        width=width,
        height=height,
        x_label="heads, sorted",
        y_label=y_label,
        whole=True,
    )
    left, top, right, bottom = axes.area
    places = [(axes.x(float(i)), axes.y(v)) for i, v in enumerate(curve)]
    kept = f"{sum(value >= tau for value in curve):,} of {len(curve):,} heads reach τ"
    found = f"elbow: τ = {tau:.3g}" if index else "no elbow: all heads are kept"
    x, y = axes.x(float(index)), axes.y(tau)
    (x0, y0), (x1, y1) = chord = places[0], places[-1]
    drop = (x, y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y0), (x, y)
    lines = [((left, y), (right, y)), chord, drop] if index else []
    covered = [p for pair in (*itertools.pairwise(places), *lines) for p in points_along(pair)]
    labels = Labels(axes.area, [*places, *covered], reach=120.0)
    band = [(x, top), (right, top), (right, bottom), (x, bottom)]
    parts = [
        svg.path(band, "band c0", closed=True),
        svg.line(left, y, right, y, "s thin dash c0"),
        svg.line(*chord[0], *chord[1], "s thin dash cq") if index else None,
        svg.line(*drop[0], *drop[1], "s thin cq") if index else None,
        svg.path(places, "s c0") if len(curve) > 1 else None,
        svg.dot(x, y, 5.0, "f ring c0", found),
        _kept(labels, kept, x) if index else None,
        labels.beside(found, x, y, "strong"),
        labels.beside("chord", (x0 + x1) / 2, (y0 + y1) / 2, "") if index else None,
    ]
    description = f"{found}, {kept}"
    return svg.chart(title, width, height, *axes.parts, *parts, description=description)


def _kept(labels: Labels, text: str, edge: float) -> Markup:
    """The number of values right of the elbow: above them if there is room, else before them."""
    left, top, right, _ = labels.area
    size = width_of(text)
    if right - edge >= size + 16:
        return labels.below(text, (edge + right - size) / 2, top + 6)
    text = f"{text} →"
    return labels.below(text, max(left, edge - width_of(text) - 6), top + 6)
