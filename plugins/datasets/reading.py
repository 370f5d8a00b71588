"""What the readers of data sets share: names, digests, checked options, numbers and boxes.

Whatever is wrong raises an `InputError` of one line; a reader makes a `Fault` of it where only one
record is concerned.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from vg_engine.core.errors import InputError, PictureError, nearest
from vg_engine.plugins.pictures import FORMATS, MAX_PIXELS

BOX_FORMS = ("xyxy", "xywh")
_EXIF_ORIENTATION = 0x0112
_LYING = range(5, 9)  # the orientations that swap width and height


def written(scheme: str, path: Path | None = None, **options: object) -> str:
    """A data set's name as the user can write it again; options that are empty are left out.

    >>> written("jsonl", Path("x.jsonl"), boxes="xywh", split="")
    'jsonl:x.jsonl?boxes=xywh'
    """
    place = "" if path is None else f":{path}"
    escaped = str.maketrans({mark: f"%{ord(mark):02X}" for mark in "%&?"})
    asked = "&".join(
        f"{key}={str(value).translate(escaped)}" for key, value in options.items() if value != ""
    )
    return f"{scheme}{place}{'?' if asked else ''}{asked}"


def digest(*parts: str | bytes) -> str:
    """SHA-256 over the parts; where one ends and the next begins matters."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


def chosen(option: str, value: str, known: Iterable[str]) -> str:
    """The value of an option, if it is one of those known.

    Raises:
        InputError: it is not.
    """
    names = list(known)
    if value not in names:
        raise InputError(f"{option}={value} is not known; {nearest(value, names)}")
    return value


def need_file(scheme: str, path: Path | None, example: str) -> Path:
    """The file that a data set is read from.

    Raises:
        InputError: none is named, or there is none.
    """
    if path is None:
        raise InputError(f"{scheme} needs a file: write {example}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file in it: {example}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path (here is {Path.cwd()})")
    return path


def need_folder(scheme: str, path: Path | None, example: str) -> Path:
    """The folder that a data set is read from.

    Raises:
        InputError: none is named, or there is none.
    """
    if path is None:
        raise InputError(f"{scheme} needs a folder: write {example}")
    if path.is_file():
        raise InputError(f"{path} is a file; name its folder: {example}")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; check the path (here is {Path.cwd()})")
    return path


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its rights") from error


def numbers(value: object) -> list[float]:
    """A list of finite numbers, as floats.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list | tuple):
        raise InputError(f"{_short(value)} is no list of numbers")
    found: list[float] = []
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise InputError(f"{_short(one)} in {_short(value)} is no number")
        try:
            found.append(float(one))
        except OverflowError:
            found.append(math.inf)
    if not all(map(math.isfinite, found)):
        raise InputError(f"{_short(value)} holds a number that is not finite")
    return found


def box(value: object, form: str = "xyxy") -> tuple[float, float, float, float]:
    """One box as xyxy, right and bottom exclusive, in pixels; `form` says what was written.

    Raises:
        InputError: not four numbers, or a box without area.

    >>> box([1, 2, 3, 4], "xywh")
    (1.0, 2.0, 4.0, 6.0)
    """
    given = numbers(value)
    if len(given) != 4:
        raise InputError(f"a box has four numbers ({form}), not {len(given)}: {_short(value)}")
    left, top, right, bottom = given
    if form == "xywh":
        right, bottom = left + right, top + bottom
    if left >= right or top >= bottom:
        other = BOX_FORMS[form == "xyxy"]
        raise InputError(f"box {_short(value)} is empty as {form}; was it written as {other}?")
    return left, top, right, bottom


def boxes_array(boxes: Sequence[Sequence[float]]) -> Float64[np.ndarray, "n 4"]:
    """Boxes as an n x 4 array; none of them = nothing is meant."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def upright_size(image: Path | bytes) -> tuple[int, int]:
    """Width and height of a picture as its EXIF orientation shows it; only its head is read.

    Raises:
        PictureError: it is no picture, or too large a one.
    """
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    shown = f"{len(image)} bytes" if isinstance(image, bytes) else os.fspath(image)
    try:
        with Image.open(source, formats=FORMATS) as opened:
            turned = opened.getexif().get(_EXIF_ORIENTATION, 1)
            width, height = opened.size
    # Whatever the heads of broken files make Pillow raise.
    except Exception as error:
        raise PictureError(f"{shown} is no picture that can be read; save it again") from error
    if width * height > MAX_PIXELS:
        raise PictureError(f"{shown} is {width} x {height}, too large to be read; make it smaller")
    return (height, width) if turned in _LYING else (width, height)


def pick_split(split: str, known: Iterable[str], where: Path) -> str:
    """The split that is asked for; an empty one is the only one there is.

    Raises:
        InputError: there is no such split, or it is not said which.
    """
    names = sorted(set(known))
    if not names:
        raise InputError(f"no split lies in {where}; check the path")
    if not split and len(names) == 1:
        return names[0]
    said = f"no split {split!r} in {where}" if split else f"{where} has {len(names)} splits"
    if split not in names:
        raise InputError(f"{said}; write split= one of {', '.join(names)}")
    return split


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
