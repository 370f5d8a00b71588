"""`reasonseg:/data/ReasonSeg?split=val`: pictures with questions that need reasoning.

`root/{train,val,test}/` hold `x.jpg` and `x.json`:

    {"shapes": [{"label": "target", "points": [[x, y], ...]}], "text": [...], "is_sentence": true}

The ground truth is drawn as usual in the field: shapes called `flag` are dropped, the others are
drawn with their outline, the largest first, so that smaller ones cover it; pixels of a shape whose
label contains `ignore` are not scored.

- As usual in the field, the first text of each file is asked (200 questions of val, 779 of test);
  `texts=all` asks every text, and they share their target.
- A file whose shapes are an empty list (or flags alone) is scored as a picture without a target: a
  sample without boxes. A file without `shapes` stops the field's reader; here it is a fault.
- The files have no boxes: boxes are the extent of the drawn target.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, Int32, UInt8

from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, TrueMask, as_fault
from vg_engine.plugins.datasets import checks

_EXAMPLE = "reasonseg:/data/ReasonSeg?split=val"
_PICTURES = (".jpg", ".jpeg")
_DROPPED, _IGNORED = "flag", "ignore"
_TARGET, _UNSCORED = 1, 255
_FAR = 2**16  # pixels: the time of drawing grows with a shape's extent, without limit
_Shape = tuple[Int32[np.ndarray, "points 2"], int]


def reasonseg(path: Path | None, *, split: str = "val", texts: str = "first") -> DataSet:
    """Read the questions of a split, by file name.

    Args:
        path: the folder that contains the splits' folders.
        split: `train`, `val`, `test`, or any other folder there.
        texts: `first` asks the first text of a file, `all` asks every text.

    Raises:
        InputError: the folder or split is missing, or the value of `texts` is unknown.
    """
    checks.chosen("texts", texts, ("first", "all"))
    root = checks.need_folder("reasonseg", path, _EXAMPLE)
    if any(_files(root, ".json")):
        raise InputError(
            f"{root} is itself a split; name the folder above it and split={root.name}"
        )
    splits = [each.name for each in root.iterdir() if each.is_dir() and any(_files(each, ".json"))]
    folder = root / checks.pick_split(split, splits, root)
    files = sorted(_files(folder, ".json"))
    parts = [part for file in files for part in (file.name, checks.read_bytes(file))]
    notes = ["boxes are the extent of the drawn masks: the files hold none"]
    if texts == "first":
        notes.append("of a file with several texts the first is asked, as the field does")
    return DataSet(
        name=checks.written("reasonseg", root, split=folder.name, texts=texts),
        records=lambda: _records(folder, every=texts == "all"),
        revision=checks.digest("reasonseg", texts, *parts),
        statements=tuple(notes),
    )


def _files(folder: Path, *endings: str) -> Iterator[Path]:
    """Find the files with these endings in either case, but hidden ones, as macOS leaves."""
    return (
        file
        for file in folder.iterdir()
        if file.suffix.lower() in endings and not file.name.startswith(".")
    )


def _records(folder: Path, *, every: bool) -> Iterator[Sample | Fault]:
    images = {file.stem: file for file in sorted(_files(folder, *_PICTURES))}
    for stem in sorted({*images, *(file.stem for file in _files(folder, ".json"))}):
        try:
            samples = list(_samples(folder / f"{stem}.json", images.get(stem), every=every))
        except VGError as error:
            yield as_fault(stem, error)
        else:
            yield from samples


def _samples(file: Path, image: Path | None, *, every: bool) -> Iterator[Sample]:
    if image is None:
        raise InputError(f"{file.name} has no {file.stem}.jpg beside it; copy the whole split")
    if not file.is_file():
        raise InputError(f"{image.name} has no {file.name} beside it; copy the whole split")
    record = _parsed(file)
    texts = record.get("text")
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise InputError(f"{file.name} has no list of texts; download it again")
    if not isinstance(record.get("is_sentence"), bool):
        raise InputError(f"{file.name} does not say is_sentence; download it again")
    shapes = _shapes(record, file.name)
    size = checks.upright_size(image)
    stated = tuple(checks.whole(record.get(key)) for key in ("imageWidth", "imageHeight"))
    if None not in stated and stated != size:
        raise InputError(
            f"{file.name} is for a picture of {stated[0]} x {stated[1]}, but {image.name} is "
            f"{size[0]} x {size[1]} upright; use the picture that was annotated"
        )
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
    """Parse a file's JSON: UTF-8, or else cp1252, which some of the published files use."""
    data = checks.read_bytes(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name} is no text; download it again") from error
    record = checks.parse_json(file.name, text)
    if not isinstance(record, dict):
        raise InputError(f"{file.name} is not a record; download it again")
    return record


def _shapes(record: Mapping[str, Any], name: str) -> list[_Shape]:
    """Read the shapes: corners truncated to whole pixels, as usual, and the value to draw."""
    given = record.get("shapes")
    if not isinstance(given, list):
        raise InputError(f"{name} has no shapes, so its truth is not known; it cannot be scored")
    found: list[_Shape] = []
    for shape in given:
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise InputError(f"{name} has a shape without a label; download it again")
        label, points = shape["label"].lower(), shape.get("points")
        if shape.get("shape_type") not in (None, "polygon"):
            raise InputError(f"{name} has a shape that is no polygon; draw it as one")
        if label == _DROPPED:
            continue
        if not isinstance(points, list) or not points:
            raise InputError(f"{name} has a shape without points; download it again")
        corners = [checks.numbers(point) for point in points]
        if any(len(corner) != 2 or max(map(abs, corner)) > _FAR for corner in corners):
            raise InputError(f"{name} has a point that is no [x, y] in pixels; download it again")
        if max(map(max, corners)) <= 1:
            raise InputError(f"{name} has a shape that lies in one pixel; write points in pixels")
        value = _UNSCORED if _IGNORED in label else _TARGET
        found.append((np.asarray(corners).astype(np.int32), value))
    return found


def _mask(shapes: list[_Shape], size: tuple[int, int]) -> TrueMask:
    drawn = _draw(shapes, size)
    return TrueMask(drawn == _TARGET, drawn == _UNSCORED)


def _draw(shapes: list[_Shape], size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Draw 0 for background, 1 for the target, 255 for pixels that are not scored."""
    areas = [int(np.count_nonzero(_painted(_blank(size), *shape))) for shape in shapes]
    canvas = _blank(size)
    # Sorted ascending, then reversed: of two equal areas the later is drawn first, as in the field.
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
    """Compute the box around all pixels of the target; no box without pixels."""
    rows, columns = np.flatnonzero(target.any(axis=1)), np.flatnonzero(target.any(axis=0))
    if not rows.size:
        return checks.boxes_array([])
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return checks.boxes_array([[float(edge) for edge in edges]])
