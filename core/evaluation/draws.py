"""Random draws of samples, their grouping by picture, and batches of these groups.

Everything here is a pure function of the list of samples and a seed, so that an interrupted study
resumes as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float64, Int64

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import Sample


@dataclass(frozen=True, eq=False)
class Draws:
    """Random draws from a data set (paper, section 3: five of 1,000).

    Attributes:
        index: places in the data set of all drawn samples, ascending.
        weights: how often each of them occurs in each draw.
        resampled: True where the data set is no larger than a draw; the draws then are resamples
            of all of it, picture by picture and with replacement.
    """

    index: Int64[np.ndarray, " drawn"]
    weights: Float64[np.ndarray, "drawn draws"]
    resampled: bool = False


def draw(pictures: Sequence[str], *, size: int, draws: int, seed: int = 0) -> Draws:
    """Draw samples.

    From a data set larger than `size`, each draw takes samples without replacement. A smaller one
    is taken whole: once with a single draw, else resampled by picture.

    Args:
        pictures: the picture of each sample of the data set, in its order.
        size: samples per draw.
        draws: number of draws.
        seed: same seed, same draws.

    Raises:
        InputError: there is nothing to draw from, or a number is below 1.
    """
    count = len(pictures)
    if not count:
        raise InputError("the data set has no sample that can be used; check its faults")
    if size < 1 or draws < 1:
        raise InputError(f"samples and draws must be at least 1, got {size} and {draws}")
    rng = np.random.default_rng(seed)
    weights = np.zeros((count, draws))
    if count > size:
        for column in weights.T:
            column[rng.choice(count, size, replace=False)] = 1.0
    elif draws == 1:
        weights[:] = 1.0
    else:
        names = {name: number for number, name in enumerate(dict.fromkeys(pictures))}
        owner = np.array([names[name] for name in pictures])
        for column in weights.T:
            times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
            column[:] = times[owner]
    index = np.flatnonzero(weights.any(axis=1)).astype(np.int64)
    return Draws(index, weights[index], resampled=count <= size and draws > 1)


@dataclass(frozen=True)
class Unit:
    """Samples about one picture that are processed together.

    Attributes:
        samples: places in the list of samples; the first `counted` of them are measured, the rest
            only serve for comparison.
        counted: number of measured samples.
        partners: for each measured sample the place *in `samples`* of an expression about
            something else, or None.
    """

    samples: tuple[int, ...]
    counted: int
    partners: tuple[int | None, ...]


def units(
    samples: Sequence[Sample], chosen: Sequence[int], *, most: int, pairs: bool = False
) -> tuple[Unit, ...]:
    """Group chosen samples by picture, in the order of the pictures' first samples.

    Args:
        samples: the data set.
        chosen: places of the samples to measure, ascending.
        most: largest number of expressions in a unit; a picture with more becomes several units.
            A pair is never separated, so with `pairs` a unit may hold two.
        pairs: give each a partner about something else, if necessary one that was not chosen.
    """
    groups: dict[str, list[int]] = {}
    for place in chosen:
        groups.setdefault(samples[place].picture, []).append(place)
    others: dict[str, list[int]] = {}
    if pairs:
        for place, sample in enumerate(samples):
            if sample.picture in groups:
                others.setdefault(sample.picture, []).append(place)
    made = []
    for picture, places in groups.items():
        start = 0
        while start < len(places):
            part = places[start : start + most]
            unit = _unit(samples, part, others.get(picture, []))
            while len(unit.samples) > most and len(part) > 1:  # make room for its partners
                part = part[:-1]
                unit = _unit(samples, part, others.get(picture, []))
            made.append(unit)
            start += len(part)
    return tuple(made)


def _unit(samples: Sequence[Sample], part: Sequence[int], others: Sequence[int]) -> Unit:
    """Make a unit of `part`, with partners from `part` where possible, else from `others`."""
    looked = list(part)
    partners: list[int | None] = []
    for number, place in enumerate(part):
        # In a circle, so that three expressions about one picture are compared with each other.
        turn = (part[(number + step) % len(part)] for step in range(1, len(part)))
        candidates = chain(turn, looked[len(part) :], others)
        found = next((p for p in candidates if not samples[place].same_target(samples[p])), None)
        if found is None:
            partners.append(None)
            continue
        if found not in looked:
            looked.append(found)
        partners.append(looked.index(found))
    return Unit(tuple(looked), len(part), tuple(partners))


def batches(made: Sequence[Unit], most: int) -> tuple[tuple[Unit, ...], ...]:
    """Group units into batches of at most `most` expressions; a larger unit is its own batch."""
    grouped: list[tuple[Unit, ...]] = []
    batch: list[Unit] = []
    for unit in made:
        if batch and sum(len(one.samples) for one in batch) + len(unit.samples) > most:
            grouped.append(tuple(batch))
            batch = []
        batch.append(unit)
    return (*grouped, *([tuple(batch)] if batch else []))
