"""Two axes with their ticks, labels and grid lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vg_engine.html.charts import svg
from vg_engine.html.charts.scales import Scale, labelled_ticks, shorten, tick_texts, ticks, width_of

_BETWEEN = 10.0  # pixels between two tick labels


@dataclass(frozen=True)
class Axes:
    """Two scales, and the elements of their axes."""

    x: Scale
    y: Scale
    parts: tuple[Markup, ...]

    @property
    def area(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the field between the axes, in pixels."""
        return self.x.start, self.y.stop, self.x.stop, self.y.start


def make_axes(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    width: float,
    height: float,
    x_label: str = "",
    y_label: str = "",
    names: Sequence[str] | None = None,
    right: float = 0.0,
    above: float = 0.0,
    upright: bool = False,
    whole: bool = False,
) -> Axes:
    """The axes of a chart of numbers.

    Args:
        x_range, y_range: values at the ends.
        width, height: of the whole chart, in pixels.
        x_label, y_label: names of the axes.
        names: of x = 0, 1, 2 ... in place of numbers.
        right, above: pixels kept free beside and above the field.
        upright: grid lines for x, too.
        whole: x counts something: no fractions.
    """
    down = ticks(*y_range)
    down_texts = tick_texts(down)
    left = max(map(width_of, down_texts), default=0.0) + 10
    across = (
        [(float(i), name) for i, name in enumerate(names) if x_range[0] <= i <= x_range[1]]
        if names is not None
        else labelled_ticks(*x_range, width - left, whole=whole)
    )
    last = width_of(across[-1][1]) / 2 if across else 0.0
    top = svg.TITLE + above + (22 if y_label else 6)
    bottom = height - (24 + (20 if x_label else 0))
    x = Scale(*x_range, left + 4, width - max(right, last, 8.0))
    y = Scale(*y_range, bottom, top)
    parts = [svg.line(left, y(value), x.stop, y(value), "grid") for value in down]
    parts += [
        svg.text(text, left - 8, y(value) + 4, "", "end")
        for value, text in zip(down, down_texts, strict=True)
    ]
    if upright:
        parts += [svg.line(x(value), top, x(value), bottom, "grid") for value, _ in across]
    parts.append(svg.line(left, bottom, x.stop, bottom, "axis"))
    parts += tick_labels(across, x, bottom, width)
    if x_label:
        middle = (left + x.stop) / 2
        parts.append(svg.text(x_label, middle, height - 4, "", "middle", room=x.stop - left))
    if y_label:
        parts.append(svg.text(y_label, 0.0, svg.TITLE + above + 8, room=width))
    return Axes(x, y, tuple(parts))


def tick_labels(
    labels: Sequence[tuple[float, str]], x: Scale, bottom: float, width: float
) -> Iterator[Markup]:
    """The labels below an axis: each is cut to its share, and left out if it would touch."""
    share = max(48.0, (x.stop - x.start) / max(1, len(labels)) - _BETWEEN)
    reached = -math.inf
    for value, text in labels:
        half = width_of(shorten(text, share)) / 2
        middle = min(max(x(value), half), width - half)
        if middle - half >= reached:
            yield svg.text(text, middle, bottom + 17, "", "middle", room=share)
            reached = middle + half + _BETWEEN / 2
