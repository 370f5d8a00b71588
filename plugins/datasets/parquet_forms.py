"""The forms in which sets of referring expressions are stored on the Hugging Face hub.

A form is recognised by its columns and named after the first set that used it. The meaning of a
row was checked against the sets' own cards; anything the cards leave open is checked row by row.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.errors import InputError, VGError, nearest
from vg_engine.core.evaluation.samples import Fault, Sample, TrueMask, as_fault, fit_boxes
from vg_engine.plugins.datasets import checks, masks
from vg_engine.plugins.datasets.parquet_files import Row

# The source of a row's picture: a reader of its bytes, or the folder of its file.
Source = Callable[[], bytes] | Path
_COCO_NAME = re.compile(r"COCO_\w+?_(\d{12})(?:_\d+)?\.jpg")
_SAME = 0.02  # largest difference in pixels between two notations of one box
_OUTLINE = 1.0  # largest difference in pixels between an outline's extent and its box


@dataclass(frozen=True)
class Form:
    """One column layout of a data set.

    Attributes:
        name: its name for `form=`.
        needs: the columns that identify it.
        also: optional columns.
        image: the column of the pictures; empty = they are files of a folder.
        samples: function from a row and its picture's source to samples.
        statements: remarks for the user.
    """

    name: str
    needs: tuple[str, ...]
    also: tuple[str, ...]
    image: str
    samples: Callable[[Row, Source], Iterator[Sample | Fault]]
    statements: tuple[str, ...] = ()

    def columns(self, there: Sequence[str]) -> list[str]:
        """Choose the columns to read: all that the form uses but the pictures."""
        wanted = (*self.needs, *self.also)
        return [name for name in there if name in wanted and name != self.image]


def detect(columns: Sequence[str], form: str) -> Form:
    """Detect the form of a file.

    Args:
        columns: the file's columns.
        form: its name, if the user gave one.

    Raises:
        InputError: no form, or more than one, has these columns.
    """
    known = {each.name: each for each in forms()}
    if form and form not in known:
        raise InputError(f"form={form} is not known; {nearest(form, known)}")
    wanted = [known[form]] if form else list(known.values())
    fitting = [each for each in wanted if set(each.needs) <= set(columns)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(f"columns of several forms; write form={' or form='.join(known)}")
    needs = "; ".join(f"{each.name} needs {', '.join(each.needs)}" for each in wanted)
    raise InputError(
        f"columns {', '.join(columns)} are of no known form ({needs}); write the set as JSONL"
    )


def forms() -> tuple[Form, ...]:
    """List all known forms."""
    return (
        Form(
            name="lmms",
            needs=("image", "answer", "bbox", "segmentation"),
            also=("iscrowd", "file_name"),
            image="image",
            samples=_lmms,
            statements=(
                "outlines are one flat list of points; a thing in several parts has no mask",
            ),
        ),
        Form(
            name="refcoco",
            needs=("sentences", "bbox", "raw_anns", "image_path"),
            also=("ref_id", "ann_id", "image_id", "split", "raw_image_info"),
            image="",
            samples=_refcoco,
        ),
        Form(
            name="refcoco-benchmark",
            needs=("image", "ref_list"),
            also=("image_info",),
            image="image",
            samples=_benchmark,
        ),
        Form(
            name="refcoco-m",
            needs=("image", "samples"),
            also=("image_id",),
            image="image",
            samples=_refcoco_m,
        ),
    )


def _tried(name: str, form: str, read: Callable[[], list[Sample]]) -> Iterator[Sample | Fault]:
    """Yield the samples of one record, or a single fault."""
    try:
        yield from read()
    except VGError as error:
        yield as_fault(name, InputError(f"{name}: {error}"))
    # A value that is missing or of another type than the form's.
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        yield Fault(name, f"{name} is not of the form {form} ({cause:.120}); download it again")


# lmms: `question` is the same for all; `answer` holds the expressions. xywh.


def _lmms(row: Row, image: Source) -> Iterator[Sample | Fault]:
    yield from _tried(f"row {row.number}", "lmms", lambda: _lmms_samples(row, image))


def _lmms_samples(row: Row, image: Any) -> list[Sample]:
    values = row.values
    corners = checks.box(values["bbox"], "xywh")
    outline = values["segmentation"]
    mask = None
    if not values.get("iscrowd") and outline and _spans(outline, corners):
        mask = functools.partial(_flat, outline, image)
    name = str(values.get("file_name") or f"row-{row.number}")
    coco = _COCO_NAME.fullmatch(PurePosixPath(name).name)
    return [
        Sample(
            # Its question_id is not unique: one split may combine two published ones.
            id=f"{row.number}-{k}",
            picture=str(int(coco[1])) if coco else name,
            image=image,
            text=text,
            boxes=checks.boxes_array([corners]),
            mask=mask,
        )
        for k, text in enumerate(_texts(values["answer"]))
    ]


def _spans(outline: object, corners: tuple[float, float, float, float]) -> bool:
    """Check that an outline's extent equals the box, so that it is complete and in one part."""
    values = checks.numbers(outline)
    if len(values) < 6 or len(values) % 2:
        return False
    across, down = values[0::2], values[1::2]
    extent = min(across), min(down), max(across), max(down)
    return np.allclose(extent, corners, rtol=0, atol=_OUTLINE)


def _flat(outline: list[Any], image: Callable[[], bytes]) -> TrueMask:
    return TrueMask(masks.from_segmentation([outline], checks.upright_size(image())))


