"""Steps that many image processors take, as steps of a `Frame`, rounded as they round."""

from __future__ import annotations

from typing import Any

from vg_engine.core.geometry import Frame


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
