"""One batch of a discovery: pictures seen with all heads, and what each head is measured by."""

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
from vg_engine.studies.shared.journal import pack
from vg_engine.studies.shared.open_samples import open_picture
from vg_engine.studies.shared.resumable import fault_records

SAMPLES, COLUMNS, FAULTS = "samples", "columns", "faults"
_PAIRS = (head_statistics.SENSITIVITY, head_statistics.AGREEMENT)
_CONTRASTS = (head_statistics.CONTRAST, head_statistics.CONTRAST_ENTROPY)
_PER_HEAD = (head_statistics.IOU, head_statistics.HIT)


@dataclass(frozen=True)
class Measurement:
    """The measurements to take.

    Attributes:
        columns: their names (`vg_engine.core.selection.head_statistics.COLUMNS`).
        criteria: how the entropy is taken.
        neutral: the neutral prompt of the contrast.
        per_head: of the first so many samples each head's own box is measured as well.
    """

    columns: frozenset[str]
    criteria: Criteria
    neutral: str
    per_head: int

    @property
    def pairs(self) -> bool:
        """True where expressions about one picture are compared."""
        return not self.columns.isdisjoint(_PAIRS)

    @property
    def contrasts(self) -> bool:
        """True where the neutral prompt is asked as well."""
        return not self.columns.isdisjoint(_CONTRASTS)


@dataclass(frozen=True, eq=False)
class _OpenUnit:
    """A unit whose picture could be opened; `samples` and `partners` as in `Unit`."""

    picture: Picture
    samples: tuple[Sample, ...]
    places: tuple[int, ...]
    counted: int
    partners: tuple[int | None, ...]


def measure_batch(
    engine: Engine,
    samples: Sequence[Sample],
    batch: Sequence[Unit],
    wanted: Measurement,
    before: int,
) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """Measure a batch of units: one record of the journal, and the batch's faults.

    Args:
        engine: whose model is asked, with its own prompt.
        samples: the data set.
        batch: units of it.
        wanted: what is measured.
        before: how many samples were measured before this batch.
    """
    faults: list[Fault] = []
    opened: list[_OpenUnit] = []
    for unit in batch:
        one, wrong = _open(engine, samples, unit)
        faults += wrong
        opened += [one] if one is not None else []
    places: list[int] = []
    parts: list[Mapping[str, np.ndarray]] = []
    neutrals = _neutral(engine, opened, wanted)
    requests = [(unit.picture, sample.text) for unit in opened for sample in unit.samples]
    found = iter(engine.maps_many(requests, errors="yield"))
    for whole, neutral in zip(opened, neutrals, strict=True):
        asked = [next(found) for _ in whole.samples]
        wrong, one = _without_faults(whole, asked)
        faults += wrong
        if one is None:
            continue
        if isinstance(neutral, VGError):
            faults += [as_fault(sample.id, neutral) for sample in one.samples[: one.counted]]
            continue
        maps = [each for each in asked if isinstance(each, HeadMaps)]
        parts.append(_columns(engine, one, maps, neutral, wanted, before + len(places)))
        places += one.places[: one.counted]
    columns = {
        name: pack(np.concatenate([part[name] for part in parts]))
        for name in (sorted(parts[0]) if parts else ())
    }
    return {SAMPLES: places, COLUMNS: columns, FAULTS: fault_records(faults)}, tuple(faults)


def _open(
    engine: Engine, samples: Sequence[Sample], unit: Unit
) -> tuple[_OpenUnit | None, list[Fault]]:
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
    every = _OpenUnit(picture, whole, unit.samples, unit.counted, unit.partners)
    return _only(every, good), faults


def _only(asked: _OpenUnit, good: Sequence[int]) -> _OpenUnit | None:
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
    return _OpenUnit(
        asked.picture,
        tuple(asked.samples[number] for number in good),
        tuple(asked.places[number] for number in good),
        len(counted),
        tuple(partners),
    )


def _without_faults(
    unit: _OpenUnit, asked: Sequence[HeadMaps | VGError]
) -> tuple[list[Fault], _OpenUnit | None]:
    """The faults of a unit's own sentences, and the unit of those that could be asked."""
    faults = [
        as_fault(sample.id, one)
        for sample, one in zip(unit.samples[: unit.counted], asked, strict=False)
        if isinstance(one, VGError)
    ]
    good = [number for number, one in enumerate(asked) if isinstance(one, HeadMaps)]
    return faults, unit if len(good) == len(asked) else _only(unit, good)


def _neutral(
    engine: Engine, opened: Sequence[_OpenUnit], wanted: Measurement
) -> Sequence[HeadMaps | VGError | None]:
    """The maps of the neutral prompt on each picture, where a rule contrasts with them."""
    if not wanted.contrasts:
        return [None] * len(opened)
    prompt = replace(engine.settings.prompt, template="{expression}")
    requests = [(unit.picture, wanted.neutral) for unit in opened]
    return engine.maps_many(requests, prompt=prompt, errors="yield")


def _columns(
    engine: Engine,
    unit: _OpenUnit,
    maps: Sequence[HeadMaps],
    neutral: HeadMaps | None,
    wanted: Measurement,
    before: int,
) -> Mapping[str, np.ndarray]:
    counted = unit.samples[: unit.counted]
    boxes = [sample.boxes for sample in counted]
    seen = measure_heads(
        maps,
        criteria=wanted.criteria,
        boxes=boxes if head_statistics.INSIDE in wanted.columns else None,
        partners=unit.partners if wanted.pairs else None,
        neutral=neutral,
    )
    columns = dict(seen.columns)
    if not wanted.columns.isdisjoint(_PER_HEAD):
        own = [
            _own(engine, one, unit.picture, sample if before + n < wanted.per_head else None)
            for n, (one, sample) in enumerate(zip(maps, counted, strict=False))
        ]
        columns[head_statistics.IOU] = np.stack([one for one, _ in own])
        columns[head_statistics.HIT] = np.stack([hit for _, hit in own])
    return columns


def _own(
    engine: Engine, maps: HeadMaps, picture: Picture, sample: Sample | None
) -> tuple[np.ndarray, np.ndarray]:
    """Score each head alone on one sample; NaN where it is not asked for or has no true box."""
    if sample is None or sample.boxes is None or not len(sample.boxes):
        none = np.full(len(maps.heads), np.nan, dtype=np.float32)
        return none, none
    return head_fit(maps, picture.size, engine.settings.read_out, sample.boxes)
