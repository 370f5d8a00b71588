"""Scoring an engine's answers on a data set, with controls beside them: `vg_engine.evaluate`.

Every sample is asked once per prompt. Each entry's answer and its score go into a journal, so that
the work can be stopped at any moment; all tables are made from the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.draws import Unit, batches, units
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.core.heads import HeadSet
from vg_engine.plugins.datasets.names import Data
from vg_engine.studies.evaluate import entries, tables
from vg_engine.studies.evaluate.batch import main_answer, score_batch
from vg_engine.studies.evaluate.best_head import BestHead
from vg_engine.studies.evaluate.columns import Columns, read_columns
from vg_engine.studies.evaluate.columns import batches as by_batch
from vg_engine.studies.evaluate.entries import EntryPlan, make_plan
from vg_engine.studies.evaluate.results import NUMBERS, Case, Evaluation
from vg_engine.studies.shared import ranges
from vg_engine.studies.shared.files import REPORT
from vg_engine.studies.shared.journal import Journal
from vg_engine.studies.shared.open_samples import open_sample
from vg_engine.studies.shared.records import RECORDS, WORK, Record
from vg_engine.studies.shared.resumable import (
    Progress,
    SampleList,
    first_faults,
    no_progress,
    nothing_scored,
    read_samples,
    run_batches,
    settings_of,
    work_folder,
)


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of an evaluation.

    Attributes:
        controls: random heads, the mean of all heads, the centre box.
        oracle: the best single head of all, one more control.
        draws: of random heads.
        seed: of the random heads and of the bootstrap.
        resamples: of the bootstrap.
        limit: only the first so many samples; None takes all.
    """

    controls: bool = True
    oracle: bool = True
    draws: int = 20
    seed: int = 0
    resamples: int = 2000
    limit: int | None = None

    def __post_init__(self) -> None:
        draws = {"random_draws": self.draws} if self.controls else {}
        ranges.check(**draws, seed=self.seed, resamples=self.resamples, limit=self.limit)


