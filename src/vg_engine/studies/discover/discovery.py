"""Finding the localization heads of a model (paper, section 3): `vg_engine.discover`.

Every drawn picture is looked at once with all heads; what was measured goes into a journal, so that
the work can be stopped at any moment. The rules then rank the heads from the journal, a block at a
time: memory does not grow with the samples, and another rule over the same journal runs no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import HeadsError, InputError, VGError
from vg_engine.core.evaluation.draws import Draws, batches, draw, units
from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.core.selection import head_statistics
from vg_engine.core.selection.head_statistics import COLUMNS as KNOWN
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.ranking import TOP, Block, DrawnStatistics, Selection, select
from vg_engine.plugins.datasets.names import Data
from vg_engine.plugins.files import prepare_folder, slug
from vg_engine.studies.discover.batch import COLUMNS, FAULTS, SAMPLES, Measurement, measure_batch
from vg_engine.studies.discover.results import Discovery, Example
from vg_engine.studies.discover.rules import NamedRule, find_rule, needed
from vg_engine.studies.shared import ranges
from vg_engine.studies.shared.journal import Journal, header, unpack
from vg_engine.studies.shared.open_samples import open_picture
from vg_engine.studies.shared.resumable import (
    Progress,
    SampleList,
    no_progress,
    read_samples,
    refuse_old_faults,
    settings_of,
    stop_if_strict,
    work_folder,
)

JOURNAL = "observations.jsonl"
NEUTRAL = "describe the image"
PER_HEAD = 200
_EXAMPLES = 6  # pictures in the report


@dataclass(frozen=True)
class DiscoverSettings:
    """Settings of a discovery; the defaults are the paper's.

    Attributes:
        samples, draws, seed: sentences per random draw, number of draws.
        k: heads to fix; None lets every candidate of the rule stay.
        per_sample: N, votes per sample, for rules that count votes.
        criteria: how the entropy is taken.
        neutral: the neutral prompt, for rules that contrast with it.
        per_head: samples on which each head's own box is measured, where boxes are known.
        name: of the head set: lower-case letters, digits and hyphens; model and rule without it.
    """

    samples: int = 1000
    draws: int = 5
    seed: int = 0
    k: int | None = TOP
    per_sample: int | None = None
    criteria: Criteria = field(default_factory=Criteria)
    neutral: str = NEUTRAL
    per_head: int = PER_HEAD
    name: str | None = None

    def __post_init__(self) -> None:
        ranges.check(samples=self.samples, draws=self.draws, seed=self.seed, k=self.k)
        ranges.check(per_sample=self.per_sample, per_head=self.per_head)
        if self.name is not None and slug(self.name) != self.name:
            raise InputError(f"--name {self.name!r}: use lower-case letters, digits and hyphens")


def discover(
    engine: Engine,
    data: Data,
    out: Path | str | None = None,
    *,
    rules: Sequence[str] = ("paper",),
    settings: DiscoverSettings | None = None,
    model: str | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Discovery:
    """Find the localization heads of a model.

    Args:
        engine: asks with its own prompt and query row; its region reads the heads' own boxes.
        data: sentences about pictures, or the data set's name. Supervised rules need boxes.
        out: folder of the journal and of what `Discovery.save` writes; a run that was stopped
            goes on there. None keeps no file.
        rules: their names (`paper`, `paper:per_sample=5`), the chosen one first.
        settings: how heads are looked for.
        model: what the user calls the model, for the report and the head set.
        strict: the first fault stops everything.
        remarks: kept in the journal when it is begun (the date).
        command: what was typed, for the foot of the report.
        progress: called after each batch.

    Returns:
        The heads by every rule; `save(folder)` writes the head set, the numbers and the report.

    Raises:
        InputError: rules, data and settings that do not go together, or a journal of others.
        HeadsError: what was observed tells a rule nothing.
        OutputError: a file cannot be written; what was done stays.

    Example:
        >>> import vg_engine
        >>> few = vg_engine.DiscoverSettings(samples=8, draws=1)
        >>> with vg_engine.load(heads="auto") as engine:
        ...     found = vg_engine.discover(engine, "scenes?split=calibration&n=8", settings=few)
        >>> len(found.chosen.heads)
        3
    """
    settings = settings or DiscoverSettings()
    # A rule's name is checked before the data is read.
    _rules(rules, settings)
    records = read_samples(data, strict=strict)
    with work_folder(out) as folder:
        found = rank_heads(
            engine,
            records,
            folder,
            rules=rules,
            settings=settings,
            strict=strict,
            remarks=remarks,
            progress=progress,
        )
    found = replace(found, examples=tuple(_examples(engine, records.samples, found.chosen)))
    if out is not None:
        found.save(out, name=settings.name, model=model, command=command)
    return found


def rank_heads(
    engine: Engine,
    records: SampleList,
    folder: Path,
    *,
    rules: Sequence[str],
    settings: DiscoverSettings,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> Discovery:
    """Find heads in samples that were read before; the arguments are those of `discover`."""
    chosen = _rules(rules, settings)
    boxes = any(sample.boxes is not None and len(sample.boxes) for sample in records.samples)
    wanted = _measurement(chosen, settings, boxes=boxes)
    drawn = draw(
        [sample.picture for sample in records.samples],
        size=settings.samples,
        draws=settings.draws,
        seed=settings.seed,
    )
    path = prepare_folder(folder) / JOURNAL
    wanted = _known_already(path, wanted)
    kept = _kept(engine, records, settings, wanted)
    with Journal(path, "discover", kept, remarks=remarks) as journal:
        refuse_old_faults(journal.records(), strict=strict)
        faults = [*records.faults, *_old_faults(journal)]
        faults += _work(
            engine, records.samples, drawn, wanted, journal, strict=strict, progress=progress
        )
        seen = _observations(engine, journal, drawn)
        found = {
            text: select(rule.rule, seen, name=rule.name, k=settings.k)
            for text, rule in chosen.items()
        }
        means = {
            name: values.mean(axis=0) if name == head_statistics.ATTENTION else _mean(values)
            for name, values in seen.means(*sorted(wanted.columns)).items()
        }
        return Discovery(
            found=found,
            rules=chosen,
            heads=seen.heads,
            means=means,
            settings=kept,
            remarks=journal.remarks,
            in_data=len(records.samples),
            drawn=len(drawn.index),
            measured=sum(len(record[SAMPLES]) for record in journal.records()),
            faults=tuple(faults),
            resampled=drawn.resampled,
            statements=(*records.data.statements, *engine.model.statements),
        )


def _mean(values: Float64[np.ndarray, "draws heads"]) -> Float64[np.ndarray, " heads"]:
    """Mean over the draws in which a value is known."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _rules(texts: Sequence[str], settings: DiscoverSettings) -> dict[str, NamedRule]:
    if not texts:
        raise InputError("name at least one rule; try paper")
    defaults = {} if settings.per_sample is None else {"per_sample": str(settings.per_sample)}
    return {text: find_rule(text, **defaults) for text in dict.fromkeys(texts)}


