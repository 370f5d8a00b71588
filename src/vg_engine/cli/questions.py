"""Questions of the user: pictures times texts, or the lines of a JSONL file."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import clean_expression
from vg_engine.core.errors import ExpressionError, InputError, PictureError, VGError
from vg_engine.plugins.datasets.checks import once
from vg_engine.plugins.pictures import decode

_SHOWN = 5  # ids that a note lists


@dataclass(frozen=True, eq=False)
class Question:
    """One question.

    Attributes:
        id: the user's, or a number from 1.
        image: the path as the user wrote it, for the answer; `path` is where it lies.
        text: not cleaned yet; None where the line named none.
        error: why it cannot be asked.
        named: the id is the user's.
    """

    id: str | int | float
    image: str
    path: str
    text: Any
    error: VGError | None = None
    named: bool = False


@dataclass(frozen=True)
class Questions:
    """The questions as the command line gave them."""

    images: tuple[str, ...]
    texts: tuple[str, ...]
    queries: str | None
    max_pixels: int

    @classmethod
    def of(
        cls,
        images: Sequence[str],
        texts: Sequence[str],
        words: Sequence[str],
        queries: str | None,
        max_pixels: int,
    ) -> Questions:
        """Sort what stands behind no option: files and names of pictures, and texts."""
        pictures = [word for word in words if _names_picture(word)]
        others = [word for word in words if word not in pictures]
        return cls((*images, *pictures), (*texts, *others), queries, max_pixels)

    def all(self) -> list[Question]:
        """All questions, in order.

        Raises:
            InputError: nothing is asked, or in two ways.
            PictureError: no picture of the command line can be used.
            ExpressionError: a text of the command line is empty.
        """
        if self.queries is not None:
            if self.images or self.texts:
                raise InputError("--input stands alone; leave pictures and texts out, or it")
            return list(_lines(self.queries))
        if not self.images:
            raise InputError("no picture is given; name one with --image FILE (or use --input)")
        if not self.texts:
            raise InputError("nothing to look for; say it with --text 'the red cup'")
        for text in self.texts:
            clean_expression(text)
        wrong: dict[str, VGError] = {}
        for image in dict.fromkeys(self.images):
            try:
                decode(image, max_pixels=self.max_pixels)
            except VGError as error:
                wrong[image] = error
        if wrong.keys() >= set(self.images):
            raise next(iter(wrong.values()))
        pairs = [(image, text) for image in self.images for text in self.texts]
        return [
            Question(n, image, image, text, wrong.get(image))
            for n, (image, text) in enumerate(pairs, start=1)
        ]


def _names_picture(word: str) -> bool:
    """Tell a picture from a text: a file, or the name that one would have."""
    # Unlike Path's, this raises nothing, whatever the text.
    if os.path.isfile(word) or "://" in word:  # noqa: PTH113
        return True
    return Path(word).suffix.lower() in Image.registered_extensions()


def repeated_ids(questions: Sequence[Question]) -> Iterator[str]:
    """Name the ids that stand for several questions: answers cannot be joined by them."""
    counts = Counter(question.id for question in questions)
    several = [
        f"{name} stands for {count} questions" for name, count in counts.items() if count > 1
    ]
    if several:
        shown = ", ".join(several[:_SHOWN]) + (", ..." if len(several) > _SHOWN else "")
        yield f"ids are not unique: {shown}"


class Pictures:
    """Decodes pictures; the last one is kept, since questions about one stand together."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._last: tuple[str, Picture] | None = None

    def of(self, question: Question) -> Picture:
        """The picture of a question.

        Raises:
            PictureError: it cannot be used.
        """
        if self._last is None or self._last[0] != question.path:
            self._last = None
            self._last = (question.path, decode(question.path, max_pixels=self._max_pixels))
        return self._last[1]


def _lines(source: str) -> Iterator[Question]:
    folder = Path.cwd() if source == "-" else Path(source).parent
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # not UTF-8, or a NUL in the path
        text_less = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        cause = getattr(error, "strerror", None) or text_less
        raise InputError(f"--input {source} cannot be read: {cause}; check the path") from error
    text = text.removeprefix("\ufeff")  # a byte order mark on stdin
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if lines and lines[0][1].lstrip().startswith("["):
        raise InputError(
            f"--input {source} is a JSON array; write one record per line, without brackets and "
            'commas: {"image": ..., "text": ...}'
        )
    if not lines:
        raise InputError(f'--input {source} is empty; write lines of {{"image": ..., "text": ...}}')
    for number, line in lines:
        yield _question(number, line, folder)


def _question(number: int, line: str, folder: Path) -> Question:
    try:
        data = json.loads(line, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        return _wrong(number, f"line {number} is not JSON ({error}); mend it")
    if not isinstance(data, dict):
        return _wrong(number, f'line {number} is not a record; write {{"image": ..., "text": ...}}')
    given = data.get("id")
    # Numbers as pandas writes them (2.0) are kept as they are: answers are joined by them.
    name = number if given is None else given
    missing = isinstance(name, float) and not math.isfinite(name)  # as pandas writes it
    if missing or isinstance(name, bool) or not isinstance(name, str | int | float):
        return _wrong(number, f"line {number}: its id {given!r:.40} is no text and no number")
    image, text = data.get("image"), data.get("text")
    if not isinstance(image, str) or not image:
        nameless = PictureError(f"line {number} names no image; add a path, relative to the file")
        return Question(name, "", "", text, nameless, named=given is not None)
    try:
        if text is None:
            raise ExpressionError(f"line {number} names no text; add what to look for")
        clean_expression(text)
    except VGError as error:
        return Question(name, image, image, text, error, named=given is not None)
    place = image if "://" in image else str(folder / image)
    return Question(name, image, place, text, named=given is not None)


def _wrong(number: int, message: str) -> Question:
    return Question(number, "", "", None, InputError(message))
