"""Scales: from values to pixels, round ticks with their labels, the width of a text."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat

import numpy as np

from vg_engine.core.errors import InputError

Numbers = Sequence[SupportsFloat] | np.ndarray

SIZE: Final = 12.0  # of the letters in charts, CSS pixels
_NARROW: Final = frozenset("iljtfrI.,:;'|!()[] -")
_WIDE: Final = frozenset("mwMWO@%QGDNHUA&+=<>~")
_BETWEEN: Final = 10.0  # pixels between two labels
_FLAT: Final = 1e-9  # a range below this share of its values is a single value
_LARGE, _FINE = 1e7, 6  # from here on, ticks are written with an exponent


def floats(values: Numbers) -> list[float]:
    """Plain floats; those that are not finite stay."""
    return [float(value) for value in values]


def finite(values: Sequence[float]) -> list[float]:
    """The finite values, which alone can be drawn."""
    return [value for value in values if math.isfinite(value)]


def check_lengths(names: str, *lists: Sequence[object]) -> None:
    """Refuse lists that do not belong together.

    Raises:
        InputError: their lengths differ.
    """
    lengths = [len(each) for each in lists]
    if len(set(lengths)) > 1:
        raise InputError(f"{names} must be equally long, got {' and '.join(map(str, lengths))}")


@dataclass(frozen=True)
class Scale:
    """The map from the values of one axis to pixels.

    Attributes:
        low, high: values at its ends, low < high.
        start, stop: the ends in CSS pixels; `stop` may lie before `start`.
    """

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond an end lie at that end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """Least and largest of at least one finite value; widened where they are equal."""
    low, high = min(values), max(values)
    if high - low <= _FLAT * max(abs(low), abs(high)):
        room = abs(low) * 0.1 or 0.5
        return low - room, high + room
    return low, high


def tick_step(low: float, high: float, most: int, *, whole: bool = False) -> float:
    """The distance of at most about `most` round numbers between two values."""
    raw = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return max(1.0, step) if whole else step


def round_range(low: float, high: float, most: int = 5) -> tuple[float, float]:
    """The range, widened to round numbers."""
    step = tick_step(low, high, most)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers inside a range, both ends included.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(3.0, 1023.0, 6)
    [200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    step = tick_step(low, high, most, whole=whole)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def tick_texts(marks: Sequence[float]) -> list[str]:
    """The labels of ticks: as many decimals as tell them apart, the same for all.

    >>> tick_texts([0.0, 0.05, 0.1]), tick_texts([-2000.0, 0.0, 2000.0])
    (['0.00', '0.05', '0.10'], ['−2,000', '0', '2,000'])
    """
    if len(marks) <= 1:
        return [f"{mark:.6g}".replace("-", "−") for mark in marks]
    step = min(b - a for a, b in itertools.pairwise(marks))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > _FINE or any(abs(mark) >= _LARGE for mark in marks):
        tries = ([f"{mark:.{digits}g}" for mark in marks] for digits in range(2, 18))
        texts = next(texts for texts in tries if len(set(texts)) == len(texts))
    else:
        texts = [f"{mark:,.{decimals}f}" for mark in marks]
    return [text.replace("-", "−") for text in texts]


def labelled_ticks(
    low: float, high: float, room: float, *, most: int = 8, whole: bool = False
) -> list[tuple[float, str]]:
    """As many ticks with their labels as `room` pixels hold side by side, at most about `most`."""
    for number in range(most, 0, -1):
        marks = ticks(low, high, number, whole=whole)
        texts = tick_texts(marks)
        if len(marks) * (max(map(width_of, texts), default=0.0) + _BETWEEN) <= room:
            break
    if len(marks) < 2 and not whole:
        marks = [low, high]
        texts = [f"{mark:.3g}".replace("-", "−") for mark in marks]
    return list(zip(marks, texts, strict=True))


def width_of(text: str, size: float = SIZE, *, strong: bool = False) -> float:
    """About how many pixels wide a text is drawn, rather too wide; fonts differ."""
    return size * sum(_em(character) for character in text) * (1.12 if strong else 1.0)


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.39
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in _WIDE:
        return 0.86
    return 0.7 if character.isupper() else 0.635


def shorten(text: str, room: float, size: float = SIZE) -> str:
    """The text, or as much of it as fits into `room` pixels, and an ellipsis.

    >>> shorten("L14H24", 60.0), shorten("the second cup from the left", 60.0)
    ('L14H24', 'the sec…')
    """
    if width_of(text, size) <= room:
        return text
    while text and width_of(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"
