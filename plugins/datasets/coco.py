"""`coco:/data/instances.json?images=/data/pics`: any detection set in COCO's format.

The expression comes from the name of the category, or from a field of each annotation:

- `text=category` asks `zebra`, `text=the {category}` asks `the zebra`;
- `text=caption`, `text=text` or `text=description` asks the annotation's field of that name.

`each=annotation` makes a sample of every annotation: its truth is one box, though the picture may
show other objects of its category. `each=category` makes a sample of every category of a picture:
its truth is all boxes of the category. Groups of objects outlined as one (`iscrowd`) are left out
and counted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, as_fault, fit_boxes
from vg_engine.plugins.datasets import checks
from vg_engine.plugins.datasets.coco_file import (
    CocoAnnotation,
    CocoFile,
    check_extent,
    drawn,
    xyxy,
)

EACH = ("annotation", "category")
FIELDS = ("caption", "text", "description")
_EXAMPLE = "coco:/data/instances.json?images=/data/pictures"
_HOLE = "{category}"
_TRIED = 20  # number of missing pictures after which the folder is refused


def coco(
    path: Path | None, *, images: str = "", each: str = "annotation", text: str = "category"
) -> DataSet:
    """Read the objects of a COCO file, or the categories of its pictures.

    Args:
        path: the JSON file.
        images: the folder of the pictures; by default the file's own.
        each: make a sample of each `annotation` or each `category` (of a picture).
        text: `category`, a template that contains `{category}`, or the annotations' own field
            `caption`, `text` or `description`.

    Raises:
        InputError: a file or folder is missing, the file is not in COCO's format, the folder has
            none of the pictures, or an option is unknown.
    """
    checks.chosen("each", each, EACH)
    field = _field(text, each)
    file = checks.need_file("coco", path, _EXAMPLE)
    folder = checks.need_folder(
        "coco", Path(images).expanduser() if images else file.parent, _EXAMPLE
    )
    data = CocoFile.read(file)
    _look_for(data, folder)
    asked = functools.partial(_asked, data, text, _sentences(file, field) if field else None)
    read = _by_annotation if each == "annotation" else _by_category
    crowds = sum(annotation.iscrowd for annotation in data.annotations.values())
    return DataSet(
        name=checks.written("coco", file, images=images, each=each, text=text),
        records=lambda: read(data, folder, asked),
        revision=checks.digest("coco", each, text, data.revision),
        statements=_statements(crowds, each),
    )


def _statements(crowds: int, each: str) -> tuple[str, ...]:
    statements = []
    if crowds:
        statements.append(f"{crowds} annotations of crowds (iscrowd) are left out")
    if each == "annotation":
        statements.append("each annotation is asked alone, even where others fit its words as well")
    return tuple(statements)


def _field(text: str, each: str) -> str:
    """Find the annotations' field that holds the expressions; empty if the category does."""
    if text in FIELDS:
        if each == "category":
            raise InputError(
                f"text={text} is an annotation's own; ask each=annotation, or text=category"
            )
        return text
    if text != "category" and text.count(_HOLE) != 1:
        known = ", ".join(("category", *FIELDS))
        raise InputError(f"text={text}: write {known}, or a phrase that holds {_HOLE} once")
    return ""


def _look_for(data: CocoFile, folder: Path) -> None:
    """Refuse a folder without any of the first pictures: every sample would fail later."""
    names = [image.file_name for _, image in zip(range(_TRIED), data.images.values(), strict=False)]
    if names and not any((folder / name).is_file() for name in names):
        raise InputError(
            f"{folder} holds no {names[0]} (nor the {len(names) - 1} after it); name the folder of "
            "the pictures with images="
        )


def _sentences(file: Path, field: str) -> dict[int, object]:
    """Read the annotations' own expressions by id; the file is read again for these alone."""

    def small(record: dict[str, Any]) -> dict[str, Any]:
        if "image_id" in record:
            return {"id": record.get("id"), field: record.get(field)}
        return record if "annotations" in record else {}

    rows = json.loads(checks.read_bytes(file), object_hook=small)["annotations"]
    return {int(row["id"]): row[field] for row in rows}


def _asked(
    data: CocoFile,
    text: str,
    sentences: dict[int, object] | None,
    annotation: CocoAnnotation,
) -> tuple[str, str | None]:
    """Find the expression of an annotation, and its category.

    Raises:
        InputError: it has no expression.
    """
    number = annotation.category_id
    category = None if number is None else data.categories.get(number)
    if sentences is not None:
        sentence = sentences.get(annotation.id)
        if not isinstance(sentence, str):
            raise InputError(f"it has no {text}; ask text=category")
        return sentence, category
    if category is None:
        raise InputError(f"its category {number} is not in the file; correct the file")
    return text.replace(_HOLE, category) if text != "category" else category, category


_Asked = functools.partial[tuple[str, str | None]]


def _by_annotation(data: CocoFile, folder: Path, asked: _Asked) -> Iterator[Sample | Fault]:
    for annotation in data.annotations.values():
        if annotation.iscrowd:
            continue
        name = str(annotation.id)
        try:
            yield _sample(name, data, folder, asked, [annotation])
        except VGError as error:
            yield as_fault(f"annotation {name}", error)


def _by_category(data: CocoFile, folder: Path, asked: _Asked) -> Iterator[Sample | Fault]:
    found: dict[tuple[int, object], list[CocoAnnotation]] = {}
    for annotation in data.annotations.values():
        if not annotation.iscrowd:
            # By name: two categories may share one, and are asked with the same words.
            category = annotation.category_id
            called = category if category is None else data.categories.get(category, category)
            found.setdefault((annotation.image_id, called), []).append(annotation)
    for (image, _), together in found.items():
        category = together[0].category_id
        name = f"{image}-{category}"
        try:
            yield _sample(name, data, folder, asked, together)
        except VGError as error:
            yield as_fault(f"category {category} of picture {image}", error)


def _sample(
    name: str, data: CocoFile, folder: Path, asked: _Asked, together: Sequence[CocoAnnotation]
) -> Sample:
    """Make one sample whose truth is all of the annotations together."""
    image = data.images.get(together[0].image_id)
    if image is None:
        raise InputError(f"its picture {together[0].image_id} is not in the file; correct the file")
    text, category = asked(together[0])
    outlined = all(annotation.outline for annotation in together)
    boxes = checks.boxes_array([xyxy(annotation.bbox) for annotation in together])
    fitting = fit_boxes(boxes, image.size)
    for annotation in together:
        check_extent(annotation)
    return Sample(
        id=name,
        picture=str(image.id),
        image=str(folder / image.file_name),
        text=text,
        boxes=fitting,
        mask=functools.partial(drawn, together, image.size) if outlined else None,
        target=name,
        groups={} if category is None else {"category": category},
        size=image.size,
    )
