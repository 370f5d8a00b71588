"""Masks as COCO run lengths and as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets.masks import from_segmentation


def to_rle(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """Encode a mask as COCO's compressed run lengths: `{"size": [height, width], "counts": text}`.

    >>> to_rle(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': '13'}
    """
    flat = np.asarray(mask, dtype=np.bool_).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    # COCO stores each count after the third as its difference to the last but one.
    steps = [c - counts[i - 2] if i > 2 else c for i, c in enumerate(counts)]
    return {"size": [int(side) for side in mask.shape], "counts": "".join(map(_letters, steps))}


def from_rle(rle: Mapping[str, Any]) -> Bool[np.ndarray, "height width"]:
    """Decode a mask from run lengths; the inverse of `to_rle`.

    Raises:
        InputError: they are damaged, or state no size.
    """
    match rle.get("size"):
        case [int(height), int(width)]:
            pass
        case size:
            raise InputError(f"run lengths of size {size!r:.40}; COCO's size is [height, width]")
    return from_segmentation(dict(rle), (width, height))


def _letters(value: int) -> str:
    """Encode in COCO's base 32: five bits a letter, low bits first, a sixth bit if more follow."""
    letters = ""
    while True:
        part = value & 31
        value >>= 5
        done = value == (-1 if part & 16 else 0)
        letters += chr((part if done else part | 32) + 48)
        if done:
            return letters


def to_png(picture: Image.Image | Bool[np.ndarray, "height width"]) -> bytes:
    """Encode a PNG; a mask becomes grey values 0 and 255."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.where(picture, 255, 0).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
