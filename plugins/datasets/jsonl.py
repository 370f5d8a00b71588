"""`jsonl:/data/questions.jsonl`: a user's own data set, one JSON object per line.

```
{"image": "pics/a.jpg", "text": "the red cup", "box": [10, 20, 110, 140]}
{"image": "pics/a.jpg", "text": "both cups", "boxes": [[10, 20, 110, 140], [150, 20, 240, 140]]}
{"image": "pics/a.jpg", "text": "a giraffe", "boxes": []}
{"image": "pics/b.jpg", "text": "the dog", "mask": "masks/b.png", "groups": {"kind": "animal"}}
```

`image` and `text` (the expression) are required. `box` is one box, `boxes` a list of boxes; an
empty list means that there is no target; without either key the truth is not known. `mask` is a
COCO run-length mask, a list of polygons, or the path of a one-channel picture in which 0 is
background. `id` defaults to the line's number. `picture` and `target` are names; `picture` defaults
to the image's path, `target` has no default. Paths are relative to the file. Boxes are in pixels of
the upright picture.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64
from PIL import Image

from vg_engine.core.errors import InputError, PictureError, VGError, nearest
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, TrueMask, as_fault
from vg_engine.plugins.datasets import checks, masks
from vg_engine.plugins.pictures import decode

KEYS = ("id", "image", "text", "box", "boxes", "mask", "picture", "target", "groups")
_EXAMPLE = "jsonl:/data/questions.jsonl"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_EXACT = ("PNG", "BMP", "TIFF", "GIF")  # lossless formats of masks


def jsonl(path: Path | None, *, boxes: str = "xyxy") -> DataSet:
    """Read the lines of a JSONL file. Unusable lines become faults with their number.

    Args:
        path: the file, in UTF-8.
        boxes: form of the boxes, `xyxy` (right and bottom exclusive) or `xywh`; never guessed.

    Raises:
        InputError: the file is missing, empty or not UTF-8, or the form of boxes is unknown.
    """
    form = checks.chosen("boxes", boxes, checks.BOX_FORMS)
    file = checks.need_file("jsonl", path, _EXAMPLE)
    state, strange = hashlib.sha256(), dict[str, int]()
    count = 0
    for number, line in _lines(file, state):
        count += 1
        for key in _keys(line):
            strange.setdefault(key, number)
    if not count:
        raise InputError(f'{file} is empty; write lines of {{"image": ..., "text": ...}}')
    return DataSet(
        name=checks.written("jsonl", file, boxes="" if form == "xyxy" else form),
        records=lambda: _records(file, form),
        revision=checks.digest("jsonl", form, state.hexdigest()),
        statements=tuple(
            f"line {number} has a key {key!r} that is not read ({nearest(key, KEYS)})"
            for key, number in strange.items()
        ),
    )


def _lines(file: Path, state: Any = None) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every line that is not blank; all bytes also go into `state`."""
    with checks.readable(file), file.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            if number == 1 and line.startswith(_UTF16):
                raise InputError(f"{file} is UTF-16; save it as UTF-8")
            if state is not None:
                state.update(line)
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip():
                yield number, text


