"""A COCO file of instances (`instances.json`), read once and kept small.

Only the fields that grounding needs are kept, and outlines are packed while the file is parsed:
COCO's files have tens of millions of coordinates.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import TrueMask
from vg_engine.plugins.datasets import checks, masks

_AGREE = 0.5  # least IoU of a box and the extent of its own outline
_LEFT_OUT = object()  # replaces an annotation that was not requested


@dataclass(frozen=True, slots=True)
class CocoImage:
    """A picture: the name of its file, and its width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True, eq=False)
class CocoAnnotation:
    """One object of a picture.

    Attributes:
        id, image_id: its own number and its picture's.
        category_id: number of its category; None = not stated.
        bbox: x, y, width, height in pixels, unchecked (see `xyxy`); None = not known.
        iscrowd: it outlines a group, not one object.
        outline: the packed form of `segmentation`.
    """

    id: int
    image_id: int
    category_id: int | None
    bbox: object
    iscrowd: bool
    outline: object

    @property
    def segmentation(self) -> object:
        """Its polygons (a list) or run lengths (a mapping), unchecked; None = not known."""
        if isinstance(self.outline, tuple):
            return [polygon.tolist() for polygon in self.outline]
        return self.outline


def xyxy(bbox: object) -> tuple[float, float, float, float]:
    """Convert a COCO box (x, y, width, height) to xyxy, right and bottom exclusive, in pixels.

    Raises:
        InputError: it is not four finite numbers, or has no area.

    >>> xyxy([1, 2, 3, 4])
    (1.0, 2.0, 4.0, 6.0)
    """
    return checks.box(bbox, "xywh")


@dataclass(frozen=True, eq=False)
class CocoFile:
    """The contents of a COCO file of instances, by id.

    Attributes:
        images, annotations, categories: by their ids; a category is its name.
        revision: SHA-256 of the file's bytes.
    """

    images: Mapping[int, CocoImage]
    annotations: Mapping[int, CocoAnnotation]
    categories: Mapping[int, str]
    revision: str

    @classmethod
    def read(cls, path: Path, *, annotations: Collection[int] | None = None) -> CocoFile:
        """Read a file.

        Args:
            path: the JSON file.
            annotations: ids of the annotations to keep; None = all.

        Raises:
            InputError: the file cannot be read, is not JSON or not a file of instances, or repeats
                an id.
        """
        data = checks.read_bytes(path)
        kept = None if annotations is None else frozenset(annotations)
        held = _parsed(path, data, kept)
        return cls(
            images=_images(path, _rows(path, held, "images")),
            annotations=_annotations(path, _rows(path, held, "annotations")),
            categories=_categories(path, held),
            revision=checks.digest(data),
        )


def _parsed(path: Path, data: bytes, kept: frozenset[int] | None) -> dict[str, Any]:
    def small(pairs: list[tuple[str, Any]]) -> object:
        record = checks.once(pairs)
        if "image_id" not in record:
            return record
        if kept is not None and record.get("id") not in kept:
            return _LEFT_OUT
        record["segmentation"] = _packed(record.get("segmentation"))
        return record

    held = checks.parse_json(path, data, small)
    if not isinstance(held, dict):
        raise InputError(f"{path} holds no mapping with images and annotations; is it COCO's?")
    return held


def _packed(segmentation: object) -> object:
    """Pack polygons as arrays of numbers; anything else is kept, and refused when it is drawn."""
    if not isinstance(segmentation, list):
        return segmentation
    try:
        return tuple(array("d", polygon) for polygon in segmentation)
    except (TypeError, OverflowError):
        return segmentation


