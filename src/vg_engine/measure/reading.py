"""One batch of an ablation: sentences asked once per prompt, every distinct reading read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.evaluation.outcomes import Outcome, outcome
from vg_engine.core.evaluation.samples import Fault, Sample, as_fault
from vg_engine.core.heads import Head
from vg_engine.core.readout.instances import ReadOut
from vg_engine.measure import loop, records
from vg_engine.measure.answers import Given, Reading, Truth
from vg_engine.measure.records import Record
from vg_engine.measure.scoring import Asked, open_sample
from vg_engine.measure.variants import Plan, informed


def read_batch(
    engine: Engine, plan: Plan, samples: Sequence[Sample], batch: Sequence[Unit]
) -> list[Record]:
    """The records of a batch, in its order; what fails is a fault among them.

    Args:
        engine: whose model is asked.
        plan: what is read.
        samples: the data set.
        batch: units of it.
    """
    done: dict[int, Record] = {}
    opened: list[Asked] = []
    for unit in batch:
        for place in unit.samples:
            known = opened[-1].picture if opened and opened[-1].place in unit.samples else None
            try:
                opened.append(open_sample(engine, samples, place, known))
            except VGError as error:
                done[place] = _fault(as_fault(samples[place].id, error))
    for part, found in loop.guarded(lambda some: _read(engine, plan, some), opened):
        if isinstance(found, VGError):
            faults = loop.told(found, [one.sample for one in part])
            done |= {one.place: _fault(fault) for one, fault in zip(part, faults, strict=True)}
        else:
            done |= {one.place: record for one, record in zip(part, found, strict=True)}
    return [done[place] for unit in batch for place in unit.samples]


def _read(engine: Engine, plan: Plan, part: Sequence[Asked]) -> list[Record]:
    """Ask about some samples, once per prompt, and read every variant."""
    requests = [(one.picture, one.sample.text) for one in part]
    observed = [
        engine.maps_many(requests, heads, prompt=prompt) if requests else ()
        for prompt, heads in zip(plan.prompts, plan.heads, strict=True)
    ]
    made = []
    for one, seen in zip(part, zip(*observed, strict=True), strict=True):
        worths = read_sample(engine, plan, seen, one)
        made.append(
            {
                "id": one.sample.id,
                "picture": one.sample.picture,
                "target": worths[0].target,
                "worth": records.of_answers(worths),
            }
        )
    return made


def read_sample(
    engine: Engine, plan: Plan, seen: Sequence[HeadMaps], asked: Asked
) -> list[Outcome]:
    """What each reading of the plan is worth on one sample; what is the same is read once.

    All sums of heads that are smoothed alike are smoothed at once.

    Args:
        engine: its settings, but for what the readings vary.
        plan: what is read.
        seen: the sample's maps, per prompt.
        asked: the sample with its picture and truth.
    """
    known = plan.readings
    if any(not reading.heads for reading in known):
        auto = [_auto(engine, maps) for maps in seen]
        known = tuple(r if r.heads else replace(r, heads=auto[r.prompt]) for r in known)
    alike: dict[tuple[Any, ...], dict[frozenset[Head], tuple[Head, ...]]] = {}
    for reading in known:
        alike.setdefault(reading.same[1:], {}).setdefault(reading.same[0], reading.heads)
    worths: dict[tuple[Any, ...], Outcome] = {}
    for how, groups in alike.items():
        reader = _reader(plan, seen, asked, *how)
        for heads, given in zip(groups, reader.sums(list(groups.values())), strict=True):
            worths[heads, *how] = _worth(given, asked.truth)
    # The default row is what the engine answers, to the last bit.
    first = known[0]
    reader = _reader(plan, seen, asked, *first.same[1:])
    worths[first.same] = _worth(reader.combined(first.heads), asked.truth)
    return [worths[reading.same] for reading in known]


def _reader(
    plan: Plan,
    seen: Sequence[HeadMaps],
    asked: Asked,
    sigma: float,
    kernel: int,
    region: str,
    prompt: int,
) -> Reading:
    how = ReadOut(informed(plan.regions[region], sigma, kernel), sigma, kernel)
    return Reading(seen[prompt], asked.picture.size, how, masks=asked.truth.mask is not None)


def _worth(given: Given, truth: Truth) -> Outcome:
    """As `Given.against`, but for GREC's F1, which no table shows and which takes longest."""
    worth = outcome(
        true_boxes=truth.boxes, true_mask=truth.mask, point=given.point, mask=given.mask
    )
    if truth.boxes is None or len(truth.boxes) != 1:
        return worth
    return replace(worth, iou=float(iou(given.boxes[0], truth.boxes[0])))


def _auto(engine: Engine, maps: HeadMaps) -> tuple[Head, ...]:
    """The heads that one sentence chooses, as the engine does without a head set."""
    return engine.variant(head_set=None).choose(maps).heads


def _fault(fault: Fault) -> Record:
    return {"id": fault.id, "error": fault.error}
