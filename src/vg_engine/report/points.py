"""The elbow of a sorted curve, one number against another, and a line without axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from vg_engine.report.frame import Axes, Labels, along, axes, dot, drawing, nothing, path, rule
from vg_engine.report.markup import Markup, tag
from vg_engine.report.scales import (
    Numbers,
    Scale,
    covering,
    finite,
    floats,
    same_length,
    spread,
    width_of,
)


def elbow(
    values: Numbers,
    *,
    index: int,
    threshold: SupportsFloat,
    title: str,
    x_label: str = "heads, sorted",
    y_label: str = "mean S_img",
    width: int = 560,
    height: int = 300,
) -> Markup:
    """The S_img curve sorted ascending, with its chord, the elbow, tau, and what is kept.

    Args:
        values: in any order; they are sorted.
        index, threshold: as `core.criteria.elbow` found them; 0 keeps everything.
        title: stands above, and is the alternative text.
        x_label, y_label: of the axes.
        width, height: in CSS pixels.
    """
    curve = sorted(finite(floats(values)))
    tau = float(threshold)
    if not curve or not math.isfinite(tau):
        return nothing(title, width)
    count = len(curve)
    frame = axes(
        spread([0.0, float(count - 1)]),
        covering(*spread([*curve, 0.0])),
        width=float(width),
        height=float(height),
        x_label=x_label,
        y_label=y_label,
        whole=True,
    )
    places = [(frame.x(float(i)), frame.y(v)) for i, v in enumerate(curve)]
    share = f"{sum(value >= tau for value in curve):,} of {count:,} kept"
    x, y = frame.x(float(index)), frame.y(tau)
    found = f"index {index:,}, τ = {tau:.3g}" if index else "no elbow: all are kept"
    (x0, y0), (x1, y1) = places[0], places[-1]
    chord_y = y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y0
    lines = [((frame.left, y), (frame.right, y)), ((x0, y0), (x1, y1)), ((x, chord_y), (x, y))]
    labels = Labels(
        frame.left,
        frame.top,
        frame.right,
        frame.bottom,
        [*places, *(p for pair in lines if index for p in along(pair))],
    )
    band = [
        (x, frame.top),
        (frame.right, frame.top),
        (frame.right, frame.bottom),
        (x, frame.bottom),
    ]
    parts = [
        path(band, "band c0", closed=True),
        rule(frame.left, y, frame.right, y, "s thin dash c0"),
        *(rule(*start, *stop, "s thin dash cq") for start, stop in lines[1:2] if index),
        *(rule(*start, *stop, "s thin cq") for start, stop in lines[2:] if index),
        path(places, "s c0") if count > 1 else None,
        dot(x, y, 5.0, "f ring c0", found),
        _kept(labels, share, x, frame) if index else None,
        labels.put(found, x, y, "strong"),
        labels.put("chord", (x0 + x1) / 2, (y0 + y1) / 2, "") if index else None,
    ]
    return drawing(title, width, height, *frame.parts, *parts, says=f"{found}, {share}")


def _kept(labels: Labels, text: str, edge: float, frame: Axes) -> Markup:
    """How many lie right of the elbow: above them where there is room, else before them."""
    size = width_of(text)
    if frame.right - edge >= size + 16:
        return labels.below(text, (edge + frame.right - size) / 2, frame.top + 6, "")
    text = f"{text} →"
    return labels.below(text, max(frame.left, edge - width_of(text) - 6), frame.top + 6, "")


def scatter(
    x: Numbers,
    y: Numbers,
    *,
    title: str,
    labels: Sequence[str] = (),
    highlight: Sequence[str] = (),
    note: str = "",
    x_label: str = "",
    y_label: str = "",
    width: int = 480,
    height: int = 360,
) -> Markup:
    """One number against another, a dot per label.

    Args:
        x, y: aligned; a pair with a value that is not finite is left out.
        title: stands above, and is the alternative text.
        labels: shown on hovering.
        highlight: labels that are drawn in the accent colour and written.
        note: in the corner (`Spearman's rho = 0.81`).
        x_label, y_label: of the axes.
        width, height: in CSS pixels.

    Raises:
        InputError: lists of different lengths.
    """
    across, down = floats(x), floats(y)
    same_length("x, y and labels", across, down, labels if len(labels) else across)
    names = labels if len(labels) else [""] * len(across)
    kept = [
        (name, a, b)
        for name, a, b in zip(names, across, down, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not kept:
        return nothing(title, width)
    frame = axes(
        covering(*spread([a for _, a, _ in kept])),
        covering(*spread([b for _, _, b in kept])),
        width=float(width),
        height=float(height),
        x_label=x_label,
        y_label=y_label,
        upright=True,
    )
    chosen = set(highlight)
    places = [
        (name, frame.x(a), frame.y(b), f"{name} ({a:.3g}, {b:.3g})".strip()) for name, a, b in kept
    ]
    room = Labels(frame.left, frame.top, frame.right, frame.bottom, [p[1:3] for p in places], 17.0)
    quiet = "cm" if chosen else "c0"
    parts = [
        dot(a, b, 3.5, f"soft {quiet}", tip) for name, a, b, tip in places if name not in chosen
    ]
    stressed = [place for place in places if place[0] in chosen]
    parts += [dot(a, b, 5.0, "f ring c0", tip) for _, a, b, tip in stressed]
    remark = room.corner(note, "strong") if note else None
    order = {name: rank for rank, name in enumerate(highlight)}
    stressed.sort(key=lambda place: order[place[0]])
    texts = [room.put(name, a, b, "strong") for name, a, b, _ in stressed]
    says = ", ".join(filter(None, (f"{len(kept)} points", note)))
    return drawing(title, width, height, *frame.parts, *parts, *texts, remark, says=says)


def spark(values: Numbers, *, title: str, width: int = 120, height: int = 28) -> Markup:
    """A line without axes, for the cell of a table."""
    heights = floats(values)
    if not finite(heights):
        return tag("span", "n/a", class_="interval")
    x = Scale(0.0, max(1.0, len(heights) - 1.0), 3.0, width - 3.0)
    y = Scale(*spread(finite(heights)), height - 3.0, 3.0)
    places = [(x(float(i)), y(v)) for i, v in enumerate(heights) if math.isfinite(v)]
    parts = [path(places, "s thin c0"), dot(*places[-1], 2.5, "f c0")]
    return tag(
        "svg",
        *parts,
        class_="chart",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )
