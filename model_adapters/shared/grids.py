"""Grids of image tokens, and the views that they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from vg_engine.core.errors import TokenCountError, UnsupportedModelError
from vg_engine.core.geometry import Frame, View


class Grid(NamedTuple):
    """A rectangle of image tokens, row by row, in the order of the sequence.

    Attributes:
        frame: the canvas that its cells divide evenly.
        rows, cols: number of cells per axis.
        name: for messages and plots.
        skip: number of tokens before the first cell that are not cells (a class token).
        row_end: number of tokens at the end of each row that are not cells (a newline with the
            image token's id).
        tail: number of tokens after the last row that are not cells.
    """

    frame: Frame
    rows: int
    cols: int
    name: str = "picture"
    skip: int = 0
    row_end: int = 0
    tail: int = 0

    @property
    def tokens(self) -> int:
        """Count the tokens of this grid, cells and others."""
        return self.skip + self.rows * (self.cols + self.row_end) + self.tail


def tiles(
    canvas: Frame, tile: tuple[float, float], shape: tuple[int, int], *, skip: int = 0
) -> list[Grid]:
    """Make a grid for each tile of a canvas of whole tiles, row by row.

    Args:
        canvas: the picture on the canvas of all tiles together.
        tile: width and height of a tile, in pixels of the canvas.
        shape: rows and columns of cells of one tile.
        skip: leading tokens of each tile, see `Grid`.
    """
    width, height = tile
    across, down = round(canvas.width / width), round(canvas.height / height)
    return [
        Grid(
            canvas.crop(col * width, row * height, width, height),
            *shape,
            f"tile {row},{col}",
            skip=skip,
        )
        for row in range(down)
        for col in range(across)
    ]


def views_of(
    grids: Sequence[Grid], positions: Int64[np.ndarray, " tokens"], *, model: str
) -> list[View]:
    """Make the views of one picture.

    Args:
        grids: the picture's grids, in the order of the sequence.
        positions: positions of the picture's tokens on the key axis.
        model: the model's name, for messages.

    Raises:
        TokenCountError: there are more or fewer tokens than the grids need.
        UnsupportedModelError: a cell is dropped.
    """
    if any(grid.skip < 0 for grid in grids):
        raise UnsupportedModelError(
            f"{model} drops the first cell of its picture as if it were a class token, which its "
            "vision tower has not; set vision_feature_select_strategy to full in its config.json"
        )
    expected = sum(grid.tokens for grid in grids)
    if expected != len(positions):
        shapes = ", ".join(f"{grid.name} {grid.rows} x {grid.cols}" for grid in grids)
        raise TokenCountError(
            f"{model}: expected {expected} image tokens ({shapes}), the processor made "
            f"{len(positions)}; the model's config and its processor do not belong together"
        )
    views, start = [], 0
    for grid in grids:
        first = start + grid.skip
        last = first + grid.rows * (grid.cols + grid.row_end)
        rows = positions[first:last].reshape(grid.rows, grid.cols + grid.row_end)
        views.append(grid.frame.view(rows[:, : grid.cols], grid.name))
        start = last + grid.tail
    return views
