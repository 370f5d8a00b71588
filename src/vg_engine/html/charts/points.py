"""Points: one number against another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from vg_engine.html.charts import svg
from vg_engine.html.charts.axes import make_axes
from vg_engine.html.charts.labels import Labels
from vg_engine.html.charts.scales import Numbers, check_lengths, floats, round_range, value_range

_WIDTH, _HEIGHT = 390.0, 340.0


def scatter(
    x: Numbers,
    y: Numbers,
    labels: Sequence[str],
    *,
    title: str,
    highlight: Sequence[str] = (),
    note: str = "",
    x_label: str = "",
    y_label: str = "",
) -> Markup:
    """One number against another, a dot per label.

    Args:
        x, y: aligned; a pair with a value that is not finite is left out.
        labels: shown on hovering.
        title: stands above, and is the alternative text.
        highlight: labels that are drawn in the accent colour and written.
        note: in the corner (`Spearman's rho = 0.81`).
        x_label, y_label: names of the axes.

    Raises:
        InputError: lists of different lengths.
    """
    across, down = floats(x), floats(y)
    check_lengths("x, y and labels", across, down, labels)
    kept = [
        (name, a, b)
        for name, a, b in zip(labels, across, down, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not kept:
        return svg.no_data(title, _WIDTH)
    axes = make_axes(
        round_range(*value_range([a for _, a, _ in kept])),
        round_range(*value_range([b for _, _, b in kept])),
        width=_WIDTH,
        height=_HEIGHT,
        x_label=x_label,
        y_label=y_label,
        upright=True,
    )
    dots = [(name, axes.x(a), axes.y(b), f"{name} ({a:.3g}, {b:.3g})") for name, a, b in kept]
    room = Labels(axes.area, [(a, b) for _, a, b, _ in dots], reach=17.0)
    order = {name: rank for rank, name in enumerate(highlight)}
    quiet = "soft cm" if order else "soft c0"
    parts = [svg.dot(a, b, 3.5, quiet, tip) for name, a, b, tip in dots if name not in order]
    stressed = [dot for dot in dots if dot[0] in order]
    parts += [svg.dot(a, b, 5.0, "f ring c0", tip) for _, a, b, tip in stressed]
    remark = room.in_corner(note, "strong") if note else None
    stressed.sort(key=lambda dot: order[dot[0]])
    names = [room.beside(name, a, b, "strong") for name, a, b, _ in stressed]
    description = ", ".join(filter(None, (f"{len(kept)} points", note)))
    parts = [*axes.parts, *parts]
    return svg.chart(title, _WIDTH, _HEIGHT, *parts, *names, remark, description=description)
