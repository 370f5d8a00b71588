"""Steps that many image processors take, as steps of a `Frame`, rounded as they round."""

from __future__ import annotations

import sys
from typing import Any

from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import Grid, tiles


def squashed(frame: Frame, size: Any) -> Frame:
    """Resized to exactly `size["width"]` x `size["height"]`, whatever its shape was."""
    return frame.resize(float(size["width"]), float(size["height"]))


def shortest_edge(frame: Frame, edge: int) -> Frame:
    """Resized so that its shorter side is `edge`; the other is rounded down."""
    short, long = sorted((frame.width, frame.height))
    grown = float(int(edge * long / short))
    wide = frame.width > frame.height
    return frame.resize(*((grown, float(edge)) if wide else (float(edge), grown)))


def centre_crop(frame: Frame, size: Any) -> Frame:
    """The middle `size["width"]` x `size["height"]` of it; what is missing is added as border."""
    width, height = size["width"], size["height"]
    left, top = (frame.width - width) // 2, (frame.height - height) // 2
    return frame.crop(left, top, float(width), float(height))


def padded_square(frame: Frame) -> Frame:
    """Laid in the middle of a square; an odd pixel of border goes to the right and below."""
    side = max(frame.width, frame.height)
    left, top = (side - frame.width) // 2, (side - frame.height) // 2
    return frame.crop(-left, -top, side, side)


def whole_patches(frame: Frame, patch: int) -> tuple[Frame, tuple[int, int]]:
    """Without the pixels beyond the last whole patch, and the rows and columns of patches."""
    rows, cols = int(frame.height) // patch, int(frame.width) // patch
    return frame.crop(0.0, 0.0, float(cols * patch), float(rows * patch)), (rows, cols)


def letterboxed(frame: Frame, shape: tuple[int, int], width: int, height: int) -> Frame:
    """In the middle of a canvas of `width` x `height`; an odd pixel of border goes right or below.

    Args:
        frame: what is shown.
        shape: height and width that it is resized to first.
        width, height: of the canvas.
    """
    left, top = (width - shape[1]) // 2, (height - shape[0]) // 2
    shown = frame.resize(float(shape[1]), float(shape[0]))
    return shown.crop(float(-left), float(-top), float(width), float(height))


def fitted(frame: Frame, side: int, least: int) -> Frame:
    """The longer side `side` pixels long, no side shorter than `least`, in a square's middle."""
    scale = side / max(frame.width, frame.height)
    height = max(round(frame.height * scale), least)
    width = max(round(frame.width * scale), least)
    return letterboxed(frame, (height, width), max(height, width), max(height, width))


def best_tiles(frame: Frame, images: Any, fewest: int, most: int) -> tuple[int, int]:
    """Columns and rows of tiles nearest to a picture's shape, by GOT-OCR2's rule.

    Args:
        frame: what is shown.
        images: the image processor, whose very module has the rule.
        fewest, most: tiles of a picture.
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
    """Tiles row by row and, where there are several, the whole picture as a thumbnail.

    Args:
        frame: what is shown; it is squashed.
        size: of a tile, `size["width"]` x `size["height"]`.
        across: columns and rows of tiles.
        cells: rows and columns of cells of one tile.
        thumbnail_first: whether the thumbnail stands before the tiles instead of behind them.
    """
    width, height = float(size["width"]), float(size["height"])
    canvas = frame.resize(across[0] * width, across[1] * height)
    grids = tiles(canvas, (width, height), cells)
    if len(grids) > 1:
        whole = Grid(squashed(frame, size), *cells, "thumbnail")
        grids = [whole, *grids] if thumbnail_first else [*grids, whole]
    return grids


def early(grid: Grid, by: float) -> Grid:
    """The same cells, `by` of a cell to the left of and above an even division of the canvas.

    For towers whose strided convolutions, padded on all sides, centre a token on its first input.
    """
    width, height = grid.frame.width, grid.frame.height
    left, top = -by * width / grid.cols, -by * height / grid.rows
    return grid._replace(frame=grid.frame.crop(left, top, width, height))


def known(tokenizer: Any, placeholder: str) -> None:
    """Add a placeholder that a processor replaces before its tokenizer is asked.

    So no expression may hold it. Its id lies beyond the embeddings and never reaches a model.
    """
    tokenizer.add_tokens([placeholder], special_tokens=True)
