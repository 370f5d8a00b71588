"""Sentences about the things of a scene, each true of what it means and of nothing else.

Words that need a judgement (small or large, left or right, beside or not) are used only where the
difference is plain; the limits are the constants below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vg_engine.plugins.datasets.things import files
from vg_engine.plugins.datasets.things.drawing import COLOURS

Kind = Literal["noun", "several", "colour", "place", "absent", "beside", "size"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SIZE_RATIO = 1.4  # the longer side of the next in size is as many times longer or shorter
FIRST, SECOND = 0.45, 0.55  # centres up to here are left or top, those from there right or bottom
NEAR, FAR = 0.12, 0.25  # gaps of what is beside and of what is not, in the picture's shorter side
LEVEL = 0.5  # of the lower one's height is beside the other's


@dataclass(frozen=True)
class Seen:
    """The visible part of a thing: the words for it and its box (right and bottom exclusive)."""

    noun: str
    colour: str
    box: tuple[float, float, float, float]

    @property
    def length(self) -> float:
        """The longer side."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def gaps(self, other: Seen) -> tuple[float, float]:
        """Measure the horizontal and the vertical gap; negative: how far they overlap."""
        (a, b, c, d), (e, f, g, h) = self.box, other.box
        return max(a, e) - min(c, g), max(b, f) - min(d, h)


@dataclass(frozen=True)
class Sentence:
    """A phrase without its full stop, and the indices of the things that it means."""

    text: str
    kind: Kind
    targets: tuple[int, ...]


def plural(noun: str) -> str:
    """Look up the plural of a noun.

    >>> plural("mouse")
    'mice'
    """
    return str(files.listed()["cutouts"][noun].get("plural", f"{noun}s"))


def colours_of(noun: str) -> tuple[str, ...]:
    """List the colours that a noun's cut-out can have; none where it has several of its own."""
    return tuple(COLOURS) if files.listed()["cutouts"][noun].get("recoloured") else ()


def sentences(things: Sequence[Seen], size: tuple[int, int]) -> Iterator[Sentence]:
    """List every sentence with the noun of a thing, in a picture of `size` = (width, height)."""
    for noun in dict.fromkeys(one.noun for one in things):
        group = [index for index, one in enumerate(things) if one.noun == noun]
        yield from _of_colours(noun, group, things)
        if len(group) == 1:
            yield Sentence(f"the {noun}", "noun", (group[0],))
        else:
            yield Sentence(f"the {plural(noun)}", "several", tuple(group))
            yield from _of_sizes(noun, group, things)
            yield from _of_places(noun, group, things, size)
            yield from _of_neighbours(noun, group, things, size)


def _of_colours(noun: str, group: Sequence[int], things: Sequence[Seen]) -> Iterator[Sentence]:
    """Yield what names a colour; another thing has the noun or the colour, but not both."""
    for colour in colours_of(noun):
        meant = tuple(index for index in group if things[index].colour == colour)
        if len(meant) == 1 and (len(group) > 1 or sum(one.colour == colour for one in things) > 1):
            yield Sentence(f"the {colour} {noun}", "colour", meant)
        elif len(meant) > 1 and len(meant) < len(group):
            yield Sentence(f"the {colour} {plural(noun)}", "several", meant)
        elif not meant:
            yield Sentence(f"the {colour} {noun}", "absent", ())


def _of_sizes(noun: str, group: Sequence[int], things: Sequence[Seen]) -> Iterator[Sentence]:
    ordered = sorted(group, key=lambda index: things[index].length)
    lengths = [things[index].length for index in ordered]
    if lengths[1] >= SIZE_RATIO * lengths[0]:
        yield Sentence(f"the small {noun}", "size", (ordered[0],))
    if lengths[-1] >= SIZE_RATIO * lengths[-2]:
        yield Sentence(f"the large {noun}", "size", (ordered[-1],))


def _of_places(
    noun: str, group: Sequence[int], things: Sequence[Seen], size: tuple[int, int]
) -> Iterator[Sentence]:
    ends = (("on the left", "on the right"), ("at the top", "at the bottom"))
    for axis, (low, high) in enumerate(ends):
        centres = {
            index: (things[index].box[axis] + things[index].box[axis + 2]) / 2 / size[axis]
            for index in group
        }
        first = [index for index, centre in centres.items() if centre <= FIRST]
        second = [index for index, centre in centres.items() if centre >= SECOND]
        if len(first) + len(second) == len(group):
            if len(first) == 1:
                yield Sentence(f"the {noun} {low}", "place", (first[0],))
            if len(second) == 1:
                yield Sentence(f"the {noun} {high}", "place", (second[0],))


def _of_neighbours(
    noun: str, group: Sequence[int], things: Sequence[Seen], size: tuple[int, int]
) -> Iterator[Sentence]:
    for mark in things:
        if sum(one.noun == mark.noun for one in things) > 1:
            continue
        near = [index for index in group if is_beside(things[index], mark, size)]
        far = [i for i in group if max(things[i].gaps(mark)) >= FAR * min(size)]
        if len(near) == 1 and len(far) == len(group) - 1:
            yield Sentence(f"the {noun} beside the {mark.noun}", "beside", (near[0],))


def is_beside(one: Seen, mark: Seen, size: tuple[int, int]) -> bool:
    """Check that a thing is to the left or right of another, close to it and level with it."""
    across, down = one.gaps(mark)
    lower = min(one.box[3] - one.box[1], mark.box[3] - mark.box[1])
    narrower = min(one.box[2] - one.box[0], mark.box[2] - mark.box[0])
    return -narrower / 4 <= across <= NEAR * min(size) and -down >= LEVEL * lower
