"""Grids of image tokens, and the views that they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from vg_engine.core.errors import TokenCountError
from vg_engine.core.geometry import Frame, View


class Grid(NamedTuple):
    """A rectangle of image tokens, row by row, in the order in which they stand in the sequence.

    Attributes:
        frame: the canvas that its cells divide evenly.
        rows, cols: how many cells.
        name: for messages and plots.
        skip: tokens that stand before the first cell and are no cell (a class token).
    """

    frame: Frame
    rows: int
    cols: int
    name: str = "picture"
    skip: int = 0


def views_of(
    grids: Sequence[Grid], positions: Int64[np.ndarray, " tokens"], *, model: str
) -> list[View]:
    """The views of one picture.

    Args:
        grids: in the order of the sequence.
        positions: of the picture's tokens on the key axis.
        model: for the message.

    Raises:
        TokenCountError: there are more or fewer tokens than the grids hold.
    """
    expected = sum(grid.skip + grid.rows * grid.cols for grid in grids)
    if expected != len(positions):
        shapes = ", ".join(f"{grid.name} {grid.rows} x {grid.cols}" for grid in grids)
        raise TokenCountError(
            f"{model}: expected {expected} image tokens ({shapes}), the processor made "
            f"{len(positions)}; the model's config and its processor do not belong together"
        )
    views, start = [], 0
    for grid in grids:
        start += grid.skip
        end = start + grid.rows * grid.cols
        cells = positions[start:end].reshape(grid.rows, grid.cols)
        views.append(grid.frame.view(cells, grid.name))
        start = end
    return views
