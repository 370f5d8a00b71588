"""Lines: one or several series, with intervals, marks and chords."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat

from vg_engine.report.frame import (
    Axes,
    Labels,
    along,
    apart,
    axes,
    dot,
    drawing,
    fitted,
    nothing,
    path,
    rule,
    words,
)
from vg_engine.report.markup import Markup
from vg_engine.report.scales import (
    Numbers,
    covering,
    finite,
    floats,
    same_length,
    spread,
    width_of,
)

_COLOURS: Final = 6
_END: Final = 0.36  # of the width may go to the names of lines
_LINE = 15.0


@dataclass(frozen=True, eq=False)
class Series:
    """One line.

    Attributes:
        name: written at its end where there are several lines.
        y: values; a gap where one is not finite.
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

    x: SupportsFloat
    y: SupportsFloat
    label: str = ""

    @property
    def at(self) -> tuple[float, float]:
        """(x, y), in the units of the axes."""
        return float(self.x), float(self.y)


def line(
    series: Series | Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    marks: Sequence[Mark] = (),
    segments: Sequence[tuple[Mark, Mark]] = (),
    from_zero: bool = False,
    x_ticks: Sequence[str] | None = None,
    dots: bool = False,
    width: int = 560,
    height: int = 300,
) -> Markup:
    """One or several lines, the first in the accent colour, each named at its end.

    Args:
        series: what is drawn; of a single one the name is not written.
        title: stands above, and is the alternative text.
        x_label, y_label: of the axes.
        marks: points with a name.
        segments: straight dashed lines between two points (a chord); the first one's label is
            written along it.
        from_zero: the y axis begins at 0.
        x_ticks: names of x = 0, 1, 2 ... in place of numbers.
        dots: draw each value, too: for a few measured settings.
        width, height: in CSS pixels.

    Raises:
        InputError: lists of different lengths.
    """
    curves = [_Curve.of(one, i) for i, one in enumerate(_several(series))]
    extra = [*marks, *(mark for pair in segments for mark in pair)]
    extra = [mark for mark in extra if all(map(math.isfinite, mark.at))]
    across = finite([x for curve in curves for x in curve.used] + [mark.at[0] for mark in extra])
    heights = finite(
        [y for curve in curves for y in curve.heights] + [mark.at[1] for mark in extra]
    )
    if not any(curve.used for curve in curves) or not across or not heights:
        return nothing(title, width)
    named = [curve for curve in curves if curve.used and curve.name and len(curves) > 1]
    room = min(
        _END * width, max((width_of(curve.name, strong=True) for curve in named), default=0.0)
    )
    tall = max(float(height), _LINE * len(named) + 110)
    y_range = spread([*heights, 0.0] if from_zero else heights)
    frame = axes(
        _padded(spread(across)) if x_ticks is not None else spread(across),
        covering(*y_range),
        width=float(width),
        height=tall,
        x_label=x_label,
        y_label=y_label,
        names=x_ticks,
        right=room + 18 if named else 0.0,
        whole=all(x.is_integer() for x in across),
    )
    drawn = [part for curve in reversed(curves) for part in curve.drawn(frame, dots=dots)]
    drawn += [part for pair in segments for part in _segment(frame, *pair)]
    drawn += _marks(frame, marks, [point for curve in curves for point in curve.covered(frame)])
    drawn += _ends(frame, named, room)
    return drawing(title, width, tall, *frame.parts, *drawn, says=_told(curves))


def _several(series: Series | Sequence[Series]) -> Sequence[Series]:
    return [series] if isinstance(series, Series) else series


def _padded(ends: tuple[float, float]) -> tuple[float, float]:
    """Named places stand a little off the ends."""
    room = (ends[1] - ends[0]) * 0.04
    return ends[0] - room, ends[1] + room


