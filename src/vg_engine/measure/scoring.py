"""One batch of an evaluation: pictures opened, asked once per prompt, read by every contestant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.outcomes import outcome
from vg_engine.core.evaluation.samples import Fault, Sample, as_fault, fit_boxes
from vg_engine.core.heads import Head
from vg_engine.measure import records
from vg_engine.measure.answers import Given, Reading, Truth, centre
from vg_engine.measure.contestants import CENTRE, CENTRE_SHARE, Contestant, Plan
from vg_engine.measure.loop import guarded, told
from vg_engine.measure.race import Race
from vg_engine.measure.records import Record


@dataclass(frozen=True, eq=False)
class Asked:
    """A sample whose picture and truth are there; `place` is its own in the data set."""

    place: int
    sample: Sample
    picture: Picture
    truth: Truth


@dataclass(frozen=True, eq=False)
class _Read:
    """A sample whose maps were read: the main answer, and the record with all others."""

    asked: Asked
    grounding: Grounding
    record: Record


def score_batch(
    engine: Engine,
    plan: Plan,
    races: Mapping[str, Race],
    samples: Sequence[Sample],
    batch: Sequence[Unit],
) -> list[Record]:
    """The records of a batch, in its order; what fails is a fault among them.

    Args:
        engine: whose answers are scored.
        plan: who answers.
        races: the single heads that are still read, by contestant.
        samples: the data set.
        batch: units of it; each holds all samples of one picture, for the post-processors.

    Raises:
        PluginError: a post-processor broke.
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
    read: list[_Read] = []
    step = engine.settings.batch_size
    for start in range(0, len(opened), step):
        chunk = opened[start : start + step]
        for part, found in guarded(lambda some: _read(engine, plan, races, some), chunk):
            if isinstance(found, VGError):
                faults = told(found, [asked.sample for asked in part])
                done |= {a.place: _fault(f) for a, f in zip(part, faults, strict=True)}
            else:
                read += found
    done |= dict(_scored(engine, plan, read))
    return [done[place] for unit in batch for place in unit.samples]


def open_sample(
    engine: Engine, samples: Sequence[Sample], place: int, picture: Picture | None = None
) -> Asked:
    """A sample with its picture and its truth.

    Args:
        engine: decodes the picture.
        samples: the data set.
        place: of the sample in it.
        picture: the sample's, where it was decoded already.

    Raises:
        VGError: the picture cannot be used, or the truth does not fit it.
    """
    sample = samples[place]
    if sample.boxes is None and sample.mask is None:
        raise InputError("it has no true box and no true mask: there is nothing to score against")
    picture = engine.picture(sample.open()) if picture is None else picture
    mask = None if sample.mask is None else sample.mask()
    width, height = picture.size
    if mask is not None and mask.mask.shape != (height, width):
        rows, columns = mask.mask.shape
        raise InputError(
            f"its true mask is {columns} x {rows}, its picture {width} x {height}; mend the "
            "annotation"
        )
    boxes = None if sample.boxes is None else fit_boxes(sample.boxes, picture.size)
    outcome(true_boxes=boxes, true_mask=mask, found=False)  # refuses truths that contradict
    return Asked(place, sample, picture, Truth(boxes, mask))


def main_answer(engine: Engine, plan: Plan, seen: HeadMaps, picture: Picture) -> Grounding:
    """What `engine.ground` answers, before its post-processors."""
    return engine.read(seen, picture, plan.main.heads or _auto(engine, seen))


def _auto(engine: Engine, seen: HeadMaps) -> tuple[Head, ...]:
    return engine.variant(head_set=None).choose(seen).heads


def _read(
    engine: Engine, plan: Plan, races: Mapping[str, Race], part: Sequence[Asked]
) -> list[_Read]:
    """Ask about some samples, once per prompt, and let every contestant but the main one answer."""
    requests = [(one.picture, one.sample.text) for one in part]
    made = [records.of_sample(one.sample, one.truth, one.picture.size) for one in part]
    main: list[Grounding] = []
    for index, (prompt, heads) in enumerate(zip(plan.prompts, plan.heads, strict=True)):
        observed = engine.maps_many(requests, heads, prompt=prompt)
        rows = [row for row in plan.of_prompt(index) if row not in (plan.main, plan.raw)]
        for one, record, seen in zip(part, made, observed, strict=True):
            if not index:
                main.append(main_answer(engine, plan, seen, one.picture))
            mask = one.truth.mask is not None
            reader = Reading(seen, one.picture.size, engine.settings.read_out, masks=mask)
            for row in rows:
                heads_of_row = row.heads or (_auto(engine, seen) if row.kind == "auto" else ())
                answer = _answer(row, heads_of_row, reader, one.truth, races)
                record["answers"][row.name] = answer
    return [_Read(*each) for each in zip(part, main, made, strict=True)]


def _answer(
    row: Contestant,
    heads: Sequence[Head],
    reader: Reading,
    truth: Truth,
    races: Mapping[str, Race],
) -> Record:
    if row.kind == "random":
        return records.of_answers([given.against(truth) for given in reader.sums(row.draws)])
    if row.kind == "single":
        alone = reader.singles(races[row.name].heads)
        return records.of_answers([given.against(truth) for given in alone])
    given = reader.combined(heads)
    return records.of_answer(given, given.against(truth))


def _scored(engine: Engine, plan: Plan, read: Sequence[_Read]) -> Iterator[tuple[int, Record]]:
    """The whole records, the main answer refined together with all about the same picture."""
    for _, group in groupby(read, key=lambda one: id(one.asked.picture)):
        run = list(group)
        refined = engine.refine([one.grounding for one in run], run[0].asked.picture)
        for one, grounding in zip(run, refined, strict=True):
            truth, size = one.asked.truth, one.asked.picture.size
            others = one.record["answers"]
            own = {plan.main.name: Given.of(grounding)}
            if plan.raw is not None:
                own[plan.raw.name] = Given.of(one.grounding)
            if any(row.kind == "centre" for row in plan.contestants):
                own[CENTRE] = centre(size, CENTRE_SHARE, mask=truth.mask is not None)
            for name, given in own.items():
                others[name] = records.of_answer(given, given.against(truth))
            answers = {row.name: others[row.name] for row in plan.contestants}
            yield one.asked.place, one.record | {"answers": answers}


def _fault(fault: Fault) -> Record:
    return {"id": fault.id, "error": fault.error}
