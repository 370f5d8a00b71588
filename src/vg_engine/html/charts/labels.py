"""Room for labels: beside their points, off the lines, off each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup

from vg_engine.html.charts import svg
from vg_engine.html.charts.scales import width_of

LINE: Final = 15.0  # pixels from one line of text to the next
_DENSE: Final = 6.0  # pixels between the points of a line
_MARGIN: Final = 3.0  # pixels kept free between a label and a point
_DISTANCES: Final = (10.0, 17.0, 26.0, 40.0, 60.0, 90.0, 120.0)
# The sides of a point that a label may stand on: right, left, above, below, between.
_SIDES: Final = (
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (1.0, -1.0),
    (-1.0, -1.0),
    (1.0, 1.0),
    (-1.0, 1.0),
    (1.0, -0.2),
    (-1.0, -0.2),
)

_Point = tuple[float, float]
_Box = tuple[float, float, float, float]


@dataclass
class Labels:
    """Finds room for labels; one that finds none is left to its point's tip.

    Attributes:
        area: left, top, right, bottom of the chart's field, in pixels.
        points: pixels that labels should rather not cover.
        reach: pixels from a point to the furthest place for its label.
    """

    area: _Box
    points: Sequence[_Point] = ()
    reach: float = 40.0
    _taken: list[_Box] = field(default_factory=list)

    def beside(self, text: str, x: float, y: float, class_: str = "ink") -> Markup | None:
        """The label of a point, or None if there is no room."""
        size = width_of(text, strong=class_ == "strong")
        for strict in (True, False):
            for distance in (distance for distance in _DISTANCES if distance <= self.reach):
                for across, down in _SIDES:
                    left = x + across * distance - size * (1 - across) / 2
                    middle = y + down * distance
                    box = (left, middle - LINE / 2, left + size, middle + LINE / 2)
                    if self._free(box, strict=strict):
                        return self._placed(text, box, class_)
        return None

    def in_corner(self, text: str, class_: str) -> Markup:
        """A remark in the corner where it covers the fewest points."""
        left, top, right, bottom = self.area
        size = width_of(text, strong=class_ == "strong")
        corners = [
            (x, y, x + size, y + LINE)
            for y in (top + 4, bottom - LINE - 6)
            for x in (left + 8, right - size - 4)
        ]
        box = min(corners, key=lambda corner: sum(_covers(corner, p) for p in self.points))
        return self._placed(text, box, class_)

    def below(self, text: str, left: float, top: float) -> Markup:
        """A text at a place, or as far below it as is needed to cover nothing."""
        bottom = self.area[3]
        tops = [top + LINE * step for step in range(int((bottom - top) / LINE))] or [top]
        boxes = [(left, place, left + width_of(text), place + LINE) for place in tops]
        box = next((each for each in boxes if self._free(each, strict=True)), boxes[0])
        return self._placed(text, box, "")

    def _placed(self, text: str, box: _Box, class_: str) -> Markup:
        self._taken.append(box)
        return svg.text(text, box[0], box[3] - 4, f"halo {class_}".strip())

    def _free(self, box: _Box, *, strict: bool) -> bool:
        left, top, right, bottom = self.area
        inside = box[0] >= left and box[1] >= top and box[2] <= right and box[3] <= bottom
        clear = all(
            box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            for other in self._taken
        )
        return inside and clear and not (strict and any(_covers(box, p) for p in self.points))


def _covers(box: _Box, point: _Point) -> bool:
    across = box[0] - _MARGIN <= point[0] <= box[2] + _MARGIN
    return across and box[1] - _MARGIN <= point[1] <= box[3] + _MARGIN


def points_along(corners: Sequence[_Point]) -> Iterator[_Point]:
    """Points on the lines between corners, dense enough to keep labels off the lines."""
    for start, stop in itertools.pairwise(corners):
        count = int(math.dist(start, stop) / _DENSE) + 1
        for i in range(count + 1):
            share = i / count
            yield (start[0] + (stop[0] - start[0]) * share, start[1] + (stop[1] - start[1]) * share)


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least `gap` apart, between `low` and `high` if they fit.

    >>> spaced([10.0, 11.0, 50.0], 14.0, 0.0, 60.0)
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