@dataclass(frozen=True, eq=False)
class _Curve:
    """A series in plain floats."""

    name: str
    points: Sequence[tuple[float, float]]
    bounds: Sequence[tuple[float, float, float]]
    colour: str
    again: bool

    @classmethod
    def of(cls, series: Series, place: int) -> _Curve:
        y = floats(series.y)
        x = floats(series.x) if series.x is not None else [float(i) for i in range(len(y))]
        low = floats(series.low) if series.low is not None else [math.nan] * len(y)
        high = floats(series.high) if series.high is not None else [math.nan] * len(y)
        same_length(f"x, y and bounds of {series.name!r}", x, y, low, high)
        colour = "cm" if series.muted else f"c{place % _COLOURS}"
        return cls(
            series.name,
            list(zip(x, y, strict=True)),
            list(zip(x, low, high, strict=True)),
            colour,
            place >= _COLOURS,
        )

    @property
    def used(self) -> list[float]:
        """Abscissas of what can be drawn."""
        return [x for x, y in self.points if math.isfinite(x) and math.isfinite(y)]

    @property
    def heights(self) -> list[float]:
        """Values, and bounds that can be drawn."""
        return [y for _, y in self.points] + [
            b for run in _runs(self.bounds) for p in run for b in p[1:]
        ]

    def covered(self, frame: Axes) -> Iterator[tuple[float, float]]:
        """Pixels that the line runs through."""
        for run in _runs(self.points):
            places = [(frame.x(x), frame.y(y)) for x, y in run]
            yield from [*places, *along(places)]

    def drawn(self, frame: Axes, *, dots: bool) -> Iterator[Markup]:
        """The band, the line, the dots."""
        for run in _runs(self.bounds):
            upper = [(frame.x(x), frame.y(high)) for x, _, high in run]
            lower = [(frame.x(x), frame.y(low)) for x, low, _ in reversed(run)]
            yield path([*upper, *lower], f"band {self.colour}", closed=True)
        muted = " dash" if self.colour == "cm" else " dotted" if self.again else ""
        for run in _runs(self.points):
            places = [(frame.x(x), frame.y(y)) for x, y in run]
            if len(run) > 1:
                yield path(places, f"s {self.colour}{muted}")
            if dots or len(run) == 1:
                for (across, down), (x, y) in zip(places, run, strict=True):
                    tip = f"{self.name} {x:g}: {y:.4g}".strip()
                    yield dot(across, down, 4.0, f"f ring {self.colour}", tip)


def _runs(points: Sequence[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _segment(frame: Axes, start: Mark, stop: Mark) -> Iterator[Markup]:
    ends = frame.x(start.at[0]), frame.y(start.at[1]), frame.x(stop.at[0]), frame.y(stop.at[1])
    yield rule(*ends, "s thin dash cq")
    if start.label:
        middle = (ends[0] + ends[2]) / 2, (ends[1] + ends[3]) / 2
        yield words(start.label, middle[0] - 8, middle[1] - 8, "halo", "end")


def _marks(
    frame: Axes, marks: Sequence[Mark], points: Sequence[tuple[float, float]]
) -> Iterator[Markup]:
    labels = Labels(frame.left, frame.top - 8, frame.right, frame.bottom, points)
    for mark in marks:
        if not all(map(math.isfinite, mark.at)):
            continue
        x, y = frame.x(mark.at[0]), frame.y(mark.at[1])
        yield dot(x, y, 5.0, "f ring c0", mark.label)
        label = labels.put(mark.label, x, y, "strong") if mark.label else None
        if label is not None:
            yield label


def _ends(frame: Axes, curves: Sequence[_Curve], room: float) -> Iterator[Markup]:
    """Each line's name, beside its last value."""
    lasts = [_runs(curve.points)[-1][-1] for curve in curves]
    wanted = [frame.y(y) for _, y in lasts]
    placed = apart(wanted, _LINE, frame.top, frame.bottom)
    for curve, (x, _), y, place in zip(curves, lasts, wanted, placed, strict=True):
        if abs(place - y) > _LINE / 4:
            yield rule(frame.x(x) + 6, y, frame.right + 13, place, f"s thin {curve.colour}")
        yield fitted(curve.name, room, frame.right + 16, place + 4, f"named {curve.colour}")


def _told(curves: Sequence[_Curve]) -> str:
    """What a reader hears: each line's ends."""
    told = []
    for curve in curves:
        runs = _runs(curve.points)
        if runs:
            first, last = runs[0][0][1], runs[-1][-1][1]
            told.append(f"{curve.name} from {first:.3g} to {last:.3g}".strip())
    return "; ".join(told)
