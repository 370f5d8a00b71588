"""Steps that many image processors take, as steps of a `Frame`, rounded as they round."""

from __future__ import annotations

import sys
from typing import Any

from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.grids import Grid, tiles


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


def tiled(frame: Frame, images: Any, cells: tuple[int, int], fewest: int, most: int) -> list[Grid]:
    """Tiles row by row and, where there are several, a thumbnail last: GOT-OCR2's rule.

    Args:
        frame: what is shown.
        images: the image processor; its module has the rule for the canvas of whole tiles.
        cells: rows and columns of cells of one tile.
        fewest, most: tiles of a picture.
    """
    height, width = int(images.size["height"]), int(images.size["width"])
    rule = sys.modules[type(images).__module__].get_optimal_tiled_canvas
    shape = (int(frame.height), int(frame.width))
    cols, rows = rule(shape, (height, width), fewest, most) if most > 1 else (1, 1)
    canvas = frame.resize(float(cols * width), float(rows * height))
    grids = tiles(canvas, (float(width), float(height)), cells)
    if len(grids) > 1:
        grids.append(Grid(squashed(frame, images.size), *cells, "thumbnail"))
    return grids


def known(tokenizer: Any, placeholder: str) -> None:
    """Add a placeholder that a processor replaces before its tokenizer is asked.

    So no expression may hold it. Its id lies beyond the embeddings and never reaches a model.
    """
    tokenizer.add_tokens([placeholder], special_tokens=True)
