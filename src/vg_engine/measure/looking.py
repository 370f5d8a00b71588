"""Looking at a batch of pictures with all heads: what discovery writes down of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.samples import Fault, Sample, as_fault
from vg_engine.core.readout.per_head import head_fit
from vg_engine.core.selection import head_statistics
from vg_engine.core.selection.head_statistics import Criteria, measure_heads
from vg_engine.measure.loop import fault_records, guarded, open_picture, told
from vg_engine.plugins.journal import pack

SAMPLES, COLUMNS, FAULTS = "samples", "columns", "faults"
_PAIRS = (head_statistics.SENSITIVITY, head_statistics.AGREEMENT)
_CONTRASTS = (head_statistics.CONTRAST, head_statistics.CONTRAST_ENTROPY)
_SINGLES = (head_statistics.IOU, head_statistics.HIT)


@dataclass(frozen=True)
class Look:
    """What is measured.

    Attributes:
        columns: their names (`vg_engine.core.selection.head_statistics.COLUMNS`).
        criteria: how the entropy is taken.
        neutral: the neutral prompt of the contrast.
        singles: of the first so many samples each head's own box is measured as well.
    """

    columns: frozenset[str]
    criteria: Criteria
    neutral: str
    singles: int

    @property
    def pairs(self) -> bool:
        """Whether sentences about one picture are compared."""
        return not self.columns.isdisjoint(_PAIRS)

    @property
    def contrasts(self) -> bool:
        """Whether the neutral prompt is asked as well."""
        return not self.columns.isdisjoint(_CONTRASTS)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A unit whose picture could be opened; `samples` and `partners` as in `Unit`."""

    picture: Picture
    samples: tuple[Sample, ...]
    places: tuple[int, ...]
    counted: int
    partners: tuple[int | None, ...]


# The maps of a unit's sentences, and those of the neutral prompt on its picture.
_Maps = tuple[tuple[HeadMaps, ...], HeadMaps | None]


def look(
    engine: Engine, samples: Sequence[Sample], batch: Sequence[Unit], what: Look, before: int
) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """One record of the journal: what a batch of units tells, and its faults.

    Args:
        engine: whose model looks, with its own prompt.
        samples: the data set.
        batch: units of it.
        what: what is measured.
        before: how many samples were looked at before this batch.
    """
    faults: list[Fault] = []
    asked = []
    for unit in batch:
        opened, wrong = _open(engine, samples, unit)
        faults += wrong
        asked += [opened] if opened is not None else []
    places: list[int] = []
    parts: list[Mapping[str, np.ndarray]] = []
    seen: list[tuple[_Asked, _Maps]] = []
    for some, found in guarded(lambda units: _maps(engine, units, what), asked):
        if isinstance(found, VGError):
            rest, wrong = _one_by_one(engine, some[0], what)
            faults += wrong
            seen += [rest] if rest is not None else []
        else:
            seen += zip(some, found, strict=True)
    for one, (maps, neutral) in seen:
        parts.append(_columns(engine, one, maps, neutral, what, before + len(places)))
        places += one.places[: one.counted]
    columns = {
        name: pack(np.concatenate([part[name] for part in parts]))
        for name in (sorted(parts[0]) if parts else ())
    }
    return {SAMPLES: places, COLUMNS: columns, FAULTS: fault_records(faults)}, tuple(faults)


def _open(
    engine: Engine, samples: Sequence[Sample], unit: Unit
) -> tuple[_Asked | None, list[Fault]]:
    """The unit with its picture, without the samples whose boxes do not fit."""
    faults: list[Fault] = []
    picture: Picture | None = None
    good: list[int] = []
    for number, place in enumerate(unit.samples):
        try:
            # The same picture, decoded once: only the boxes are checked again.
            opened = open_picture(
                engine,
                samples[place] if picture is None else replace(samples[place], image=picture),
            )
        except VGError as error:
            if number < unit.counted:
                faults.append(as_fault(samples[place].id, error))
            continue
        picture = picture or opened
        good.append(number)
    if picture is None:
        return None, faults
    whole = tuple(samples[place] for place in unit.samples)
    every = _Asked(picture, whole, unit.samples, unit.counted, unit.partners)
    return _only(every, good), faults


