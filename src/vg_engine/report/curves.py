"""Lines and clouds: series with intervals, the elbow of a sorted curve, one number against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vg_engine.report.markup import Markup
from vg_engine.report.scales import Numbers


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

    x: float
    y: float
    label: str = ""


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
    width: int = 640,
    height: int = 320,
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
    raise NotImplementedError


def elbow(
    values: Numbers,
    *,
    index: int,
    threshold: float,
    title: str,
    x_label: str = "heads, sorted",
    y_label: str = "mean S_img",
    width: int = 640,
    height: int = 320,
) -> Markup:
    """The S_img curve sorted ascending, with its chord, the elbow, tau, and what is kept.

    Args:
        values: in any order; they are sorted.
        index, threshold: as `core.criteria.elbow` found them; 0 keeps everything.
        title: stands above, and is the alternative text.
        x_label, y_label: of the axes.
        width, height: in CSS pixels.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def spark(values: Numbers, *, title: str, width: int = 120, height: int = 28) -> Markup:
    """A line without axes, for the cell of a table."""
    raise NotImplementedError
