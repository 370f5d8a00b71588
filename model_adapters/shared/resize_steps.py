"""Resizing steps of many image processors, as steps of a `Frame`, with the same rounding."""

from __future__ import annotations

import sys
from typing import Any

from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import Grid, tiles


def squashed(frame: Frame, size: Any) -> Frame:
    """Resize to exactly `size["width"]` x `size["height"]`, whatever the shape was."""
    return frame.resize(float(size["width"]), float(size["height"]))


def shortest_edge(frame: Frame, edge: int) -> Frame:
    """Resize so that the shorter side is `edge`; the other is rounded down."""
    short, long = sorted((frame.width, frame.height))
    grown = float(int(edge * long / short))
    wide = frame.width > frame.height
    return frame.resize(*((grown, float(edge)) if wide else (float(edge), grown)))


def centre_crop(frame: Frame, size: Any) -> Frame:
    """Crop the middle `size["width"]` x `size["height"]`; missing parts become border."""
    width, height = size["width"], size["height"]
    left, top = (frame.width - width) // 2, (frame.height - height) // 2
    return frame.crop(left, top, float(width), float(height))


def padded_square(frame: Frame) -> Frame:
    """Pad to a square around the picture; an odd pixel of border goes to the right and below."""
    side = max(frame.width, frame.height)
    left, top = (side - frame.width) // 2, (side - frame.height) // 2
    return frame.crop(-left, -top, side, side)


def whole_patches(frame: Frame, patch: int) -> tuple[Frame, tuple[int, int]]:
    """Cut the pixels beyond the last whole patch; returns also the rows and columns of patches."""
    rows, cols = int(frame.height) // patch, int(frame.width) // patch
    return frame.crop(0.0, 0.0, float(cols * patch), float(rows * patch)), (rows, cols)


def letterboxed(frame: Frame, shape: tuple[int, int], width: int, height: int) -> Frame:
    """Resize, and pad to a canvas around the picture; an odd pixel goes to the right or below.

    Args:
        frame: the picture's frame.
        shape: height and width that it is resized to first.
        width, height: size of the canvas.
    """
    left, top = (width - shape[1]) // 2, (height - shape[0]) // 2
    shown = frame.resize(float(shape[1]), float(shape[0]))
    return shown.crop(float(-left), float(-top), float(width), float(height))


def fitted(frame: Frame, side: int, least: int) -> Frame:
    """Resize the longer side to `side` pixels, no side below `least`, in the middle of a square."""
    scale = side / max(frame.width, frame.height)
    height = max(round(frame.height * scale), least)
    width = max(round(frame.width * scale), least)
    return letterboxed(frame, (height, width), max(height, width), max(height, width))


def best_tiles(frame: Frame, images: Any, fewest: int, most: int) -> tuple[int, int]:
    """Choose the columns and rows of tiles nearest to a picture's shape, by GOT-OCR2's rule.

    Args:
        frame: the picture's frame.
        images: the image processor; its module contains the rule.
        fewest, most: bounds of the number of tiles.
    """
    if most <= 1:
        return 1, 1
    rule = sys.modules[type(images).__module__].get_optimal_tiled_canvas
    tile = int(images.size["height"]), int(images.size["width"])
    cols, rows = rule((int(frame.height), int(frame.width)), tile, fewest, most)
    return int(cols), int(rows)


def tiled(
    frame: Frame,
    size: Any,
    across: tuple[int, int],
    cells: tuple[int, int],
    *,
    thumbnail_first: bool = False,
) -> list[Grid]:
    """Make grids of tiles, row by row, and of the whole picture as thumbnail if there are several.

    Args:
        frame: the picture's frame; it is squashed.
        size: size of a tile, `size["width"]` x `size["height"]`.
        across: columns and rows of tiles.
        cells: rows and columns of cells of one tile.
        thumbnail_first: whether the thumbnail comes before the tiles instead of after them.
    """
    width, height = float(size["width"]), float(size["height"])
    canvas = frame.resize(across[0] * width, across[1] * height)
    grids = tiles(canvas, (width, height), cells)
    if len(grids) > 1:
        whole = Grid(squashed(frame, size), *cells, "thumbnail")
        grids = [whole, *grids] if thumbnail_first else [*grids, whole]
    return grids


def early(grid: Grid, by: float) -> Grid:
    """Shift the cells by a share `by` of a cell, to the left of and above an even division.

    For towers whose strided convolutions, padded on all sides, centre a token on its first input.
    """
    width, height = grid.frame.width, grid.frame.height
    left, top = -by * width / grid.cols, -by * height / grid.rows
    return grid._replace(frame=grid.frame.crop(left, top, width, height))


def known(tokenizer: Any, placeholder: str) -> None:
    """Add a placeholder that the processor replaces before it calls the tokenizer.

    Thereby expressions that contain it are refused. Its id lies beyond the embeddings and never
    reaches a model.
    """
    tokenizer.add_tokens([placeholder], special_tokens=True)