def _keys(line: bytes) -> list[str]:
    """List the unknown keys of a line; a broken line is reported later."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [key for key in record if key not in KEYS] if isinstance(record, dict) else []


def _records(file: Path, form: str) -> Iterator[Sample | Fault]:
    for number, line in _lines(file):
        try:
            yield sample_of(number, _parsed(line), file.parent, form)
        except VGError as error:
            yield as_fault(f"line {number}", error)


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=checks.once)
    except UnicodeDecodeError as error:
        raise InputError("it is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON ({error}); correct it") from error
    if not isinstance(record, dict):
        raise InputError('it is not a record; write {"image": ..., "text": ...}')
    return record


def sample_of(number: int, record: Mapping[str, Any], folder: Path, form: str) -> Sample:
    """Make the sample of one record.

    Args:
        number: of the record, for its id.
        record: as this module describes them.
        folder: that paths are relative to.
        form: of the boxes.

    Raises:
        InputError: the record cannot be used.
    """
    image = _text(record, "image", "a path, relative to the file")
    if not image:
        raise InputError("it names no image; add a path, relative to the file")
    if record.get("text") is None:
        raise InputError("it names no text; add what is meant")
    place = image if "://" in image else str(folder / image)
    return Sample(
        id=_name(record.get("id"), "id") or str(number),
        picture=_name(record.get("picture"), "picture") or os.path.normpath(image),
        image=place,
        text=_text(record, "text", "a sentence"),
        boxes=_boxes(record, form),
        mask=_mask(record.get("mask"), folder, place),
        target=_name(record.get("target"), "target"),
        groups=_groups(record.get("groups")),
    )


def _text(record: Mapping[str, Any], key: str, kind: str) -> str:
    value = record.get(key) or ""
    if not isinstance(value, str):
        raise InputError(f"its {key} is no text ({value!r}); write {kind}")
    return value


def _name(value: object, key: str) -> str | None:
    """Read a name; a whole number is a name too."""
    if value is None:
        return None
    number = checks.whole(value)
    if number is not None:
        return str(number)
    if not isinstance(value, str) or value == "":
        raise InputError(f"its {key} is neither text nor a whole number ({value!r}); write a name")
    return value


def _groups(value: object) -> Mapping[str, str]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, dict):
        raise InputError('its groups are no names; write {"kind": "colour"}')
    named = {key: _name(one, f"group {key!r}") for key, one in value.items()}
    return MappingProxyType({key: name for key, name in named.items() if name is not None})


def _boxes(record: Mapping[str, Any], form: str) -> Float64[np.ndarray, "n 4"] | None:
    one, many = record.get("box"), record.get("boxes")
    if one is not None and many is not None:
        raise InputError("it has both box and boxes; leave one of them out")
    if one is not None:
        return checks.boxes_array([checks.box(one, form)])
    if many is None:
        return None
    if not isinstance(many, list) or any(not isinstance(each, list) for each in many):
        raise InputError(
            f"its boxes are not a list of lists ({many!r}); a single box is called box"
        )
    return checks.boxes_array([checks.box(each, form) for each in many])


def _mask(value: Any, folder: Path, image: str) -> Callable[[], TrueMask] | None:
    """Return a function that draws the mask; check now everything that needs no file opened."""
    if value is None:
        return None
    if isinstance(value, str) and value:
        file = folder / value
        if not file.is_file():
            raise InputError(f"its mask {value} is no file; check the path")
        return functools.partial(_from_picture, file)
    if isinstance(value, dict) and _is_pair(value.get("size")) and value.get("counts"):
        return functools.partial(_from_rle, value)
    if isinstance(value, list) and value and all(map(_is_polygon, value)):
        if max(map(max, value)) <= 1:
            raise InputError(
                "its mask lies in one pixel; if it is shares of the sides, multiply them by the "
                "picture's width and height"
            )
        return functools.partial(_from_polygons, value, image)
    raise InputError(
        'its mask is unknown; write a run-length mask {"size": [height, width], "counts": ...}, '
        "polygons [[x, y, x, y, x, y], ...] or the path of a picture"
    )


def _is_pair(size: object) -> bool:
    return isinstance(size, list) and [type(side) for side in size] == [int, int]


def _is_polygon(part: object) -> bool:
    values = checks.numbers(part)
    return len(values) >= 6 and len(values) % 2 == 0


def _from_rle(rle: dict[str, Any]) -> TrueMask:
    height, width = rle["size"]
    return TrueMask(masks.from_segmentation(rle, (width, height)))


def _from_polygons(polygons: list[Any], image: str) -> TrueMask:
    return TrueMask(masks.from_segmentation(polygons, decode(image).size))


def _from_picture(file: Path) -> TrueMask:
    """Read a mask from a picture of one channel: 0 is background, all else the target."""
    try:
        with Image.open(file, formats=_EXACT) as opened:
            pixels = np.asarray(opened)
    # Decoders raise nearly anything for broken files.
    except Exception as error:
        raise PictureError(
            f"mask {file} is not a picture of {', '.join(_EXACT)}; save it again"
        ) from error
    if pixels.ndim != 2:
        raise PictureError(f"mask {file} has {pixels.shape[2]} channels; save it in grey")
    return TrueMask(pixels != 0)
