"""One batch of an evaluation: pictures opened, asked once per prompt, read by every entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.samples import Sample, as_fault
from vg_engine.core.heads import Head
from vg_engine.studies.evaluate.best_head import BestHead
from vg_engine.studies.evaluate.entries import CENTRE, CENTRE_SHARE, EntryPlan, TableEntry
from vg_engine.studies.shared import records
from vg_engine.studies.shared.open_samples import (
    OpenSample,
    SampleTruth,
    auto_heads,
    good_maps,
    open_batch,
)
from vg_engine.studies.shared.predictions import MapReader, Prediction, centre
from vg_engine.studies.shared.records import Record


@dataclass(frozen=True, eq=False)
class _ReadSample:
    """A sample whose maps were read: the main answer, and the record with all others."""

    opened: OpenSample
    grounding: Grounding
    record: Record


def score_batch(
    engine: Engine,
    plan: EntryPlan,
    searches: Mapping[str, BestHead],
    samples: Sequence[Sample],
    batch: Sequence[Unit],
) -> list[Record]:
    """Make the records of a batch, in its order; what fails is a fault among them.

    Args:
        engine: whose answers are scored.
        plan: who answers.
        searches: the single heads that are still read, by entry.
        samples: the data set.
        batch: units of it; each holds all samples of one picture, for the post-processors.

    Raises:
        PluginError: a post-processor broke.
    """
    opened, faults = open_batch(engine, samples, batch)
    read: list[_ReadSample] = []
    step = engine.settings.batch_size  # no more maps are held than one pass makes
    for start in range(0, len(opened), step):
        chunk = opened[start : start + step]
        requests = [(one.picture, one.sample.text) for one in chunk]
        asked = [
            engine.maps_many(requests, heads, prompt=prompt, errors="yield")
            for prompt, heads in zip(plan.prompts, plan.heads, strict=True)
        ]
        for one, observed in zip(chunk, zip(*asked, strict=True), strict=True):
            try:
                read.append(_read(engine, plan, searches, one, good_maps(observed)))
            except VGError as error:
                faults[one.place] = as_fault(one.sample.id, error)
    done = {place: records.of_fault(fault) for place, fault in faults.items()}
    done |= dict(_scored(engine, plan, read))
    return [done[place] for unit in batch for place in unit.samples]


def main_answer(engine: Engine, plan: EntryPlan, seen: HeadMaps, picture: Picture) -> Grounding:
    """Answer as `engine.ground` does, before its post-processors."""
    return engine.read(seen, picture, plan.main.heads or auto_heads(engine, seen))


def _read(
    engine: Engine,
    plan: EntryPlan,
    searches: Mapping[str, BestHead],
    opened: OpenSample,
    observed: Sequence[HeadMaps],
) -> _ReadSample:
    """Let every entry but the main one answer a sample from its maps."""
    record = records.of_sample(opened)
    for index, seen in enumerate(observed):
        mask = opened.truth.mask is not None
        reader = MapReader(seen, opened.picture.size, engine.settings.read_out, masks=mask)
        for row in plan.of_prompt(index):
            if row not in (plan.main, plan.raw):
                heads = row.heads or (auto_heads(engine, seen) if row.kind == "auto" else ())
                record["answers"][row.name] = _answer(row, heads, reader, opened.truth, searches)
    return _ReadSample(opened, main_answer(engine, plan, observed[0], opened.picture), record)


def _answer(
    row: TableEntry,
    heads: Sequence[Head],
    reader: MapReader,
    truth: SampleTruth,
    searches: Mapping[str, BestHead],
) -> Record:
    if row.kind == "random":
        return records.of_answers([given.against(truth) for given in reader.sums(row.draws)])
    if row.kind == "single":
        alone = reader.per_head(searches[row.name].heads)
        return records.of_answers([given.against(truth) for given in alone])
    given = reader.combined(heads)
    return records.of_answer(given, given.against(truth))


def _scored(
    engine: Engine, plan: EntryPlan, read: Sequence[_ReadSample]
) -> Iterator[tuple[int, Record]]:
    """Complete the records: the main answer is refined together with all about the same picture."""
    for _, group in groupby(read, key=lambda one: id(one.opened.picture)):
        run = list(group)
        refined = engine.refine([one.grounding for one in run], run[0].opened.picture)
        for one, grounding in zip(run, refined, strict=True):
            truth, size = one.opened.truth, one.opened.picture.size
            others = one.record["answers"]
            own = {plan.main.name: Prediction.of(grounding)}
            if plan.raw is not None:
                own[plan.raw.name] = Prediction.of(one.grounding)
            if any(row.kind == "centre" for row in plan.entries):
                own[CENTRE] = centre(size, CENTRE_SHARE, mask=truth.mask is not None)
            for name, given in own.items():
                others[name] = records.of_answer(given, given.against(truth))
            answers = {row.name: others[row.name] for row in plan.entries}
            yield one.opened.place, one.record | {"answers": answers}
