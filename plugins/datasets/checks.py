"""Checks that the readers of data sets share: names, digests, options, numbers and boxes.

A failed check raises an `InputError` of one line; where it concerns a single record, the reader
turns it into a `Fault`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from PIL import Image

from vg_engine.core.errors import InputError, PictureError, nearest
from vg_engine.plugins.pictures import FORMATS, MAX_PIXELS

BOX_FORMS = ("xyxy", "xywh")
_EXIF_ORIENTATION = 0x0112
_LYING = range(5, 9)  # the orientations that swap width and height


def written(scheme: str, path: Path | None = None, **options: object) -> str:
    """Write a data set's name as a user would; empty options are left out.

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
    """Compute the SHA-256 of some parts; the boundaries between parts matter."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


def chosen(option: str, value: str, known: Iterable[str]) -> str:
    """Return the value of an option after checking that it is known.

    Raises:
        InputError: it is unknown.
    """
    names = list(known)
    if value not in names:
        raise InputError(f"{option}={value} is not known; {nearest(value, names)}")
    return value


def need_file(scheme: str, path: Path | None, example: str) -> Path:
    """Return the file that a data set is read from.

    Raises:
        InputError: no file is named, or it does not exist.
    """
    return _need(scheme, path, example, "file", "folder; name the file in it")


def need_folder(scheme: str, path: Path | None, example: str) -> Path:
    """Return the folder that a data set is read from.

    Raises:
        InputError: no folder is named, or it does not exist.
    """
    return _need(scheme, path, example, "folder", "file; name its folder")


def _need(scheme: str, path: Path | None, example: str, kind: str, other: str) -> Path:
    if path is None:
        raise InputError(f"{scheme} needs a {kind}: write {example}")
    if not path.exists():
        raise InputError(f"{path}: no such {kind}; check the path (here is {Path.cwd()})")
    if path.is_dir() != (kind == "folder"):
        raise InputError(f"{path} is a {other}: {example}")
    return path


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        InputError: the file cannot be read.
    """
    with readable(path):
        return path.read_bytes()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system raises in a block that reads a file or folder into one line.

    Raises:
        InputError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of JSON, as `object_pairs_hook`; of doubled keys JSON would take the last.

    Raises:
        ValueError: a key stands twice.

    >>> once([("a", 1), ("b", 2)])
    {'a': 1, 'b': 2}
    """
    held = dict(pairs)
    if len(held) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in held if keys.count(key) > 1)
        raise ValueError(f"key {double!r} twice; keep one")
    return held


def parse_json(
    shown: Path | str, data: bytes | str, hook: Callable[[list[tuple[str, Any]]], object] = once
) -> Any:
    """Parse the JSON of a file that was downloaded.

    Args:
        shown: the file, for messages.
        data: its contents.
        hook: makes an object of keys and values.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(data, object_pairs_hook=hook)
    # Truncated files, bytes that are not text, endless numbers and nesting.
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{shown} is not JSON ({cause}); download it again") from error


def whole(value: object) -> int | None:
    """Read a whole number, also as pandas writes it (2.0); None for anything else.

    >>> whole(2.0), whole(2.5), whole(True)
    (2, None, None)
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def numbers(value: object) -> list[float]:
    """Check a list of finite numbers, and return them as floats.

    Raises:
        InputError: the value is something else.
    """
    if not isinstance(value, list | tuple):
        raise InputError(f"{_short(value)} is not a list of numbers")
    found: list[float] = []
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise InputError(f"{_short(one)} in {_short(value)} is not a number")
        try:
            found.append(float(one))
        except OverflowError:
            found.append(math.inf)
    if not all(map(math.isfinite, found)):
        raise InputError(f"{_short(value)} holds a number that is not finite")
    return found


def box(value: object, form: str = "xyxy") -> tuple[float, float, float, float]:
    """Convert one box, written as `form`, to xyxy in pixels, right and bottom exclusive.

    Raises:
        InputError: the value is not four numbers, or the box has no area.

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
    """Make an n x 4 array of boxes; n = 0: there is no target."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def upright_size(image: Path | bytes) -> tuple[int, int]:
    """Read the (width, height) of a picture after its EXIF orientation, from its header alone.

    Raises:
        PictureError: it is not a picture, or too large.
    """
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    shown = f"{len(image)} bytes" if isinstance(image, bytes) else os.fspath(image)
    try:
        with Image.open(source, formats=FORMATS) as opened:
            turned = opened.getexif().get(_EXIF_ORIENTATION, 1)
            width, height = opened.size
    # Pillow raises nearly anything for broken headers.
    except Exception as error:
        raise PictureError(f"{shown} is not a picture that can be read; save it again") from error
    if width * height > MAX_PIXELS:
        raise PictureError(f"{shown} is {width} x {height}, too large to be read; make it smaller")
    return (height, width) if turned in _LYING else (width, height)


def pick_split(split: str, known: Iterable[str], where: Path) -> str:
    """Return the requested split; an empty one stands for the only split.

    Raises:
        InputError: there is no such split, or several and none is named.
    """
    names = sorted(set(known))
    if not names:
        raise InputError(f"no split lies in {where}; check the path")
    if not split and len(names) == 1:
        return names[0]
    problem = f"no split {split!r} in {where}" if split else f"{where} has {len(names)} splits"
    if split not in names:
        raise InputError(f"{problem}; write split= one of {', '.join(names)}")
    return split


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
