"""The forms in which sets of referring expressions lie on the Hugging Face hub.

Each is told by its columns and named after the set it was first seen in. What a row means was
checked against these sets' own cards; what no card says is checked row by row.
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
from vg_engine.plugins.datasets import masks, reading
from vg_engine.plugins.datasets.parquet_files import Row

# Where the picture of a row comes from: what reads its bytes, or the folder that it lies in.
Source = Callable[[], bytes] | Path
_COCO_NAME = re.compile(r"COCO_\w+?_(\d{12})(?:_\d+)?\.jpg")
_SAME = 0.02  # pixels by which two writings of one box may differ
_OUTLINE = 1.0  # pixels by which the extent of an outline may differ from its box


@dataclass(frozen=True)
class Form:
    """One way to lay a data set out in columns.

    Attributes:
        name: as `form=` has it.
        needs: the columns that tell it.
        also: columns that are read where they are there.
        image: the column of the pictures; empty = they lie in a folder.
        samples: those of a row, given where its picture comes from.
        statements: what the user should know.
    """

    name: str
    needs: tuple[str, ...]
    also: tuple[str, ...]
    image: str
    samples: Callable[[Row, Source], Iterator[Sample | Fault]]
    statements: tuple[str, ...] = ()

    def columns(self, there: Sequence[str]) -> list[str]:
        """What is read of those that are there: all but the pictures."""
        wanted = (*self.needs, *self.also)
        return [name for name in there if name in wanted and name != self.image]


def detect(columns: Sequence[str], form: str) -> Form:
    """The form of a file.

    Args:
        columns: of the file.
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
    """All forms that are known."""
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
    """The samples of one thing, or the one fault that it is."""
    try:
        yield from read()
    except VGError as error:
        yield as_fault(name, InputError(f"{name}: {error}"))
    # A value that is missing or of another type than the form's.
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        yield Fault(name, f"{name} is not of the form {form} ({cause:.120}); download it again")


# lmms: `question` is the same for all; `answer` holds the sentences. xywh.


def _lmms(row: Row, image: Source) -> Iterator[Sample | Fault]:
    yield from _tried(f"row {row.number}", "lmms", lambda: _lmms_samples(row, image))


def _lmms_samples(row: Row, image: Any) -> list[Sample]:
    values = row.values
    corners = reading.box(values["bbox"], "xywh")
    outline = values["segmentation"]
    mask = None
    if not values.get("iscrowd") and outline and _spans(outline, corners):
        mask = functools.partial(_flat, outline, image)
    name = str(values.get("file_name") or f"row-{row.number}")
    coco = _COCO_NAME.fullmatch(PurePosixPath(name).name)
    return [
        Sample(
            # Its question_id is not unique: one split may hold two published ones.
            id=f"{row.number}-{k}",
            picture=str(int(coco[1])) if coco else name,
            image=image,
            text=text,
            boxes=reading.boxes_array([corners]),
            mask=mask,
        )
        for k, text in enumerate(_texts(values["answer"]))
    ]


def _spans(outline: object, corners: tuple[float, float, float, float]) -> bool:
    """Whether the extent of an outline is the box: it is then whole, and in one part."""
    values = reading.numbers(outline)
    if len(values) < 6 or len(values) % 2:
        return False
    across, down = values[0::2], values[1::2]
    extent = min(across), min(down), max(across), max(down)
    return all(abs(a - b) <= _OUTLINE for a, b in zip(extent, corners, strict=True))


def _flat(outline: list[Any], image: Callable[[], bytes]) -> TrueMask:
    return TrueMask(masks.from_segmentation([outline], reading.upright_size(image())))


# refcoco: a row is a reference; no card says how `bbox` is written, `raw_anns` is COCO's own.


def _refcoco(row: Row, folder: Source) -> Iterator[Sample | Fault]:
    yield from _tried(f"row {row.number}", "refcoco", lambda: _refcoco_samples(row, folder))


def _refcoco_samples(row: Row, folder: Any) -> list[Sample]:
    values = row.values
    annotation = json.loads(values["raw_anns"])
    info = json.loads(values.get("raw_image_info") or "{}")
    corners = reading.box(annotation["bbox"], "xywh")
    stated, original = reading.numbers(values["bbox"]), reading.numbers(annotation["bbox"])
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
    )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= _SAME for a, b in zip(one, other, strict=True)
    )


def _in_folder(folder: Path, stated: str) -> Path:
    """A picture by its stated path or, without its folders, by its name."""
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
    annotation, said = reference["ann_info"], reference["ref_info"]
    if said["ann_id"] != annotation["id"]:
        raise InputError(f"it means annotation {said['ann_id']} and brings {annotation['id']}")
    info = row.values.get("image_info") or {}
    size = (info["width"], info["height"]) if info.get("width") else None
    return _of_reference(
        said,
        sentences=said["sentences"],
        image=image,
        boxes=_fitted(reading.box(annotation["bbox"], "xywh"), size),
        mask=_coco_mask(annotation, size),
    )


# refcoco-m: a row is a picture with its objects; the masks are run lengths. xywh.


def _refcoco_m(row: Row, image: Source) -> Iterator[Sample | Fault]:
    for place, thing in enumerate(row.values["samples"] or ()):
        read = functools.partial(_refcoco_m_samples, row, thing, image)
        yield from _tried(f"row {row.number} object {place}", "refcoco-m", read)


def _refcoco_m_samples(row: Row, thing: Mapping[str, Any], image: Any) -> list[Sample]:
    runs = thing["mask"]
    height, width = runs["size"]
    boxes = _fitted(reading.box(thing["bbox"], "xywh"), (width, height))
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
        )
        for k, text in enumerate(_texts(thing["sentences"]))
    ]


# What several forms share.


def _of_reference(
    said: Mapping[str, Any],
    *,
    sentences: object,
    image: Any,
    boxes: Float64[np.ndarray, "n 4"],
    mask: Callable[[], TrueMask] | None,
) -> list[Sample]:
    """The sentences of a reference as REFER has them: `sent` is the cleaned one."""
    if not isinstance(sentences, list):
        raise InputError("its sentences are no list; take the newest files of the set")
    return [
        Sample(
            id=f"{said['ref_id']}-{sentence['sent_id']}",
            picture=str(said["image_id"]),
            image=image,
            text=sentence.get("sent") or sentence.get("raw") or "",
            boxes=boxes,
            mask=mask,
            target=str(said["ann_id"]),
            groups={"split": said["split"]} if said.get("split") else {},
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
    boxes = reading.boxes_array([corners])
    return boxes if size is None else fit_boxes(boxes, size)


def _coco_mask(
    annotation: Mapping[str, Any], size: tuple[int, int] | None
) -> Callable[[], TrueMask] | None:
    """Draws COCO's outline; crowds, and pictures of unknown size, have none."""
    outline = annotation.get("segmentation")
    if not outline or size is None or (annotation.get("iscrowd") and isinstance(outline, list)):
        return None
    return functools.partial(_drawn, outline, size)


def _drawn(outline: object, size: tuple[int, int]) -> TrueMask:
    return TrueMask(masks.from_segmentation(outline, size))