def _rows(path: Path, held: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = held.get(key)
    if not isinstance(rows, list):
        raise InputError(f"{path} has no list {key!r}; it should be COCO's file of instances")
    found = [row for row in rows if row is not _LEFT_OUT]
    for place, row in enumerate(found):
        if not isinstance(row, dict):
            raise InputError(f"{path}: {key} hold what is no mapping, at {place}; correct the file")
    return found


def _whole(path: Path, what: str, row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    # Some tools write ids as text.
    found = checks.whole(int(value) if isinstance(value, str) and value.isdecimal() else value)
    if found is None:
        raise InputError(f"{path}: {key!r} of {what} is not a whole number; fix the file")
    return found


def _images(path: Path, rows: list[dict[str, Any]]) -> Mapping[int, CocoImage]:
    found: dict[int, CocoImage] = {}
    for place, row in enumerate(rows):
        number = _whole(path, f"picture {place}", row, "id")
        what = f"the picture of id {number}"
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: {what} has no 'file_name'; correct the file")
        width, height = (_whole(path, what, row, key) for key in ("width", "height"))
        if width < 1 or height < 1:
            raise InputError(f"{path}: {what} is {width} x {height} pixels; correct the file")
        if number in found:
            raise InputError(f"{path}: two pictures have the id {number}; give each its own")
        found[number] = CocoImage(number, name, width, height)
    return MappingProxyType(found)


def _annotations(path: Path, rows: list[dict[str, Any]]) -> Mapping[int, CocoAnnotation]:
    found: dict[int, CocoAnnotation] = {}
    for place, row in enumerate(rows):
        number = _whole(path, f"annotation {place}", row, "id")
        if number in found:
            raise InputError(f"{path}: two annotations have the id {number}; give each its own")
        what = f"the annotation of id {number}"
        named = row.get("category_id") is not None
        found[number] = CocoAnnotation(
            id=number,
            image_id=_whole(path, what, row, "image_id"),
            category_id=_whole(path, what, row, "category_id") if named else None,
            bbox=row.get("bbox"),
            iscrowd=row.get("iscrowd") not in (None, 0, "0"),
            outline=row.get("segmentation"),
        )
    return MappingProxyType(found)


def _categories(path: Path, held: dict[str, Any]) -> Mapping[int, str]:
    if "categories" not in held:
        return MappingProxyType({})
    found: dict[int, str] = {}
    for place, row in enumerate(_rows(path, held, "categories")):
        number = _whole(path, f"category {place}", row, "id")
        name = row.get("name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: the category of id {number} has no 'name'; correct the file")
        if found.setdefault(number, name) != name:
            raise InputError(f"{path}: two categories have the id {number}; give each its own")
    return MappingProxyType(found)


def check_extent(annotation: CocoAnnotation) -> None:
    """Refuse a box that is far from its own outline, as it has another form.

    Raises:
        InputError: their IoU is below one half.
    """
    polygons = annotation.outline
    if not isinstance(polygons, tuple) or not any(len(polygon) > 1 for polygon in polygons):
        return
    left, top, right, bottom = xyxy(annotation.bbox)
    across = [x for polygon in polygons for x in polygon[0::2]]
    down = [y for polygon in polygons for y in polygon[1::2]]
    outline = min(across), min(down), max(across), max(down)
    shared = max(0.0, min(right, outline[2]) - max(left, outline[0])) * max(
        0.0, min(bottom, outline[3]) - max(top, outline[1])
    )
    areas = (right - left) * (bottom - top)
    areas += (outline[2] - outline[0]) * (outline[3] - outline[1])
    if shared < _AGREE * (areas - shared):
        raise InputError(
            f"the box of annotation {annotation.id} is far from its own outline; "
            "is it x, y, width, height?"
        )


def drawn(annotations: Iterable[CocoAnnotation], size: tuple[int, int]) -> TrueMask:
    """Draw the union of annotations of a picture of this (width, height).

    Raises:
        InputError: one has no outline that can be drawn; see `masks.from_segmentation`.
    """
    union = masks.from_segmentation([], size)
    for each in annotations:
        union |= masks.from_segmentation(each.segmentation, size)
    return TrueMask(union)