def evaluate(
    engine: Engine,
    data: Data,
    out: Path | str | None = None,
    *,
    heads: Sequence[HeadSet | str | None] = (),
    prompt: Mapping[str, str] | None = None,
    settings: EvaluateSettings | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score an engine's answers, with controls beside them.

    Args:
        engine: answers as `engine.ground` does; its head set is the first row.
        data: a data set, its name (`scenes?split=exam`), or a list of samples (`open_data`).
        out: folder of `records.jsonl` and of what `Evaluation.save` writes; a run that was
            stopped goes on there. None keeps no file.
        heads: further rows: head sets, their names or YAML files, `L14H24,L14H13`, or `auto`
            (None), which selects heads on each picture.
        prompt: the prompt fields that the engine was loaded with. A further set is asked
            with the prompt that it was found with, and refused if that is another.
        settings: controls, seed, limit.
        strict: the first fault stops everything.
        remarks: kept when the work is begun (the date).
        command: what was typed, for the foot of the report.
        progress: called after each batch.

    Returns:
        The table, the controls and the cases; `save(folder)` writes the numbers and the report.

    Raises:
        InputError: nothing to score against, or a folder that holds other work.
        HeadsError: heads that do not fit the model.
        OutputError: the folder cannot be written; what was done stays.

    Example:
        >>> import vg_engine
        >>> few = vg_engine.EvaluateSettings(limit=4, controls=False, resamples=50)
        >>> with vg_engine.load() as engine:
        ...     found = vg_engine.evaluate(engine, "scenes?split=exam", settings=few)
        >>> [(row.entry.name, row.scores["pointing"].n) for row in found.table.rows]
        [('embedded', 4)]
    """
    settings = settings or EvaluateSettings()
    others = [entries.named(one) if isinstance(one, str) else one for one in heads]
    plan = make_plan(
        engine,
        others,
        given=prompt,
        draws=settings.draws,
        seed=settings.seed,
        controls=settings.controls,
        oracle=settings.oracle,
    )
    found = read_samples(data, limit=settings.limit, strict=strict)
    seen = entries.found_here((engine.head_set, *others), found.data)
    plan = replace(plan, notes=(*plan.notes, *seen))
    found.check_truth()
    kept = _kept(engine, found, settings, plan)
    with work_folder(out) as folder:
        with Journal(folder / RECORDS, WORK, kept, remarks=remarks) as journal:
            for part in (*folder.glob(f".{NUMBERS}.*"), *folder.glob(f".{REPORT}.*")):
                part.unlink(missing_ok=True)  # what a kill left half written
            _work(engine, plan, found, journal, strict=strict, progress=progress)
            evaluation = _made(engine, found.data, settings, plan, journal, kept)
        columns = evaluation.columns
        evaluation = replace(
            evaluation,
            worst=tuple(_cases(engine, plan, found.samples, columns.worst)),
            best=tuple(_cases(engine, plan, found.samples, columns.best)),
        )
        if out is not None:
            evaluation.save(folder, command=command)
    return evaluation


def _kept(
    engine: Engine, found: SampleList, settings: EvaluateSettings, plan: EntryPlan
) -> dict[str, Any]:
    """All that the records depend on."""
    how = engine.settings
    return {
        **settings_of(engine, found),
        "samples": len(found.samples),
        "faults": len(found.faults),
        "limit": settings.limit,
        "seed": settings.seed,
        "region": how.region_name,
        "sigma": how.sigma,
        "kernel": how.kernel,
        "k": how.k,
        "postprocess": engine.stamp()["postprocess"],
        **entries.as_settings(plan),
    }


def _work(
    engine: Engine,
    plan: EntryPlan,
    found: SampleList,
    journal: Journal,
    *,
    strict: bool,
    progress: Progress,
) -> None:
    """Score every batch that the journal does not hold yet."""
    made = units(found.samples, range(len(found.samples)), most=len(found.samples))
    grouped: Sequence[tuple[Unit, ...]] = batches(made, engine.settings.batch_size)
    searches = {c.name: BestHead(c.name, c.heads) for c in plan.entries if c.kind == "single"}

    def add(records: Sequence[Record]) -> None:
        for search in searches.values():
            search.add(records)

    for batch in by_batch(journal.records()):
        add(batch)

    def score(batch: Sequence[Unit]) -> Sequence[Record]:
        return score_batch(engine, plan, searches, found.samples, batch)

    run_batches(journal, found, grouped, score, strict=strict, progress=progress, after=add)


def _made(
    engine: Engine,
    data: DataSet,
    settings: EvaluateSettings,
    plan: EntryPlan,
    journal: Journal,
    kept: Mapping[str, Any],
) -> Evaluation:
    """The tables of what the journal holds."""
    first, count = first_faults(journal)
    columns = read_columns(journal.records, plan.entries)
    if not columns.ids:
        raise nothing_scored(data, first, count)
    how: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    return Evaluation(
        table=tables.make_table(columns, **how),
        sizes=tuple(tables.make_sizes(columns, **how)),
        groups={k: tuple(g) for k, g in tables.make_groups(columns, **how).items()},
        against=tuple(tables.against_main(columns, **how)),
        columns=columns,
        faults=first,
        fault_count=count,
        notes=(*data.statements, *engine.model.statements, *plan.notes, *_notes(columns)),
        settings={**kept, "resamples": settings.resamples},
        remarks=journal.remarks,
    )


def _notes(columns: Columns) -> Iterator[str]:
    """Name the metrics that this data cannot measure."""
    main = columns.parts[columns.entries[0].name]
    if not main["miou"].counted:
        yield "no sample has exactly one true box: Acc@IoU and mIoU are not measured (n/a)"
    if not main["ciou"].counted:
        yield "no sample has a true mask: cIoU and gIoU are not measured (n/a)"
    if not main["pointing"].counted:
        yield "no sample has a target: pointing is not measured (n/a)"
    if columns.mixed:
        yield (
            "some samples have no target or several: until a post-processor says that nothing was "
            "found, every answer is one box"
        )


def _cases(
    engine: Engine, plan: EntryPlan, samples: Sequence[Sample], chosen: Sequence[Record]
) -> Iterator[Case]:
    """Some records with pictures and maps; what cannot be opened is left out."""
    places = {sample.id: place for place, sample in enumerate(samples)}
    wanted = plan.main.heads or engine.model.candidate_heads

    for record in chosen:
        try:
            picture = open_sample(engine, samples, places[record["id"]]).picture
            (seen,) = engine.maps_many([(picture, record["text"])], wanted)
        except VGError:
            continue
        yield Case(record, picture, main_answer(engine, plan, seen, picture).soft_map)
