"""What charts share: the frame of a drawing, axes, labels that keep out of each other's way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, SupportsFloat

from vg_engine.report.markup import Markup, tag
from vg_engine.report.scales import Scale, fitting, shorten, ticks, width_of, written

TITLE: Final = 34.0  # the height that a title takes
_TITLE_SIZE = 14.0
_LEAST = 0.6  # of its width: narrower, a drawing scrolls, for its words could not be read
_LINE = 15.0  # from one line of text to the next
_APART = 10.0  # between two tick labels
_DENSE = 6.0  # between the points of a line
_BOLD: Final = 1.12  # as much wider are strong words


def number(value: float) -> str:
    """A coordinate: short, the same on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def shape(name: str, *children: object, **attributes: object) -> Markup:
    """An element of SVG; floats become short coordinates."""
    return tag(
        name,
        *children,
        **{k: number(v) if isinstance(v, float) else v for k, v in attributes.items()},
    )


def words(text: str, x: float, y: float, class_: str = "", anchor: str | None = None) -> Markup:
    """A text; `anchor` is middle or end."""
    return shape("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def fitted(
    text: str, room: float, x: float, y: float, class_: str = "", anchor: str | None = None
) -> Markup:
    """A text cut to `room` pixels; the whole of it appears on hovering."""
    strong = "strong" in class_ or "named" in class_
    short = shorten(text, room / _BOLD if strong else room)
    if short == text:
        return words(text, x, y, class_, anchor)
    return shape(
        "text", short, tag("title", text), x=x, y=y, class_=class_ or None, text_anchor=anchor
    )


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return shape("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, tip: str = "") -> Markup:
    """A disc; `tip` appears on hovering."""
    return shape("circle", tag("title", tip) if tip else None, cx=x, cy=y, r=radius, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def drawing(
    title: str, wide: SupportsFloat, tall: SupportsFloat, *parts: Markup | None, says: str = ""
) -> Markup:
    """A whole chart.

    Args:
        title: stands above.
        wide, tall: in CSS pixels, the title's line included.
        parts: what is drawn.
        says: told after the title to those who do not see the drawing.
    """
    width, height = float(wide), float(tall)
    short = shorten(title, width / _BOLD, _TITLE_SIZE)
    heading = shape(
        "text",
        short,
        tag("title", title) if short != title else None,
        x=0.0,
        y=14.0,
        class_="title",
    )
    return tag(
        "svg",
        heading if title else None,
        *parts,
        class_="chart",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=number(width),
        height=number(height),
        role="img",
        aria_label=": ".join(filter(None, (title, says))) or "chart",
        style=f"min-width:{number(width * _LEAST)}px",
    )


def nothing(title: str, wide: SupportsFloat) -> Markup:
    """The chart of no data."""
    width, height = float(wide), 120.0
    return drawing(
        title,
        width,
        height,
        shape(
            "rect",
            x=0.5,
            y=TITLE + 0.5,
            width=width - 1.0,
            height=height - TITLE - 1.0,
            rx=6.0,
            class_="axis",
            fill="none",
            stroke_dasharray="4 4",
        ),
        words("no data", width / 2, (TITLE + height) / 2 + 4, "", "middle"),
        says="no data",
    )


@dataclass(frozen=True)
class Axes:
    """Two scales and what is written beside them."""

    x: Scale
    y: Scale
    parts: tuple[Markup, ...]

    @property
    def left(self) -> float:
        """Pixels of the left edge."""
        return self.x.start

    @property
    def right(self) -> float:
        """Pixels of the right edge."""
        return self.x.stop

    @property
    def top(self) -> float:
        """Pixels of the upper edge."""
        return self.y.stop

    @property
    def bottom(self) -> float:
        """Pixels of the lower edge."""
        return self.y.start


def axes(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    width: float,
    height: float,
    x_label: str = "",
    y_label: str = "",
    names: Sequence[str] | None = None,
    right: float = 0.0,
    upright: bool = False,
    whole: bool = False,
) -> Axes:
    """The frame of a chart with two axes of numbers.

    Args:
        x_range, y_range: values at the ends.
        width, height: of the whole drawing.
        x_label, y_label: what the axes say.
        names: of x = 0, 1, 2 ... in place of numbers.
        right: pixels kept free beside the field.
        upright: grid lines for x, too.
        whole: x counts something: no fractions.
    """
    down = ticks(*y_range)
    down_texts = written(down)
    left = max(map(width_of, down_texts), default=0.0) + 10
    along = (
        _named(names, x_range)
        if names is not None
        else fitting(*x_range, width - left, whole=whole)
    )
    ends = width_of(along[-1][1]) / 2 if along else 0.0
    top = TITLE + (22 if y_label else 6)
    bottom = height - (24 + (20 if x_label else 0))
    x = Scale(*x_range, left + 4, width - max(right, ends, 8.0))
    y = Scale(*y_range, bottom, top)
    parts = [rule(left, y(value), x.stop, y(value), "grid") for value in down]
    parts += [
        words(text, left - 8, y(value) + 4, "", "end")
        for value, text in zip(down, down_texts, strict=True)
    ]
    if upright:
        parts += [rule(x(value), top, x(value), bottom, "grid") for value, _ in along]
    parts.append(rule(left, bottom, x.stop, bottom, "axis"))
    parts += under(along, x, bottom, width)
    if x_label:
        middle = (left + x.stop) / 2
        parts.append(fitted(x_label, x.stop - left, middle, height - 4, "", "middle"))
    if y_label:
        parts.append(fitted(y_label, width, 0.0, TITLE + 8, ""))
    return Axes(x, y, tuple(parts))


def _named(names: Sequence[str], x_range: tuple[float, float]) -> list[tuple[float, str]]:
    low, high = x_range
    return [(float(i), name) for i, name in enumerate(names) if low <= i <= high]


def under(
    along: Sequence[tuple[float, str]], x: Scale, bottom: float, width: float
) -> Iterable[Markup]:
    """The labels below an axis: each is cut to its share, and left out where it would touch."""
    share = max(48.0, (x.stop - x.start) / max(1, len(along)) - _APART)
    reached = -math.inf
    for value, text in along:
        short = shorten(text, share)
        half = width_of(short) / 2
        middle = min(max(x(value), half), width - half)
        if middle - half >= reached:
            yield fitted(text, share, middle, bottom + 17, "", "middle")
            reached = middle + half + _APART / 2


@dataclass
class Labels:
    """Finds room for labels beside their points; what finds none is left to its tip.

    Attributes:
        left, top, right, bottom: the field, in pixels.
        points: what labels should rather not cover.
        reach: pixels from a point to the furthest place for its label.
    """

    left: float
    top: float
    right: float
    bottom: float
    points: Sequence[tuple[float, float]] = ()
    reach: float = 40.0
    _taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def put(self, text: str, x: float, y: float, class_: str = "ink") -> Markup | None:
        """The label of a point, or None where there is no room."""
        for strict in (True, False):
            for gap in (gap for gap in _GAPS if gap <= self.reach):
                for across, down in _AROUND:
                    box = self._box(text, x + across * gap, y + down * gap, across, class_)
                    if self._free(box, strict=strict):
                        self._taken.append(box)
                        return words(text, box[0], box[3] - 4, f"halo {class_}")
        return None

    def corner(self, text: str, class_: str = "ink") -> Markup:
        """A remark in the corner that covers least."""
        size = width_of(text, strong=class_ == "strong"), _LINE
        corners = [
            (x, y, x + size[0], y + size[1])
            for y in (self.top + 4, self.bottom - _LINE - 6)
            for x in (self.left + 8, self.right - size[0] - 4)
        ]
        box = min(corners, key=lambda corner: sum(_holds(corner, point) for point in self.points))
        self._taken.append(box)
        return words(text, box[0], box[3] - 4, f"halo {class_}")

    def below(self, text: str, left: float, top: float, class_: str = "ink") -> Markup:
        """A text at a place, or as far below it as something else stands there."""
        size = width_of(text)
        tops = [top + _LINE * step for step in range(int((self.bottom - top) / _LINE))] or [top]
        boxes = [(left, place, left + size, place + _LINE) for place in tops]
        box = next((each for each in boxes if self._free(each, strict=True)), boxes[0])
        self._taken.append(box)
        return words(text, box[0], box[3] - 4, f"halo {class_}".strip())

    def _box(
        self, text: str, x: float, y: float, across: float, class_: str
    ) -> tuple[float, float, float, float]:
        size = width_of(text, strong=class_ == "strong")
        start = x - size * (1 - across) / 2
        return start, y - _LINE / 2, start + size, y + _LINE / 2

    def _free(self, box: tuple[float, float, float, float], *, strict: bool) -> bool:
        inside = (
            box[0] >= self.left
            and box[1] >= self.top
            and box[2] <= self.right
            and box[3] <= self.bottom
        )
        clear = all(
            box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            for other in self._taken
        )
        return inside and clear and not (strict and any(_holds(box, p) for p in self.points))


_GAPS: Final = (10.0, 17.0, 26.0, 40.0)
# Where a label stands beside its point: right, left, above, below, and the corners between.
_AROUND: Final = (
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (1.0, -1.0),
    (-1.0, -1.0),
    (1.0, 1.0),
    (-1.0, 1.0),
)


def along(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Points on the lines between points, dense enough to keep words off them."""
    for start, stop in itertools.pairwise(points):
        count = int(math.dist(start, stop) / _DENSE) + 1
        for i in range(count + 1):
            share = i / count
            yield (
                start[0] + (stop[0] - start[0]) * share,
                start[1] + (stop[1] - start[1]) * share,
            )


def _holds(box: tuple[float, float, float, float], point: tuple[float, float]) -> bool:
    return box[0] - 3 <= point[0] <= box[2] + 3 and box[1] - 3 <= point[1] <= box[3] + 3


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least `gap` apart, between `low` and `high` where they fit.

    >>> apart([10.0, 11.0, 50.0], 14.0, 0.0, 60.0)
    [10.0, 24.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed = list(wanted)
    reached = low - gap
    for i in order:
        placed[i] = reached = max(wanted[i], reached + gap)
    reached = high + gap
    for i in reversed(order):
        placed[i] = reached = min(placed[i], reached - gap)
    return placed