def _only(asked: _Asked, good: Sequence[int]) -> _Asked | None:
    """A unit of some of the samples; whose partner is gone gets another one, if there is one."""
    counted = [number for number in good if number < asked.counted]
    if not counted:
        return None
    place = {number: new for new, number in enumerate(good)}
    partners = []
    for number in counted:
        wanted = asked.partners[number]
        if wanted is not None and wanted not in place:
            own = asked.samples[number]
            wanted = next((n for n in good if not own.same_target(asked.samples[n])), None)
        partners.append(None if wanted is None else place[wanted])
    return _Asked(
        asked.picture,
        tuple(asked.samples[number] for number in good),
        tuple(asked.places[number] for number in good),
        len(counted),
        tuple(partners),
    )


def _one_by_one(
    engine: Engine, unit: _Asked, what: Look
) -> tuple[tuple[_Asked, _Maps] | None, list[Fault]]:
    """A unit that failed whole: each sentence alone, so that what fails is only what cannot."""
    found: dict[int, HeadMaps] = {}
    faults = []
    for number, sample in enumerate(unit.samples):
        asked = [(unit.picture, sample.text)]
        ((_, maps),) = guarded(engine.maps_many, asked)
        if not isinstance(maps, VGError):
            found[number] = maps[0]
        elif number < unit.counted:
            faults.append(as_fault(sample.id, maps))
    rest = _only(unit, list(found))
    if rest is None:
        return None, faults
    ((_, neutral),) = guarded(lambda units: _neutral(engine, units, what), [rest])
    if isinstance(neutral, VGError):
        return None, [*faults, *told(neutral, rest.samples[: rest.counted])]
    return (rest, (tuple(found.values()), neutral[0])), faults


def _maps(engine: Engine, asked: Sequence[_Asked], what: Look) -> list[_Maps]:
    """The maps of every sentence of some units, and of the neutral prompt on each picture."""
    requests = [(unit.picture, sample.text) for unit in asked for sample in unit.samples]
    found = iter(engine.maps_many(requests))
    grouped = [tuple(next(found) for _ in unit.samples) for unit in asked]
    return list(zip(grouped, _neutral(engine, asked, what), strict=True))


def _neutral(engine: Engine, asked: Sequence[_Asked], what: Look) -> Sequence[HeadMaps | None]:
    """The maps of the neutral prompt on each picture, where somebody contrasts with them."""
    if not what.contrasts:
        return [None] * len(asked)
    prompt = replace(engine.settings.prompt, template="{expression}")
    return engine.maps_many([(unit.picture, what.neutral) for unit in asked], prompt=prompt)


def _columns(
    engine: Engine,
    unit: _Asked,
    maps: Sequence[HeadMaps],
    neutral: HeadMaps | None,
    what: Look,
    before: int,
) -> Mapping[str, np.ndarray]:
    counted = unit.samples[: unit.counted]
    boxes = [sample.boxes for sample in counted]
    seen = measure_heads(
        maps,
        criteria=what.criteria,
        boxes=boxes if head_statistics.INSIDE in what.columns else None,
        partners=unit.partners if what.pairs else None,
        neutral=neutral,
    )
    columns = dict(seen.columns)
    if not what.columns.isdisjoint(_SINGLES):
        own = [
            _own(engine, one, unit.picture, sample if before + n < what.singles else None)
            for n, (one, sample) in enumerate(zip(maps, counted, strict=False))
        ]
        columns[head_statistics.IOU] = np.stack([one for one, _ in own])
        columns[head_statistics.HIT] = np.stack([hit for _, hit in own])
    return columns


def _own(
    engine: Engine, maps: HeadMaps, picture: Picture, sample: Sample | None
) -> tuple[np.ndarray, np.ndarray]:
    """How well each head alone does on one sample; NaN where nobody asks or the truth is open."""
    if sample is None or sample.boxes is None or not len(sample.boxes):
        none = np.full(len(maps.heads), np.nan, dtype=np.float32)
        return none, none
    return head_fit(maps, picture.size, engine.settings.read_out, sample.boxes)