# refcoco: a row is a reference; no card states the form of `bbox`, `raw_anns` is COCO's own.


def _refcoco(row: Row, folder: Source) -> Iterator[Sample | Fault]:
    yield from _tried(f"row {row.number}", "refcoco", lambda: _refcoco_samples(row, folder))


def _refcoco_samples(row: Row, folder: Any) -> list[Sample]:
    values = row.values
    annotation = json.loads(values["raw_anns"])
    info = json.loads(values.get("raw_image_info") or "{}")
    corners = checks.box(annotation["bbox"], "xywh")
    stated, original = checks.numbers(values["bbox"]), checks.numbers(annotation["bbox"])
    if not (_alike(stated, corners) or _alike(stated, original)):
        raise InputError(
            f"bbox {stated} is neither the box of raw_anns ({original}, xywh) nor its xyxy; "
            "take the newest files of the set"
        )
    size = (info["width"], info["height"]) if "width" in info else None
    return _of_reference(
        values,
        sentences=values["sentences"],
        image=str(_in_folder(folder, values["image_path"])),
        boxes=_fitted(corners, size),
        mask=_coco_mask(annotation, size),
        size=size,
    )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and np.allclose(one, other, rtol=0, atol=_SAME)


def _in_folder(folder: Path, stated: str) -> Path:
    """Find a picture by its stated path or, without the path's folders, by its name."""
    for place in (folder / stated, folder / PurePosixPath(stated).name):
        if place.is_file():
            return place
    raise InputError(f"{PurePosixPath(stated).name} is not in {folder}; check images=")


# refcoco-benchmark: a row is a picture with all its references. xywh.


def _benchmark(row: Row, image: Source) -> Iterator[Sample | Fault]:
    for place, reference in enumerate(row.values["ref_list"] or ()):
        read = functools.partial(_benchmark_samples, row, reference, image)
        yield from _tried(f"row {row.number} reference {place}", "refcoco-benchmark", read)


def _benchmark_samples(row: Row, reference: Mapping[str, Any], image: Any) -> list[Sample]:
    annotation, stated = reference["ann_info"], reference["ref_info"]
    if stated["ann_id"] != annotation["id"]:
        raise InputError(
            f"its ann_id is {stated['ann_id']}, but its annotation has the id {annotation['id']}"
        )
    info = row.values.get("image_info") or {}
    size = (info["width"], info["height"]) if info.get("width") else None
    return _of_reference(
        stated,
        sentences=stated["sentences"],
        image=image,
        boxes=_fitted(checks.box(annotation["bbox"], "xywh"), size),
        mask=_coco_mask(annotation, size),
        size=size,
    )


# refcoco-m: a row is a picture with its objects; the masks are run lengths. xywh.


def _refcoco_m(row: Row, image: Source) -> Iterator[Sample | Fault]:
    for place, thing in enumerate(row.values["samples"] or ()):
        read = functools.partial(_refcoco_m_samples, row, thing, image)
        yield from _tried(f"row {row.number} object {place}", "refcoco-m", read)


def _refcoco_m_samples(row: Row, thing: Mapping[str, Any], image: Any) -> list[Sample]:
    runs = thing["mask"]
    height, width = runs["size"]
    boxes = _fitted(checks.box(thing["bbox"], "xywh"), (width, height))
    return [
        Sample(
            id=f"{thing['id']}-{k}",
            picture=str(row.values.get("image_id", row.number)),
            image=image,
            text=text,
            boxes=boxes,
            mask=functools.partial(_drawn, runs, (width, height)),
            target=str(thing["id"]),
            groups={"category": thing["category"]} if thing.get("category") else {},
            size=(width, height),
        )
        for k, text in enumerate(_texts(thing["sentences"]))
    ]


# Parts common to several forms.


def _of_reference(
    stated: Mapping[str, Any],
    *,
    sentences: object,
    image: Any,
    boxes: Float64[np.ndarray, "n 4"],
    mask: Callable[[], TrueMask] | None,
    size: tuple[int, int] | None,
) -> list[Sample]:
    """Make the samples of a reference in REFER's form: `sent` is the cleaned expression."""
    if not isinstance(sentences, list):
        raise InputError("its sentences are not a list; take the newest files of the set")
    return [
        Sample(
            id=f"{stated['ref_id']}-{sentence['sent_id']}",
            picture=str(stated["image_id"]),
            image=image,
            text=sentence.get("sent") or sentence.get("raw") or "",
            boxes=boxes,
            mask=mask,
            target=str(stated["ann_id"]),
            groups={"split": stated["split"]} if stated.get("split") else {},
            size=size,
        )
        for sentence in sentences
    ]


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise InputError("it has no list of sentences")
    return value


def _fitted(
    corners: tuple[float, float, float, float], size: tuple[int, int] | None
) -> Float64[np.ndarray, "n 4"]:
    boxes = checks.boxes_array([corners])
    return boxes if size is None else fit_boxes(boxes, size)


def _coco_mask(
    annotation: Mapping[str, Any], size: tuple[int, int] | None
) -> Callable[[], TrueMask] | None:
    """Return a function that draws COCO's outline; None for crowds and pictures of unknown size."""
    outline = annotation.get("segmentation")
    if not outline or size is None or (annotation.get("iscrowd") and isinstance(outline, list)):
        return None
    return functools.partial(_drawn, outline, size)


def _drawn(outline: object, size: tuple[int, int]) -> TrueMask:
    return TrueMask(masks.from_segmentation(outline, size))
