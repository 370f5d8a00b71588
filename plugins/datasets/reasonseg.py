"""`reasonseg:/data/ReasonSeg?split=val`: pictures with questions that need reasoning.

`root/{train,val,test}/` hold `x.jpg` and `x.json`:

    {"shapes": [{"label": "target", "points": [[x, y], ...]}], "text": [...], "is_sentence": true}

How the ground truth is drawn follows the field: shapes called `flag` are dropped, the others are
drawn with their outline, the largest first, so that a later, smaller one lies over it; one whose
label has `ignore` in it makes pixels that are not scored.

- The field asks the first text of each file (200 questions of val, 779 of test), and so is it here;
  `texts=all` asks every one, and they share their target.
- A file whose shapes are an empty list (or flags alone) is scored by the field as a picture that
  holds nothing of what is asked: a sample without boxes. A file without `shapes` stops the field's
  reader: a fault here.
- There are no boxes in the files: they are the extent of the drawn target.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, Int32, UInt8

from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, TrueMask, as_fault
from vg_engine.plugins.datasets import reading

_EXAMPLE = "reasonseg:/data/ReasonSeg?split=val"
_DROPPED, _IGNORED = "flag", "ignore"
_TARGET, _UNSCORED = 1, 255
_FAR = 2**16  # pixels: drawing takes time by how far a shape reaches, and never ends at a billion
_Shape = tuple[Int32[np.ndarray, "points 2"], int]


def reasonseg(path: Path | None, *, split: str = "val", texts: str = "first") -> DataSet:
    """The questions of a split, by file name.

    Args:
        path: the folder that holds the splits' folders.
        split: `train`, `val` or `test`, or whatever folder lies there.
        texts: `first` asks the first text of a file, `all` asks each.

    Raises:
        InputError: no such folder, no such split, or an unknown word for `texts`.
    """
    reading.chosen("texts", texts, ("first", "all"))
    root = reading.need_folder("reasonseg", path, _EXAMPLE)
    if any(root.glob("*.json")):
        raise InputError(
            f"{root} is itself a split; name the folder above it and split={root.name}"
        )
    splits = [each.parent.name for each in root.glob("*/*.json")]
    folder = root / reading.pick_split(split, splits, root)
    files = sorted(folder.glob("*.json"))
    parts = [part for file in files for part in (file.name, reading.read_bytes(file))]
    notes = ["boxes are the extent of the drawn masks: the files hold none"]
    if texts == "first":
        notes.append("of a file with several texts the first is asked, as the field does")
    return DataSet(
        name=reading.written("reasonseg", root, split=folder.name, texts=texts),
        records=lambda: _records(folder, every=texts == "all"),
        revision=reading.digest("reasonseg", texts, *parts),
        statements=tuple(notes),
    )


def _records(folder: Path, *, every: bool) -> Iterator[Sample | Fault]:
    stems = {file.stem for kind in ("*.json", "*.jpg") for file in folder.glob(kind)}
    for stem in sorted(stems):
        try:
            samples = list(_samples(folder / f"{stem}.json", every=every))
        except VGError as error:
            yield as_fault(stem, error)
        else:
            yield from samples


def _samples(file: Path, *, every: bool) -> Iterator[Sample]:
    image = file.with_suffix(".jpg")
    if not file.is_file():
        raise InputError(f"{image.name} has no {file.name} beside it; copy the whole split")
    if not image.is_file():
        raise InputError(f"{file.name} has no {image.name} beside it; copy the whole split")
    record = _parsed(file)
    texts = record.get("text")
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise InputError(f"{file.name} has no list of texts; download it again")
    if not isinstance(record.get("is_sentence"), bool):
        raise InputError(f"{file.name} does not say is_sentence; download it again")
    shapes = _shapes(record, file.name)
    size = reading.upright_size(image)
    boxes = _extent(_draw(shapes, size) == _TARGET)
    for number, text in enumerate(texts if every else texts[:1]):
        yield Sample(
            id=f"{file.stem}-{number}",
            picture=file.stem,
            image=str(image),
            text=text,
            boxes=boxes,
            mask=functools.partial(_mask, shapes, size),
            target=file.stem,
            groups={"kind": "long" if record["is_sentence"] else "short"},
        )


def _parsed(file: Path) -> Mapping[str, Any]:
    """A file's JSON: UTF-8, or else cp1252, as some of the published files are."""
    data = reading.read_bytes(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name} is no text; download it again") from error
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is no JSON ({error}); download it again") from error
    if not isinstance(record, dict):
        raise InputError(f"{file.name} is no record; download it again")
    return record


def _shapes(record: Mapping[str, Any], name: str) -> list[_Shape]:
    """Corners in whole pixels, cut off as the field's reader does, and the value they draw."""
    given = record.get("shapes")
    if not isinstance(given, list):
        raise InputError(f"{name} has no shapes, so its truth is not known; it cannot be scored")
    found: list[_Shape] = []
    for shape in given:
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise InputError(f"{name} has a shape without a label; download it again")
        label, points = shape["label"].lower(), shape.get("points")
        if label == _DROPPED:
            continue
        if not isinstance(points, list) or not points:
            raise InputError(f"{name} has a shape without points; download it again")
        corners = [reading.numbers(point) for point in points]
        if any(len(corner) != 2 or max(map(abs, corner)) > _FAR for corner in corners):
            raise InputError(f"{name} has a point that is no [x, y] in pixels; download it again")
        value = _UNSCORED if _IGNORED in label else _TARGET
        found.append((np.asarray(corners).astype(np.int32), value))
    return found


def _mask(shapes: list[_Shape], size: tuple[int, int]) -> TrueMask:
    drawn = _draw(shapes, size)
    return TrueMask(drawn == _TARGET, drawn == _UNSCORED)


def _draw(shapes: list[_Shape], size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """0 for background, 1 for the target, 255 for what is not scored."""
    areas = [int(np.count_nonzero(_painted(_blank(size), *shape))) for shape in shapes]
    canvas = _blank(size)
    # Reversed as it stands: of two equal areas the later one is drawn first, as the field does.
    for number in np.argsort(areas)[::-1].tolist():
        _painted(canvas, *shapes[number])
    return canvas


def _blank(size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    width, height = size
    return np.zeros((height, width), dtype=np.uint8)


def _painted(
    canvas: UInt8[np.ndarray, "height width"], corners: Int32[np.ndarray, "points 2"], value: int
) -> UInt8[np.ndarray, "height width"]:
    """Paint one shape in place: its inside and its outline, which cv2 counts as inside."""
    cv2.fillPoly(canvas, [corners], color=value)
    return canvas


def _extent(target: Any) -> Float64[np.ndarray, "n 4"]:
    """The box around all pixels of the target; none where it has none."""
    rows, columns = np.flatnonzero(target.any(axis=1)), np.flatnonzero(target.any(axis=0))
    if not rows.size:
        return reading.boxes_array([])
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return reading.boxes_array([[float(edge) for edge in edges]])
