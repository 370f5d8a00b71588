"""Scenes of everyday things on photographs, and the sentences that each is asked for.

`make_scene(split, draw, index)` is a pure function of its arguments. Splits share neither a
background nor a seed.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vg_engine.plugins.datasets.things import drawing, files
from vg_engine.plugins.datasets.things.drawing import Thing
from vg_engine.plugins.datasets.things.sentences import (
    KINDS,
    Kind,
    Seen,
    Sentence,
    colours_of,
    sentences,
)

SPLITS = ("training", "calibration", "validation", "exam")
SHAPES = {  # width and height: square, 4:3, 3:4, 16:9, 9:16, panorama
    (320, 320): 3,
    (368, 276): 3,
    (276, 368): 2,
    (432, 243): 2,
    (243, 432): 1,
    (540, 180): 1,
}
MIN_THINGS, MAX_THINGS = 2, 6
SHORTEST, LONGEST = 12, 50  # per cent of the picture's shorter side
HIDDEN = 0.30  # a thing may lose as much of its own pixels
_FULL = 0.45  # the squares about all things together, as a share of the picture
_AGAIN = 0.6  # how often the next thing has the noun of an earlier one, and its colour,
# How often a thing is drawn that has a colour: as a rule, and where a sentence names one.
_COLOURED = (0.1, 0.4)
_STREAM = 20_261
_TURN, _DARK, _LIGHT = 25, 112, 150
_TRIES = 16


@dataclass(frozen=True)
class Scene:
    """A picture (uint8 RGB), its things and two sentences.

    `things[i]` is seen as `seen[i]`, where `owners` is i + 1; later things hide earlier ones.
    """

    image: UInt8[np.ndarray, "height width 3"]
    background: str
    things: tuple[Thing, ...]
    places: tuple[tuple[int, int], ...]
    seen: tuple[Seen, ...]
    owners: UInt8[np.ndarray, "height width"]
    asked: tuple[Sentence, Sentence]


def backgrounds(split: str) -> tuple[str, ...]:
    """List the backgrounds of a split."""
    listed = files.listed()["backgrounds"]
    return tuple(name for name, entry in listed.items() if entry["split"] == split)


@functools.cache
def nouns(background: str, *, coloured: bool = False) -> tuple[str, ...]:
    """List the nouns, or those that can have a colour, that a background does not show itself."""
    shown = files.listed()["backgrounds"][background].get("shows", ())
    known = (noun for noun in files.listed()["cutouts"] if noun not in shown)
    return tuple(noun for noun in known if colours_of(noun) or not coloured)


def make_scene(split: str, draw: int, index: int) -> Scene:
    """Make scene number `index` of a draw; the kinds of its two sentences go round."""
    rng = np.random.default_rng([_STREAM, SPLITS.index(split), draw, index])
    first, second = (KINDS[(2 * index + k) % len(KINDS)] for k in (0, 1))
    shapes = [shape for shape, often in SHAPES.items() for _ in range(often)]
    size = shapes[int(rng.integers(len(shapes)))]
    grounds = backgrounds(split)
    ground = grounds[int(rng.integers(len(grounds)))]
    # The number is drawn once, so that starting again does not favour easy counts.
    fewest = MIN_THINGS + (not {first, second}.isdisjoint({"noun", "several", "beside"}))
    count = int(rng.integers(fewest, MAX_THINGS + 1))
    while True:
        things = _cast(rng, count, size, ground, _COLOURED["colour" in (first, second)])
        if not _promising((first, second), things, size):
            continue
        patches = [drawing.shaped(thing) for thing in things]
        masks = [drawing.opaque(patch) for patch in patches]
        for _ in range(_TRIES):
            places = _places(rng, masks, size, things if "beside" in (first, second) else ())
            owners = drawing.owners(size, masks, places)
            seen = _seen(things, masks, places, owners)
            asked = _ask(rng, (first, second), seen, size, nouns(ground)) if seen else None
            if asked:
                image = drawing.background(ground, size, rng)
                drawing.paint(image, patches, places)
                image.flags.writeable = owners.flags.writeable = False
                return Scene(image, ground, things, tuple(places), seen, owners, asked)


def _ask(
    rng: np.random.Generator,
    kinds: tuple[Kind, Kind],
    seen: Sequence[Seen],
    size: tuple[int, int],
    among: Sequence[str],
) -> tuple[Sentence, Sentence] | None:
    """Draw two sentences of these kinds that mean different things; None where there are none."""
    possible = list(sentences(seen, size))
    if "absent" in kinds:
        others = [noun for noun in among if all(noun != one.noun for one in seen)]
        possible.append(Sentence(f"the {others[int(rng.integers(len(others)))]}", "absent", ()))
    first, second = ([one for one in possible if one.kind == kind] for kind in kinds)
    pairs = [
        (one, other)
        for one in first
        for other in second
        if set(one.targets).isdisjoint(other.targets)
    ]
    return pairs[int(rng.integers(len(pairs)))] if pairs else None


def _cast(
    rng: np.random.Generator, count: int, size: tuple[int, int], ground: str, coloured: float
) -> tuple[Thing, ...]:
    """Draw `count` different things, many of one noun or colour, that fit into the picture."""
    things: list[Thing] = []
    while len(things) < count:
        pool = nouns(ground, coloured=bool(rng.random() < coloured))
        noun = pool[int(rng.integers(len(pool)))]
        if things and rng.random() < _AGAIN:
            noun = things[int(rng.integers(len(things)))].noun
        colours = colours_of(noun)
        colour = colours[int(rng.integers(len(colours)))] if colours else ""
        used = [one.colour for one in things if one.colour]
        if colour and used and rng.random() < _AGAIN:
            colour = used[int(rng.integers(len(used)))]
        shortest, longest = -(-min(size) * SHORTEST // 100), min(size) * LONGEST // 100
        length = int(rng.integers(shortest, longest + 1))
        if sum(one.length**2 for one in things) + length**2 > _FULL * size[0] * size[1]:
            things = []  # too much of everything: start again
            continue
        turned = int(rng.integers(-_TURN, _TURN + 1)), bool(rng.integers(2))
        things.append(Thing(noun, colour, length, *turned, int(rng.integers(_DARK, _LIGHT + 1))))
    return tuple(things)


def _promising(kinds: tuple[Kind, Kind], things: Sequence[Thing], size: tuple[int, int]) -> bool:
    """Check, before anything is drawn, that sentences of these kinds may mean different things."""
    alike = [
        Seen(one.noun, one.colour, (0.0, 0.0, float(one.length), float(one.length)))
        for one in things
    ]
    numbers = Counter(one.noun for one in things)
    any_of: list[tuple[int, ...]] = [(i,) for i, t in enumerate(things) if numbers[t.noun] > 1]
    meant: dict[str, list[tuple[int, ...]]] = {"absent": [()], "place": any_of}
    meant["beside"] = any_of if 1 in numbers.values() else []
    for one in sentences(alike, size):
        meant.setdefault(one.kind, []).append(one.targets)
    first, second = (meant.get(kind, []) for kind in kinds)
    return any(set(one).isdisjoint(other) for one in first for other in second)


def _places(
    rng: np.random.Generator,
    masks: Sequence[drawing.Mask],
    size: tuple[int, int],
    things: Sequence[Thing],
) -> list[tuple[int, int]]:
    """Draw left and top of each; where `things` are given, one of them stands beside another."""
    free = [(size[0] - one.shape[1], size[1] - one.shape[0]) for one in masks]
    places = [(int(rng.integers(x + 1)), int(rng.integers(y + 1))) for x, y in free]
    numbers = Counter(one.noun for one in things)
    marks = [index for index, one in enumerate(things) if numbers[one.noun] == 1]
    others = [index for index, one in enumerate(things) if numbers[one.noun] > 1]
    if marks and others:
        mark, other = (group[int(rng.integers(len(group)))] for group in (marks, others))
        (height, width), (tall, wide) = masks[mark].shape, masks[other].shape
        gap = int(rng.integers(-min(width, wide) // 8, min(size) // 12 + 1))
        left = places[mark][0] + (width + gap if rng.integers(2) else -wide - gap)
        top = places[mark][1] + (height - tall) // 2
        places[other] = (min(max(left, 0), free[other][0]), min(max(top, 0), free[other][1]))
    return places


def _seen(
    things: Sequence[Thing],
    masks: Sequence[drawing.Mask],
    places: Sequence[tuple[int, int]],
    owners: UInt8[np.ndarray, "height width"],
) -> tuple[Seen, ...]:
    """Measure what is seen of each thing; empty if too much of one is hidden."""
    found = []
    for number, (thing, alone, (left, top)) in enumerate(
        zip(things, masks, places, strict=True), start=1
    ):
        height, width = alone.shape
        mask = owners[top : top + height, left : left + width] == number
        if np.count_nonzero(mask) < (1 - HIDDEN) * np.count_nonzero(alone):
            return ()
        (first, last), (upper, lower) = (
            (float(line[0]), float(line[-1] + 1))
            for line in (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
        )
        box = left + first, top + upper, left + last, top + lower
        found.append(Seen(thing.noun, thing.colour, box))
    return tuple(found)
