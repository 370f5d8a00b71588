"""Answers for other programs: JSON records, COCO run-length masks, PNG masks, detections.

Files are written whole or not at all: under a temporary name, then renamed.
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from vg_engine.core.errors import OutputError
from vg_engine.core.heads import Head
from vg_engine.core.types import Grounding

_DIGITS = 3  # decimals of pixels: a thousandth is finer than any region


def to_record(grounding: Grounding, **more: object) -> dict[str, Any]:
    """An answer as JSON takes it; boxes are float xyxy in original, upright pixels.

    Args:
        grounding: the answer.
        more: keys to put first (`id`, `image`).
    """
    boxes = [[round(float(v), _DIGITS) for v in box] for box in grounding.boxes]
    return {
        **{key: plain(value) for key, value in more.items()},
        "expression": grounding.expression,
        "found": grounding.found,
        "box": boxes[0] if boxes else None,
        "score": round(grounding.score, 6),
        "point": [round(value, _DIGITS) for value in grounding.point],
        "boxes": boxes,
        "masks": [to_rle(mask) for mask in grounding.masks],
        "size": list(grounding.size),
        "heads": [str(head) for head in grounding.heads],
        "notes": list(grounding.notes),
        "timings": {key: round(value, 6) for key, value in grounding.timings.items()},
        "provenance": plain(grounding.provenance),
    }


def to_detections(groundings: Sequence[Grounding]) -> list[dict[str, Any]]:
    """Answers in Hugging Face's form for detections: whole pixels, best first."""
    found = [
        {
            "label": grounding.expression,
            "score": round(grounding.score, 6),
            "box": {
                "xmin": math.floor(box[0]),
                "ymin": math.floor(box[1]),
                "xmax": math.ceil(box[2]),
                "ymax": math.ceil(box[3]),
            },
        }
        for grounding in groundings
        for box in grounding.boxes
    ]
    return sorted(found, key=lambda detection: -float(str(detection["score"])))


def to_rle(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths: `{"size": [height, width], "counts": text}`.

    >>> to_rle(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': '13'}
    """
    flat = np.asarray(mask, dtype=np.bool_).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    # COCO writes each count after the third as its difference to the last but one.
    steps = [c - counts[i - 2] if i > 2 else c for i, c in enumerate(counts)]
    return {"size": [int(side) for side in mask.shape], "counts": "".join(map(_letters, steps))}


def from_rle(rle: Mapping[str, Any]) -> Bool[np.ndarray, "height width"]:
    """The mask of compressed run lengths; the inverse of `to_rle`."""
    height, width = rle["size"]
    counts: list[int] = []
    value = shift = 0
    for letter in rle["counts"]:
        part = ord(letter) - 48
        value |= (part & 31) << shift
        shift += 5
        if part & 32:
            continue
        if part & 16:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    mask: Bool[np.ndarray, "height width"] = flat.reshape((height, width), order="F")
    return mask


def _letters(value: int) -> str:
    """COCO's base 32: five bits a letter, low ones first, a sixth bit while more follow."""
    letters = ""
    while True:
        part = value & 31
        value >>= 5
        done = value == (-1 if part & 16 else 0)
        letters += chr((part if done else part | 32) + 48)
        if done:
            return letters


def to_png(picture: Image.Image | Bool[np.ndarray, "height width"]) -> bytes:
    """The bytes of a PNG; a mask becomes one of 0 and 255."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.where(picture, 255, 0).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """What JSON takes: heads by name, tuples as lists, numpy's numbers as Python's."""
    match value:
        case float() if not math.isfinite(value):
            answer: Any = None
        case None | bool() | int() | float() | str():
            answer = value
        case Head():
            answer = str(value)
        case Mapping():
            answer = {str(key): plain(inner) for key, inner in value.items()}
        case np.generic() | np.ndarray():
            answer = plain(value.tolist())
        case list() | tuple() | set() | frozenset():
            answer = [plain(inner) for inner in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            answer = plain(asdict(value))
        case _:
            answer = str(value)
    return answer


def to_line(record: Mapping[str, Any]) -> str:
    """A record as one line of JSON; names that are no text (broken file names) are escaped."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(record, allow_nan=False)
    return line


def prepare_folder(folder: Path) -> Path:
    """Make a folder, and make sure that files can be written in it.

    Raises:
        OutputError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name and rename it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        part = _part(path)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


class JsonLines:
    """A JSONL file that appears, whole lines only, when the block is left, however it is left.

    Each line is flushed under a temporary name; without any line no file appears.

    Raises:
        OutputError: the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; choose another folder with --out")
        self._path = path
        self._part = _part(path)
        self._file: IO[str] | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._part.open("w", encoding="utf-8")
            self._file.write(to_line(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            self._part.replace(self._path)
        except OSError as failed:
            raise _unwritable(self._path, failed) from failed


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _unwritable(path: Path, error: OSError) -> OutputError:
    cause = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({cause}); choose another folder with --out")
