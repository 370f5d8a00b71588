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
from vg_engine.core.evaluation.samples import Sample, as_fault
from vg_engine.core.heads import Head
from vg_engine.core.readout.instances import ReadOut
from vg_engine.studies.ablate.variants import VariantPlan
from vg_engine.studies.shared import records
from vg_engine.studies.shared.open_samples import (
    OpenSample,
    SampleTruth,
    auto_heads,
    good_maps,
    open_batch,
)
from vg_engine.studies.shared.predictions import MapReader, Prediction
from vg_engine.studies.shared.records import Record


def read_batch(
    engine: Engine, plan: VariantPlan, samples: Sequence[Sample], batch: Sequence[Unit]
) -> list[Record]:
    """Make the records of a batch, in its order; what fails is a fault among them.

    Args:
        engine: whose model is asked.
        plan: what is read.
        samples: the data set.
        batch: units of it.
    """
    opened, faults = open_batch(engine, samples, batch)
    done = {place: records.of_fault(fault) for place, fault in faults.items()}
    requests = [(one.picture, one.sample.text) for one in opened]
    asked = [
        engine.maps_many(requests, heads, prompt=prompt, errors="yield")
        for prompt, heads in zip(plan.prompts, plan.heads, strict=True)
    ]
    for one, observed in zip(opened, zip(*asked, strict=True), strict=True):
        try:
            worths = read_sample(engine, plan, good_maps(observed), one)
        except VGError as error:
            done[one.place] = records.of_fault(as_fault(one.sample.id, error))
            continue
        done[one.place] = {
            "id": one.sample.id,
            "picture": one.sample.picture,
            "target": worths[0].target,
            "worth": records.of_answers(worths),
        }
    return [done[place] for unit in batch for place in unit.samples]


def read_sample(
    engine: Engine, plan: VariantPlan, seen: Sequence[HeadMaps], opened: OpenSample
) -> list[Outcome]:
    """Score each reading of the plan on one sample; equal readings are read once.

    All sums of heads that are smoothed alike are smoothed at once.

    Args:
        engine: its settings, but for what the readings vary.
        plan: what is read.
        seen: the sample's maps, per prompt.
        opened: the sample with its picture and truth.
    """
    known = plan.readings
    if any(not reading.heads for reading in known):
        auto = [auto_heads(engine, maps) for maps in seen]
        known = tuple(r if r.heads else replace(r, heads=auto[r.prompt]) for r in known)
    alike: dict[tuple[Any, ...], dict[frozenset[Head], tuple[Head, ...]]] = {}
    for reading in known:
        alike.setdefault(reading.same[1:], {}).setdefault(reading.same[0], reading.heads)
    worths: dict[tuple[Any, ...], Outcome] = {}
    for how, groups in alike.items():
        reader = _reader(plan, seen, opened, *how)
        for heads, given in zip(groups, reader.sums(list(groups.values())), strict=True):
            worths[heads, *how] = _worth(given, opened.truth)
    # The default row is what the engine answers, to the last bit.
    first = known[0]
    reader = _reader(plan, seen, opened, *first.same[1:])
    worths[first.same] = _worth(reader.combined(first.heads), opened.truth)
    return [worths[reading.same] for reading in known]


def _reader(
    plan: VariantPlan,
    seen: Sequence[HeadMaps],
    opened: OpenSample,
    sigma: float,
    kernel: int,
    region: str,
    prompt: int,
) -> MapReader:
    how = ReadOut(plan.regions[region], sigma, kernel)
    return MapReader(seen[prompt], opened.picture.size, how, masks=opened.truth.mask is not None)


def _worth(given: Prediction, truth: SampleTruth) -> Outcome:
    """As `Prediction.against`, but for GREC's F1, which no table shows and which takes longest."""
    worth = outcome(
        true_boxes=truth.boxes, true_mask=truth.mask, point=given.point, mask=given.mask
    )
    if truth.boxes is None or len(truth.boxes) != 1:
        return worth
    return replace(worth, iou=float(iou(given.boxes[0], truth.boxes[0])))
