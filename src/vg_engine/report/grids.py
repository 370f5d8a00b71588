"""Cells: a value per layer and head, and which heads each draw chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vg_engine.report.markup import Markup


def heat(
    matrix: Float[np.ndarray, "rows cols"],
    *,
    title: str,
    row_label: str = "layer",
    col_label: str = "head",
    value_label: str = "",
    marks: Sequence[tuple[int, int]] = (),
    name: str = "L{row}H{col}",
    low: float | None = None,
    high: float | None = None,
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
    raise NotImplementedError


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
    raise NotImplementedError
