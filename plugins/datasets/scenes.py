"""Synthetic scenes: a few objects in colours, shapes and sizes, and expressions about them.

`make_scene(seed, index)` is a pure function of its arguments. Objects share attributes
by construction: most are given the colour or the shape of an earlier one, so that
one word alone seldom names an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, UInt8

from vg_engine.plugins.datasets.scene_drawing import (
    COLOURS,
    SHAPES,
    draw_background,
    finish,
    paint_shape,
    sample_paint,
)

Kind = Literal["colour", "shape", "size+colour", "colour+shape", "size+shape"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES: tuple[str, ...] = ("small", "large")

# Three ranges that never meet: nothing is trained on what is calibrated or examined.
TRAINING_SEEDS = range(1_000)
CALIBRATION_SEEDS = range(1_000, 2_000)
EXAM_SEEDS = range(2_000, 3_000)

SIDE = 224  # pixels of a scene's side
MIN_OBJECTS, MAX_OBJECTS = 2, 6
# Shares of the side, a margin inside the promised 12-20 and 26-35 %: the last row of a thin tip
# covers less than half of its pixels and is not in the mask.
_SIDE_SHARES = {"small": (0.135, 0.195), "large": (0.275, 0.345)}
_GAP = 0.03
_SHARING = 0.75  # how often an object takes a word from an earlier one,
_COLOUR_SHARED = 0.5  # and how often that word is the colour, else the shape
_ATTEMPTS = 60


@dataclass(frozen=True)
class SceneObject:
    """One object: the words for what it is, and where it is.

    `box` is xyxy in pixels, right and bottom exclusive: the tight box of `mask`.
    """

    colour: str
    shape: str
    size: str
    box: tuple[float, float, float, float]
    mask: Bool[np.ndarray, "height width"]

    @property
    def words(self) -> tuple[str, str, str]:
        """Size, colour and shape, in the order in which English puts them."""
        return self.size, self.colour, self.shape


@dataclass(frozen=True)
class Expression:
    """A phrase without its full stop, and the index of the only object it fits."""

    text: str
    kind: Kind
    target: int


@dataclass(frozen=True)
class Scene:
    """A picture (uint8 RGB) and its objects, in the order in which they were placed."""

    image: UInt8[np.ndarray, "height width 3"]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class Placed:
    """An object before it is drawn: its words and its square in pixels."""

    colour: str
    shape: str
    size: str
    left: int
    top: int
    side: int


def phrase(kind: Kind, colour: str, shape: str, size: str) -> str:
    """The phrase of one kind for an object with these words."""
    noun = shape if "shape" in kind else "object"
    adjectives = [word for name, word in (("size", size), ("colour", colour)) if name in kind]
    return " ".join(["the", *adjectives, noun])


def named(kind: Kind, thing: SceneObject | Placed) -> tuple[str, ...]:
    """Return the words of `thing` that an expression of this kind contains."""
    values = {"size": thing.size, "colour": thing.colour, "shape": thing.shape}
    return tuple(values[part] for part in kind.split("+"))


def expressions(objects: Sequence[SceneObject | Placed]) -> tuple[Expression, ...]:
    """List every phrase of the five kinds that fits exactly one of the objects."""
    found: list[Expression] = []
    for kind in KINDS:
        named_things = [named(kind, thing) for thing in objects]
        for target, thing in enumerate(objects):
            if named_things.count(named_things[target]) == 1:
                text = phrase(kind, thing.colour, thing.shape, thing.size)
                found.append(Expression(text, kind, target))
    return tuple(found)


def shares_attribute(objects: Sequence[SceneObject | Placed], target: int, kind: Kind) -> bool:
    """Check that another object shares a relevant word with the target.

    For an expression of two words: one of these. For one word, which must be unique: any other
    word of the target.
    """
    parts = kind.split("+")
    if len(parts) == 1:
        parts = [part for part in ("colour", "shape", "size") if part != kind]
    mine = objects[target]
    others = [thing for index, thing in enumerate(objects) if index != target]
    return any(getattr(thing, part) == getattr(mine, part) for thing in others for part in parts)


def _choice(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _sample_words(rng: np.random.Generator, earlier: Sequence[Placed]) -> tuple[str, str, str]:
    """Colour, shape and size of the next object; most share one word with an earlier object."""
    while True:
        colour, shape, size = _choice(rng, COLOURS), _choice(rng, SHAPES), _choice(rng, SIZES)
        if earlier and rng.random() < _SHARING:
            model = earlier[int(rng.integers(len(earlier)))]
            if rng.random() < _COLOUR_SHARED:
                colour = model.colour
            else:
                shape = model.shape
        if all(
            (colour, shape, size) != (thing.colour, thing.shape, thing.size) for thing in earlier
        ):
            return colour, shape, size


def _place(
    rng: np.random.Generator, size: str, earlier: Sequence[Placed], side: int
) -> tuple[int, int, int] | None:
    """Left, top and side of a free square, or None when none was found."""
    low, high = _SIDE_SHARES[size]
    length = round(side * float(rng.uniform(low, high)))
    gap = round(side * _GAP)
    for _ in range(_ATTEMPTS):
        left, top = (int(value) for value in rng.integers(0, side - length + 1, size=2))
        if all(
            left + length + gap <= other.left
            or other.left + other.side + gap <= left
            or top + length + gap <= other.top
            or other.top + other.side + gap <= top
            for other in earlier
        ):
            return left, top, length
    return None


def sample_layout(rng: np.random.Generator, count: int, side: int = SIDE) -> tuple[Placed, ...]:
    """`count` objects that do not touch; starts again when the picture is too full."""
    while True:
        placed: list[Placed] = []
        while len(placed) < count:
            colour, shape, size = _sample_words(rng, placed)
            square = _place(rng, size, placed, side)
            if square is None:
                break
            placed.append(Placed(colour, shape, size, *square))
        if len(placed) == count:
            return tuple(placed)


def draw(layout: Sequence[Placed], rng: np.random.Generator, side: int = SIDE) -> Scene:
    """Draw the layout on a background; masks are exact, boxes are their tight boxes."""
    canvas = draw_background(side, rng)
    objects: list[SceneObject] = []
    for thing in layout:
        paint = sample_paint(thing.colour, rng)
        mask = paint_shape(canvas, thing.shape, paint, (thing.left, thing.top), thing.side)
        mask.flags.writeable = False
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        objects.append(SceneObject(thing.colour, thing.shape, thing.size, box, mask))
    return Scene(finish(canvas), tuple(objects))


def make_scene(
    seed: int,
    index: int,
    *,
    objects: tuple[int, int] = (MIN_OBJECTS, MAX_OBJECTS),
    side: int = SIDE,
) -> Scene:
    """Scene number `index` of the stream `seed`, with `objects` = (fewest, most) objects."""
    rng = np.random.default_rng([seed, index])
    count = int(rng.integers(objects[0], objects[1] + 1))
    return draw(sample_layout(rng, count, side), rng, side)
