"""Ablations (paper, section 4): the choices of the method varied one by one, on any model and data.

Heads are chosen on one data set and scored on another. Each sentence of the second is asked once
(once per prompt), and every variant is read from the same maps. The scores go into a journal, so
that the work can be stopped at any moment; the tables are made from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, NotFoundError, nearest
from vg_engine.core.evaluation.draws import Unit, batches, units
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.plugins.datasets.names import Data
from vg_engine.studies.ablate.batch import read_batch
from vg_engine.studies.ablate.calibration import Calibration, ShowPass, calibrate
from vg_engine.studies.ablate.results import WORK, Ablation, Scored, VariantTable
from vg_engine.studies.ablate.tables import make_plan
from vg_engine.studies.ablate.variants import VariantPlan
from vg_engine.studies.discover.discovery import PER_HEAD, DiscoverSettings
from vg_engine.studies.shared import ranges
from vg_engine.studies.shared.journal import Journal
from vg_engine.studies.shared.leakage import shared_pictures
from vg_engine.studies.shared.records import Record
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

RECORDS, CALIBRATION = "readings.jsonl", "calibration"
TABLES = ("k", "criteria", "sigma", "kernel", "per_sample", "region", "spearman")
DEARER = ("entropy", "query_row")  # each row takes passes of its own


@dataclass(frozen=True)
class AblateSettings:
    """Settings of an ablation.

    Attributes:
        tables: names of `TABLES` and `DEARER`.
        samples, draws: calibration sentences per random draw, number of draws.
        random_draws: of random heads.
        seed: of draws, random heads and the bootstrap.
        resamples: of the bootstrap.
        limit: only the first so many samples; None takes all.
    """

    tables: tuple[str, ...] = TABLES
    samples: int = 1000
    draws: int = 5
    random_draws: int = 20
    seed: int = 0
    resamples: int = 2000
    limit: int | None = None

    def __post_init__(self) -> None:
        for name in self.tables:
            if name not in (*TABLES, *DEARER):
                raise NotFoundError(f"no table {name!r}; {nearest(name, (*TABLES, *DEARER))}")
        if not self.tables:
            raise InputError(f"name at least one table: {', '.join((*TABLES, *DEARER))}")
        ranges.check(samples=self.samples, draws=self.draws, random_draws=self.random_draws)
        ranges.check(seed=self.seed, resamples=self.resamples, limit=self.limit)


def not_shown(_words: str) -> AbstractContextManager[Progress]:
    """Show no progress."""
    return nullcontext(no_progress)


def ablate(
    engine: Engine,
    calibration: Data,
    data: Data,
    out: Path | str | None = None,
    *,
    rule: str = "paper",
    settings: AblateSettings | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    command: str = "",
    show_pass: ShowPass = not_shown,
) -> Ablation:
    """Vary the choices of the method one by one, and score every variant.

    Args:
        engine: asks with its own prompt; its region and smoothing are the default row's.
        calibration: heads are chosen on it; a data set, its name or a list of samples.
        data: they are scored on it: other sentences, with true boxes or masks.
        out: folder of the journals and of what `Ablation.save` writes; a run that was stopped
            goes on there. None keeps no file.
        rule: of the default row.
        settings: tables, draws, seed, limit.
        strict: the first fault stops everything.
        remarks: kept in the journals when they are begun (the date).
        command: what was typed, for the foot of the report.
        show_pass: called with a few words on each pass; the block that it opens shows its progress.

    Returns:
        A table per choice; `save(folder)` writes the numbers and the report.

    Raises:
        InputError: nothing to score against, a rule that the data does not permit, or a folder
            that holds other work.
        HeadsError: what was observed tells the rule nothing.
        OutputError: the folder cannot be written; what was done stays.

    Example:
        >>> import vg_engine
        >>> few = vg_engine.AblateSettings(("k",), samples=8, draws=1, limit=4, resamples=50)
        >>> first, second = "scenes?split=calibration&n=8", "scenes?split=calibration&draw=1&n=8"
        >>> with vg_engine.load(heads="auto") as engine:
        ...     found = vg_engine.ablate(engine, first, second, settings=few)
        >>> [row.variant.label for row in found.tables["k"].rows][:3]
        ['1', '2', '3']
    """
    settings = settings or AblateSettings()
    chosen_on = read_samples(calibration, strict=strict)
    found = read_samples(data, limit=settings.limit, strict=strict)
    found.check_truth()
    with work_folder(out) as folder:
        heads = calibrate(
            engine,
            chosen_on,
            folder / CALIBRATION,
            rule=rule,
            tables=settings.tables,
            settings=DiscoverSettings(
                samples=settings.samples,
                draws=settings.draws,
                seed=settings.seed,
                per_head=PER_HEAD if "spearman" in settings.tables else 0,
            ),
            strict=strict,
            remarks=remarks,
            show_pass=show_pass,
        )
        plan = make_plan(
            engine, heads, settings.tables, draws=settings.random_draws, seed=settings.seed
        )
        warnings = _leaks(engine, heads, found.samples, found.data)
        kept = _kept(engine, found, settings, plan)
        with Journal(folder / RECORDS, WORK, kept, remarks=remarks) as journal:
            most = engine.settings.batch_size
            grouped = batches(units(found.samples, range(len(found.samples)), most=most), most)

            def read(batch: Sequence[Unit]) -> Sequence[Record]:
                return read_batch(engine, plan, found.samples, batch)

            with show_pass("reading") as progress:
                run_batches(journal, found, grouped, read, strict=strict, progress=progress)
            ablation = _made(heads, found.data, settings, plan, journal, warnings, kept)
        if out is not None:
            ablation.save(folder, command=command)
    return ablation


def _leaks(
    engine: Engine, calibration: Calibration, samples: Sequence[Sample], data: DataSet
) -> tuple[str, ...]:
    """Say how many of the scored pictures heads were chosen on."""
    shared = shared_pictures(engine, calibration.drawn, samples)
    if not shared:
        return ()
    scored = len({sample.picture for sample in samples})
    return (
        (
            f"heads were chosen on {shared:,} of the {scored:,} scored pictures (drawn from "
            f"{calibration.data.name}, scored from {data.name}): the scores flatter them; score on "
            "other pictures"
        ),
    )


def _kept(
    engine: Engine, found: SampleList, settings: AblateSettings, plan: VariantPlan
) -> dict[str, Any]:
    """All that the records depend on."""
    return {
        **settings_of(engine, found),
        "samples": len(found.samples),
        "faults": len(found.faults),
        "limit": settings.limit,
        "k": engine.settings.k,
        "query_rows": [prompt.query_row for prompt in plan.prompts],
        "readings": [reading.to_json() for reading in plan.readings],
    }


def _made(
    calibration: Calibration,
    data: DataSet,
    settings: AblateSettings,
    plan: VariantPlan,
    journal: Journal,
    warnings: tuple[str, ...],
    kept: Mapping[str, Any],
) -> Ablation:
    """The tables of what the journal holds."""
    first, count = first_faults(journal)
    scored = Scored(journal.records, plan.default, resamples=settings.resamples, seed=settings.seed)
    if not scored.pictures:
        raise nothing_scored(data, first, count)
    found = calibration.discovery
    spearman = found.correlations(found.chosen) if "spearman" in settings.tables else {}
    notes = [*data.statements, *found.statements, *found.chosen.notes]
    notes += [*calibration.notes, *plan.notes]
    if found.resampled:
        notes.append(
            f"The calibration data holds no more than {found.settings['samples']:,} sentences, so "
            "its draws are resamples of all of it, picture by picture."
        )
    if "spearman" in settings.tables and not spearman:
        notes.append("table spearman left out: the calibration data has no true boxes")
    return Ablation(
        calibration=calibration,
        default=scored.row(plan.default),
        tables={
            sheet.name: VariantTable(sheet, tuple(map(scored.row, sheet.variants)))
            for sheet in plan.sheets
        },
        spearman=spearman,
        metrics=scored.metrics,
        n=len(scored.pictures),
        pictures=len(set(scored.pictures)),
        distinct=len(plan.readings),
        faults=first,
        fault_count=count,
        warnings=warnings,
        notes=tuple(dict.fromkeys(notes)),
        settings={**kept, "resamples": settings.resamples, "seed": settings.seed},
        remarks=journal.remarks,
    )
