"""Masks from COCO's segmentations: polygons, and run lengths as numbers or as letters.

pycocotools (the extra `data`) draws polygons, as for published figures. Everything is checked
before it is drawn: for broken run lengths pycocotools itself returns uninitialised memory, and for
a coordinate that is not a number it allocates without limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets import checks
from vg_engine.plugins.pictures import MAX_PIXELS

_POINTS = 3  # least number of points of an outline; fewer enclose no area


def from_segmentation(
    segmentation: object, size: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Draw a segmentation in COCO's format.

    Args:
        segmentation: a list of polygons `[x, y, x, y, ...]` in pixels, which together outline one
            object (an empty list is an empty mask), or run lengths
            `{"size": [height, width], "counts": list or text}`, column by column.
        size: (width, height) of the picture.

    Raises:
        InputError: the segmentation is neither, it does not fit the picture, or pycocotools is not
            installed.

    >>> from_segmentation({"size": [2, 2], "counts": [1, 3]}, (2, 2)).tolist()
    [[False, True], [True, True]]
    """
    width, height = size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(
            f"a picture of {width} x {height} cannot have a mask; correct its width and height"
        )
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    if not isinstance(segmentation, list):
        raise InputError(
            f"a segmentation is a list of polygons or run lengths, not a "
            f"{type(segmentation).__name__}; correct the annotation"
        )
    polygons = [_polygon(number, one, size) for number, one in enumerate(segmentation)]
    closed = [polygon for polygon in polygons if len(polygon) >= 2 * _POINTS]
    if polygons and not closed:
        raise InputError(f"no polygon of {len(polygons)} has three points; correct the annotation")
    return _filled(closed, size) if closed else np.zeros((height, width), np.bool_)


def _polygon(number: int, given: object, size: tuple[int, int]) -> list[float]:
    """Check the coordinates of one polygon."""
    values = checks.numbers(given)
    if len(values) % 2:
        raise InputError(
            f"polygon {number} has {len(values)} numbers, and x and y make pairs; "
            "correct the annotation"
        )
    # Drawing needs memory by a polygon's length: one that reaches far outside is an error.
    for axis, side in enumerate(size):
        for value in values[axis::2]:
            if not -side <= value <= 2 * side:
                raise InputError(
                    f"polygon {number} reaches {'xy'[axis]} = {value:g}, far outside its picture "
                    f"of {size[0]} x {size[1]}; correct the annotation"
                )
    return values


def _filled(polygons: list[list[float]], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    try:
        from pycocotools import mask as coco  # type: ignore[import-untyped] # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            f"masks of polygons need pycocotools ({error}); pip install 'vg-engine[data]'"
        ) from error
    # Merged, not summed: where two polygons of one object overlap, a sum is 2.
    return _from_runs(coco.merge(coco.frPyObjects(polygons, size[1], size[0])), size)


def _from_runs(runs: dict[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    width, height = size
    if runs.get("size") not in ([height, width], (height, width)):
        raise InputError(
            f"run lengths of size {runs.get('size')!r:.40} do not fit a picture of {width} x "
            f"{height}; COCO's size is [{height}, {width}], the height first"
        )
    counts = runs.get("counts")
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        counts = _numbers(counts)
    if isinstance(counts, np.ndarray):
        counts = counts.tolist()
    if not isinstance(counts, list) or any(type(one) is not int or one < 0 for one in counts):
        raise InputError("run lengths are a list of counts, or text; correct the annotation")
    if sum(counts) != width * height:
        raise InputError(
            f"run lengths cover more or fewer than the {width * height} pixels of a picture of "
            f"{width} x {height}; the annotation is cut short or of another picture"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    mask: Bool[np.ndarray, "height width"] = flat.reshape((height, width), order="F").copy("C")
    return mask


def _numbers(text: str) -> list[int]:
    """Decode counts from COCO's letters: five bits each, low bits first, a sixth if more follow.

    From the fourth on, a count is stored as its difference to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        part = ord(letter) - 48
        if not 0 <= part < 64 or shift > 60:
            raise InputError("run lengths hold letters that COCO does not write; copy them again")
        value |= (part & 31) << shift
        shift += 5
        if part & 32:
            continue
        if part & 16:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("run lengths end in the middle of a number; copy them again")
    return counts
