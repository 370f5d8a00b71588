"""Grids: a heat map of layers x heads, and the heads that each draw chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from vg_engine.html.charts import svg
from vg_engine.html.charts.colours import colour_at, is_light
from vg_engine.html.charts.scales import (
    Scale,
    finite,
    floats,
    labelled_ticks,
    value_range,
    width_of,
)

_HEAT_WIDTH: Final = 640.0  # CSS pixels, at most
_SMALLEST, _LARGEST = 5.0, 40.0  # sides of a cell, CSS pixels
_GAPPED: Final = 10.0  # smaller cells touch each other
_ROOMY: Final = 34.0  # a cell of this side holds its value
_SMALL, _BIG = 0.1, 1000.0  # values between them are legible with few digits
_BAR, _BAR_STEPS = 160.0, 40
_STABILITY_WIDTH: Final = 560.0
_LINE: Final = 26.0  # from one name to the next
_NAME: Final = 120.0
_WIDEST_STEP, _NUMBERED = 44.0, 17.0  # between draws; from here on a dot holds its rank


def heat_map(
    matrix: Float[np.ndarray, "layers heads"],
    *,
    title: str,
    value_label: str = "",
    marks: Sequence[tuple[int, int]] = (),
) -> Markup:
    """A cell per layer and head, layer 0 above, with the colour bar.

    Args:
        matrix: a cell that is not finite stays empty and is crossed out.
        title: stands above, and is the alternative text.
        value_label: of the colour bar.
        marks: (layer, head) of chosen cells, outlined and named below.
    """
    known = finite(floats(matrix.ravel()))
    if not known:
        return svg.no_data(title, _HEAT_WIDTH)
    rows, cols = matrix.shape
    scale = min(known), max(known)
    if scale[0] == scale[1]:
        scale = min(0.0, scale[0]), max(0.0, scale[1]) or 1.0
    left = max(width_of(str(rows - 1)), width_of("layer")) + 10
    side = min(_LARGEST, max(_SMALLEST, float(int((_HEAT_WIDTH - left - 2) / cols))))
    top = svg.TITLE + 14
    right, bottom = left + side * cols, top + side * rows
    # The edges of cells that touch must not be blended.
    crisp = "crispEdges" if side < _GAPPED else None
    cells = _cells(matrix, scale, (left, top, side))
    parts: list[Markup] = [svg.element("g", *cells, shape_rendering=crisp)]
    parts += _counted(rows, cols, (left, top, side))
    parts.append(svg.text("layer", left - 8, top - 8, "", "end"))
    parts.append(svg.text("head", (left + right) / 2, bottom + 34, "", "middle"))
    inside = [(r, c) for r, c in marks if 0 <= r < rows and 0 <= c < cols]
    for r, c in inside:
        for class_ in ("casing", "outline"):
            parts.append(svg.rect(left + side * c, top + side * r, side, side, class_))
    names = ", ".join(f"L{r}H{c}" for r, c in inside)
    foot = bottom + 58
    width = max(right + 8, left + _BAR + 40, width_of(title, 14.0), 300.0)
    width = min(width, max(_HEAT_WIDTH, right + 8))
    parts += _colour_bar(scale, value_label, left, foot, width - left)
    height = foot + 30 + (22 if names else 0)
    if names:
        room = width - left - 20
        parts.append(svg.rect(left + 0.5, height - 14.5, 11.0, 11.0, "outlined"))
        parts.append(svg.text(names, left + 19, height - 4, "strong", room=room))
    description = f"{rows} x {cols} values from {min(known):.3g} to {max(known):.3g}"
    description += f"; outlined: {names}" if names else ""
    return svg.chart(title, width, height, *parts, description=description)


def _cells(
    matrix: Float[np.ndarray, "rows cols"],
    scale: tuple[float, float],
    place: tuple[float, float, float],
) -> Iterator[Markup]:
    left, top, side = place
    largest = float(np.abs(matrix[np.isfinite(matrix)]).max())
    decimals = 0 if largest >= 100 else 1 if largest >= 10 else 2
    legible = side >= _ROOMY and _SMALL <= largest < _BIG
    drawn = side - (1.0 if side >= _GAPPED else 0.0)
    for (r, c), value in np.ndenumerate(matrix):
        x, y = left + side * c, top + side * r
        if not np.isfinite(value):
            yield svg.element(
                "g",
                svg.element("title", f"L{r}H{c}: no data"),
                svg.rect(x + 0.5, y + 0.5, drawn - 0.5, drawn - 0.5, "empty"),
                svg.line(x + 1.5, y + side - 2.5, x + side - 2.5, y + 1.5, "axis"),
            )
            continue
        share = (float(value) - scale[0]) / (scale[1] - scale[0] or 1.0)
        tip = svg.element("title", f"L{r}H{c}: {value:.4g}")
        yield svg.rect(x, y, drawn, drawn, None, tip, fill=colour_at(share))
        if legible:
            ink = "on-light" if is_light(share) else "on-dark"
            place_x, place_y = x + side / 2 - 0.5, y + side / 2 + 4
            yield svg.text(f"{value:.{decimals}f}", place_x, place_y, ink, "middle")


def _counted(rows: int, cols: int, place: tuple[float, float, float]) -> Iterator[Markup]:
    """Numbers of rows and columns, as many as there is room for."""
    left, top, side = place
    for r in _every(rows, side, 16.0):
        yield svg.text(str(r), left - 8, top + side * (r + 0.5) + 4, "", "end")
    for c in _every(cols, side, width_of(str(cols)) + 8):
        yield svg.text(str(c), left + side * (c + 0.5), top + side * rows + 16, "", "middle")


def _every(count: int, side: float, room: float) -> range:
    step = next((s for s in (1, 2, 4, 5, 8, 10, 16, 20) if s * side >= room), 32)
    return range(0, count, step)


def _colour_bar(
    scale: tuple[float, float], label: str, left: float, top: float, room: float
) -> Iterator[Markup]:
    # Each step reaches to the end, below the next: no seams.
    for i in range(_BAR_STEPS):
        start, colour = _BAR * i / _BAR_STEPS, colour_at((i + 0.5) / _BAR_STEPS)
        yield svg.rect(left + start, top - 8.0, _BAR - start, 10.0, fill=colour)
    ends = value_range(scale)
    x = Scale(*ends, left, left + _BAR)
    for mark, text in labelled_ticks(*ends, _BAR, most=5):
        yield svg.line(x(mark), top + 2, x(mark), top + 6, "axis")
        yield svg.text(text, x(mark), top + 19, "", "middle")
    if label:
        yield svg.text(label, left + _BAR + 24, top + 1, room=room - _BAR - 24)


def stability(
    draws: Sequence[Sequence[str]], *, title: str, highlight: Sequence[str] = ()
) -> Markup:
    """The best of each draw: a line per name, a dot with its rank per draw.

    Args:
        draws: per draw its names, best first.
        title: stands above, and is the alternative text.
        highlight: names in the accent colour; none: those of every draw.
    """
    names = _by_presence(draws)
    if not names:
        return svg.no_data(title, _STABILITY_WIDTH)
    counts = {name: sum(name in draw for draw in draws) for name in names}
    chosen = set(highlight) or {name for name in names if counts[name] == len(draws)}
    shares = {name: f"{counts[name]} of {len(draws)}" for name in names}
    left = min(_NAME, max(width_of(name, strong=True) for name in names)) + 14
    after = max(map(width_of, shares.values())) + 18
    step = min(_WIDEST_STEP, (_STABILITY_WIDTH - left - after) / len(draws))
    radius = min(10.0, step / 2 - 0.5)
    top = svg.TITLE + 2
    right, bottom = left + step * len(draws), top + _LINE * len(names)
    parts: list[Markup] = []
    for i, name in enumerate(names):
        y = top + _LINE * (i + 0.5)
        style, colour = ("strong", "c0") if name in chosen else ("ink", "cm")
        parts.append(svg.text(name, 0.0, y + 4, style, room=left - 14))
        parts.append(svg.line(left, y, right, y, "grid"))
        for j, draw in enumerate(draws):
            if name in draw:
                rank, x = list(draw).index(name) + 1, left + step * (j + 0.5)
                parts += _rank(x, y, radius, colour, rank, f"{name}: rank {rank} in draw {j + 1}")
        parts.append(svg.text(shares[name], right + 14, y + 4, style))
    for j in _every(len(draws), step, width_of(str(len(draws))) + 8):
        parts.append(svg.text(str(j + 1), left + step * (j + 0.5), bottom + 15, "", "middle"))
    parts.append(svg.text("draw", (left + right) / 2, bottom + 34, "", "middle"))
    width = max(right + after, min(_STABILITY_WIDTH, width_of(title, 14.0)))
    description = ", ".join(f"{name} in {share}" for name, share in shares.items())
    return svg.chart(title, width, bottom + 42, *parts, description=description)


def _by_presence(draws: Sequence[Sequence[str]]) -> list[str]:
    """All names: the most often drawn first, then by their ranks, then in order of appearance."""
    ranks: dict[str, list[int]] = {}
    for draw in draws:
        for rank, name in enumerate(dict.fromkeys(draw)):
            ranks.setdefault(name, []).append(rank)
    return sorted(ranks, key=lambda name: (-len(ranks[name]), sum(ranks[name]) / len(ranks[name])))


def _rank(x: float, y: float, radius: float, colour: str, rank: int, tip: str) -> Iterator[Markup]:
    if 2 * radius < _NUMBERED:
        yield svg.dot(x, y, radius, f"f {colour}", tip)
        return
    yield svg.dot(x, y, radius, f"{'f' if colour == 'c0' else 'hollow'} {colour}", tip)
    yield svg.text(str(rank), x, y + 4, "inside" if colour == "c0" else "", "middle")
