"""Elements of SVG: what every chart is drawn with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, SupportsFloat

from markupsafe import Markup

from vg_engine.html.charts.scales import SIZE, shorten

TITLE: Final = 34.0  # the height that a title takes
_TITLE_SIZE: Final = 14.0
_LEAST: Final = 0.92  # of its width: narrower, a chart scrolls; its letters keep 11 pixels
_BOLD: Final = 1.12  # as much wider is bold text
_BOLD_CLASSES: Final = ("strong", "named", "title")


def coordinate(value: float) -> str:
    """A number of pixels: short, the same on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, /, *children: str | None, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: escaped unless they are elements; None is left out.
        attributes: escaped; `text_anchor` is written text-anchor, `class_` class; floats become
            short coordinates; None is left out.

    >>> element("text", "a < b", x=1.5, class_="ink")
    Markup('<text x="1.5" class="ink">a &lt; b</text>')
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"),
            coordinate(value) if isinstance(value, float) else value,
        )
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(child for child in children if child is not None)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, inside)


def text(
    content: str,
    x: float,
    y: float,
    class_: str = "",
    anchor: str | None = None,
    *,
    room: float = math.inf,
    size: float = SIZE,
) -> Markup:
    """A text at (x, y).

    Args:
        content: its words.
        x, y: of its start (or its middle or end, see `anchor`) on the baseline.
        class_: of the style sheet.
        anchor: `middle` or `end`.
        room: pixels; a longer text is cut, and the whole of it appears on hovering.
        size: of the letters, in pixels.
    """
    bold = any(name in class_ for name in _BOLD_CLASSES)
    short = shorten(content, room / _BOLD if bold else room, size)
    whole = element("title", content) if short != content else None
    return element("text", short, whole, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    class_: str | None = None,
    *children: Markup,
    **attributes: object,
) -> Markup:
    """A rectangle."""
    sides = {"x": x, "y": y, "width": width, "height": height, "class_": class_}
    return element("rect", *children, **sides, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, tip: str = "") -> Markup:
    """A disc; `tip` appears on hovering."""
    title = element("title", tip) if tip else None
    return element("circle", title, cx=x, cy=y, r=radius, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    steps = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def chart(
    title: str,
    width: SupportsFloat,
    height: SupportsFloat,
    *parts: Markup | None,
    description: str = "",
) -> Markup:
    """A whole chart.

    Args:
        title: stands above.
        width, height: in CSS pixels, the title's line included.
        parts: its elements.
        description: read after the title to those who do not see the chart.
    """
    across, down = float(width), float(height)
    return element(
        "svg",
        text(title, 0.0, 14.0, "title", room=across, size=_TITLE_SIZE),
        *parts,
        class_="chart",
        viewBox=f"0 0 {coordinate(across)} {coordinate(down)}",
        width=across,
        height=down,
        role="img",
        aria_label=f"{title}: {description}",
        style=f"min-width:{coordinate(across * _LEAST)}px",
    )


def no_data(title: str, width: SupportsFloat) -> Markup:
    """The chart of no data."""
    across, height = float(width), 120.0
    place = 0.5, TITLE + 0.5, across - 1.0, height - TITLE - 1.0
    frame = rect(*place, "axis", rx=6.0, fill="none", stroke_dasharray="4 4")
    words = text("no data", across / 2, (TITLE + height) / 2 + 4, "", "middle")
    return chart(title, across, height, frame, words, description="no data")
