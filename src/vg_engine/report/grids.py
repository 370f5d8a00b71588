"""Cells: a value per layer and head, and which heads each draw chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, SupportsFloat

import numpy as np
from jaxtyping import Float

from vg_engine.report.colours import colour_at, is_light
from vg_engine.report.frame import TITLE, dot, drawing, fitted, nothing, rule, shape, words
from vg_engine.report.markup import Markup, tag
from vg_engine.report.scales import Scale, finite, fitting, floats, spread, width_of

_SMALLEST, _LARGEST = 5.0, 40.0  # sides of a cell, CSS pixels
_GAPPED: Final = 10.0  # smaller cells touch each other
_ROOMY: Final = 34.0  # a cell of this side holds its value
_SMALL, _BIG = 0.1, 1000.0  # values between them are legible with few digits
_BAR: Final = 160.0
_NAME: Final = 120.0
_WIDEST_STEP, _NUMBERED = 44.0, 17.0  # between draws; from here on a dot holds its rank


def heat(
    matrix: Float[np.ndarray, "rows cols"],
    *,
    title: str,
    row_label: str = "layer",
    col_label: str = "head",
    value_label: str = "",
    marks: Sequence[tuple[int, int]] = (),
    name: str = "L{row}H{col}",
    low: SupportsFloat | None = None,
    high: SupportsFloat | None = None,
    width: int = 640,
) -> Markup:
    """A map of layers x heads (or any matrix), row 0 above, with its colour bar.

    Args:
        matrix: float; a cell that is not finite stays empty and is crossed out.
        title: stands above, and is the alternative text.
        row_label, col_label, value_label: of the axes and of the colour bar.
        marks: (row, column) of chosen cells, outlined and named below.
        name: how a cell is called, from `row` and `col`.
        low, high: ends of the colour bar; None: the data's.
        width: at most, in CSS pixels; the height follows.
    """
    known = finite(floats(matrix.ravel()))
    if not known:
        return nothing(title, width)
    rows, cols = matrix.shape
    ends = min(known), max(known)
    if ends[0] == ends[1]:
        ends = min(0.0, ends[0]), max(0.0, ends[1]) or 1.0
    scale = (ends[0] if low is None else float(low), ends[1] if high is None else float(high))
    left = max(width_of(str(rows - 1)), width_of(row_label)) + 10
    side = min(_LARGEST, max(_SMALLEST, float(int((width - left - 2) / cols))))
    top = TITLE + 14
    right, bottom = left + side * cols, top + side * rows
    cells = _cells(matrix, scale, name, (left, top, side))
    # Where cells touch, their edges must not be blended.
    crisp = "crispEdges" if side < _GAPPED else None
    parts: list[Markup] = [tag("g", *cells, shape_rendering=crisp)]
    parts += _counted(rows, cols, (left, top, side))
    parts.append(words(row_label, left - 8, top - 8, "", "end"))
    parts.append(words(col_label, (left + right) / 2, bottom + 34, "", "middle"))
    inside = [(r, c) for r, c in marks if 0 <= r < rows and 0 <= c < cols]
    for r, c in inside:
        for class_ in ("casing", "outline"):
            parts.append(_square(left + side * c, top + side * r, side, class_))
    names = ", ".join(name.format(row=r, col=c) for r, c in inside)
    foot = bottom + 58
    total = max(right + 8, left + _BAR + 40, width_of(title, 14.0) if title else 0.0)
    total = min(max(total, 300.0), max(float(width), right + 8))
    parts += _colour_bar(scale, value_label, left, foot, total - left)
    height = foot + 30 + (22 if names else 0)
    if names:
        parts.append(_square(left + 0.5, height - 14.5, 11.0, "outlined"))
        parts.append(fitted(names, total - left - 20, left + 19, height - 4, "strong"))
    says = f"{rows} x {cols} values from {min(known):.3g} to {max(known):.3g}"
    says += f"; outlined: {names}" if names else ""
    return drawing(title, total, height, *parts, says=says)


def _cells(
    matrix: Float[np.ndarray, "rows cols"],
    scale: tuple[float, float],
    name: str,
    place: tuple[float, float, float],
) -> Iterator[Markup]:
    left, top, side = place
    largest = float(np.nanmax(np.abs(np.where(np.isfinite(matrix), matrix, np.nan))))
    decimals = 0 if largest >= 100 else 1 if largest >= 10 else 2
    legible = side >= _ROOMY and _SMALL <= largest < _BIG
    gap = 1.0 if side >= _GAPPED else 0.0
    for (r, c), value in np.ndenumerate(matrix):
        x, y = left + side * c, top + side * r
        called = name.format(row=r, col=c)
        if not np.isfinite(value):
            tip = tag("title", f"{called}: no data")
            yield tag(
                "g", tip, _square(x + 0.5, y + 0.5, side - gap - 0.5, "empty"), *_hatch(x, y, side)
            )
            continue
        share = (float(value) - scale[0]) / (scale[1] - scale[0] or 1.0)
        fill = colour_at(share)
        yield shape(
            "rect",
            tag("title", f"{called}: {value:.4g}"),
            x=x,
            y=y,
            width=side - gap,
            height=side - gap,
            fill=fill,
        )
        if legible:
            ink = "on-light" if is_light(share) else "on-dark"
            yield words(
                f"{value:.{decimals}f}", x + side / 2 - 0.5, y + side / 2 + 4, ink, "middle"
            )


def _hatch(x: float, y: float, side: float) -> Iterator[Markup]:
    yield rule(x + 1.5, y + side - 2.5, x + side - 2.5, y + 1.5, "axis")


def _square(x: float, y: float, side: float, class_: str) -> Markup:
    return shape("rect", x=x, y=y, width=side, height=side, class_=class_)


def _counted(rows: int, cols: int, place: tuple[float, float, float]) -> Iterator[Markup]:
    """Numbers of rows and columns, as many as there is room for."""
    left, top, side = place
    for r in _every(rows, side, 16.0):
        yield words(str(r), left - 8, top + side * (r + 0.5) + 4, "", "end")
    for c in _every(cols, side, width_of(str(cols)) + 8):
        yield words(str(c), left + side * (c + 0.5), top + side * rows + 16, "", "middle")


def _every(count: int, side: float, room: float) -> range:
    step = next((s for s in (1, 2, 4, 5, 8, 10, 16, 20) if s * side >= room), 32)
    return range(0, count, step)


def _colour_bar(
    scale: tuple[float, float], label: str, left: float, top: float, room: float
) -> Iterator[Markup]:
    steps = 40
    # Each reaches to the end, below the next: no seams.
    for i in range(steps):
        yield shape(
            "rect",
            x=left + _BAR * i / steps,
            y=top - 8.0,
            width=_BAR * (steps - i) / steps,
            height=10.0,
            fill=colour_at((i + 0.5) / steps),
        )
    ends = spread(scale)
    x = Scale(*ends, left, left + _BAR)
    for mark, text in fitting(*ends, _BAR, most=5):
        yield rule(x(mark), top + 2, x(mark), top + 6, "axis")
        yield words(text, x(mark), top + 19, "", "middle")
    if label:
        yield fitted(label, room - _BAR - 24, left + _BAR + 24, top + 1)


def stability(
    draws: Sequence[Sequence[str]],
    *,
    title: str,
    highlight: Sequence[str] = (),
    x_label: str = "draw",
    width: int = 560,
) -> Markup:
    """Which of the best appear in which draw: a line per name, a dot with its rank per draw.

    Args:
        draws: per draw its names, best first.
        title: stands above, and is the alternative text.
        highlight: names in the accent colour; none: those of every draw.
        x_label: of the axis.
        width: at most, in CSS pixels; the height follows from the number of names.
    """
    names = _by_presence(draws)
    if not names:
        return nothing(title, width)
    shown = {n for n in names if all(n in draw for draw in draws)}
    chosen = set(highlight) or shown
    counts = {n: sum(n in draw for draw in draws) for n in names}
    told = {n: f"{counts[n]} of {len(draws)}" for n in names}
    left = min(_NAME, max(width_of(n, strong=True) for n in names)) + 14
    after = max(map(width_of, told.values())) + 18
    step = min(_WIDEST_STEP, (width - left - after) / len(draws))
    radius = min(10.0, step / 2 - 0.5)
    line, top = 26.0, TITLE + 2
    right, bottom = left + step * len(draws), top + line * len(names)
    parts: list[Markup] = []
    for i, n in enumerate(names):
        y = top + line * (i + 0.5)
        style = "strong" if n in chosen else "ink"
        parts.append(fitted(n, left - 14, 0.0, y + 4, style))
        parts.append(rule(left, y, right, y, "grid"))
        colour = "c0" if n in chosen else "cm"
        for j, draw in enumerate(draws):
            if n in draw:
                rank, x = list(draw).index(n) + 1, left + step * (j + 0.5)
                tip = f"{n}: rank {rank} in {x_label} {j + 1}"
                parts += _ranked(x, y, radius, colour, rank, tip)
        parts.append(words(told[n], right + 14, y + 4, style))
    for j in _every(len(draws), step, width_of(str(len(draws))) + 8):
        parts.append(words(str(j + 1), left + step * (j + 0.5), bottom + 15, "", "middle"))
    if x_label:
        parts.append(words(x_label, (left + right) / 2, bottom + 34, "", "middle"))
    total = max(right + after, min(float(width), width_of(title, 14.0)))
    says = ", ".join(f"{n} in {told[n]}" for n in names)
    return drawing(title, total, bottom + (42 if x_label else 24), *parts, says=says)


def _by_presence(draws: Sequence[Sequence[str]]) -> list[str]:
    """All names: the most often drawn first, then by their ranks, then in order of appearance."""
    ranks: dict[str, list[int]] = {}
    for draw in draws:
        for rank, n in enumerate(dict.fromkeys(draw)):
            ranks.setdefault(n, []).append(rank)
    return sorted(ranks, key=lambda n: (-len(ranks[n]), sum(ranks[n]) / len(ranks[n])))


def _ranked(
    x: float, y: float, radius: float, colour: str, rank: int, tip: str
) -> Iterator[Markup]:
    if 2 * radius < _NUMBERED:
        yield dot(x, y, radius, f"f {colour}", tip)
        return
    yield dot(x, y, radius, f"{'f' if colour == 'c0' else 'hollow'} {colour}", tip)
    yield words(str(rank), x, y + 4, "inside" if colour == "c0" else "", "middle")