def _measurement(
    rules: Mapping[str, NamedRule], settings: DiscoverSettings, *, boxes: bool
) -> Measurement:
    columns = needed(rules.values())
    if head_statistics.INSIDE in columns and not boxes:
        raise InputError(
            "this rule needs true boxes, and the data set has none; choose a label-free rule "
            "(paper, contrastive, sensitivity), or data with boxes"
        )
    unknown = columns - set(KNOWN)
    if unknown:
        raise HeadsError(
            f"no statistic is called {', '.join(sorted(unknown))}; known: {', '.join(KNOWN)}"
        )
    # What costs nothing beside the pass itself is measured in any case: other rules may ask later.
    columns |= {head_statistics.ENTROPY}
    if boxes:
        columns |= {head_statistics.INSIDE}
        columns |= {head_statistics.IOU, head_statistics.HIT} if settings.per_head else set()
    return Measurement(columns, settings.criteria, settings.neutral, settings.per_head)


def _known_already(path: Path, wanted: Measurement) -> Measurement:
    """Measure what a journal that is there has measured, where that holds all that is wanted."""
    there = header(path)
    columns = frozenset(there.get("columns", ())) if there else frozenset()
    if not columns.issuperset(wanted.columns) or not columns.issubset(KNOWN):
        return wanted
    return replace(wanted, columns=columns)


def _kept(
    engine: Engine, records: SampleList, settings: DiscoverSettings, wanted: Measurement
) -> dict[str, Any]:
    """All that the observations depend on."""
    return {
        **settings_of(engine, records),
        "samples": settings.samples,
        "draws": settings.draws,
        "seed": settings.seed,
        "criteria": asdict(settings.criteria),
        "columns": sorted(wanted.columns),
        "neutral": settings.neutral if wanted.contrasts else None,
        "per_head": settings.per_head,
        "region": engine.settings.region_name,
        "sigma": engine.settings.sigma,
        "kernel": engine.settings.kernel,
    }


def _old_faults(journal: Journal) -> list[Fault]:
    return [Fault(**fault) for record in journal.records() for fault in record[FAULTS]]


def _work(
    engine: Engine,
    samples: Sequence[Sample],
    drawn: Draws,
    wanted: Measurement,
    journal: Journal,
    *,
    strict: bool,
    progress: Progress,
) -> list[Fault]:
    """Measured at every batch that the journal does not hold yet; returns the new faults."""
    most = engine.settings.batch_size
    made = units(samples, drawn.index.tolist(), most=most, pairs=wanted.pairs)
    grouped = batches(made, most)
    sizes = [sum(unit.counted for unit in batch) for batch in grouped]
    total, done = sum(sizes), sum(sizes[: journal.done])
    progress(done, total)
    faults: list[Fault] = []
    for number in range(journal.done, len(grouped)):
        record, wrong = measure_batch(engine, samples, grouped[number], wanted, done)
        stop_if_strict(wrong, strict=strict)
        journal.append([record])
        faults += wrong
        done += sizes[number]
        progress(done, total)
    return faults


def _observations(engine: Engine, journal: Journal, drawn: Draws) -> DrawnStatistics:
    """Read the journal's statistics, a batch at a time."""
    place = {int(index): row for row, index in enumerate(drawn.index)}

    def blocks() -> Iterator[Block]:
        for record in journal.records():
            if record[SAMPLES]:
                rows = [place[index] for index in record[SAMPLES]]
                columns = {name: unpack(packed) for name, packed in record[COLUMNS].items()}
                yield Block(columns, drawn.weights[rows])

    if next(blocks(), None) is None:
        first = next((f for record in journal.records() for f in record[FAULTS]), None)
        why = f"; the first fault: {first['error']}" if first else ""
        raise InputError(f"none of the drawn samples could be used{why}")
    return DrawnStatistics(engine.model.all_heads, drawn.weights.shape[1], blocks)


def _examples(engine: Engine, samples: Sequence[Sample], chosen: Selection) -> Iterator[Example]:
    """The first samples of different pictures, with what all heads see in them."""
    shown: set[str] = set()
    for sample in samples:
        if len(shown) >= _EXAMPLES:
            break
        if sample.picture in shown:
            continue
        try:
            picture = open_picture(engine, sample)
            maps = engine.maps(picture, sample.text)[0]
        except VGError:
            continue  # it is counted among the faults
        shown.add(sample.picture)
        yield Example(sample, picture, maps, engine.read(maps, picture, chosen.heads))
