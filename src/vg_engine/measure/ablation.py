"""Ablations (paper, section 4): the choices of the method varied one by one, on any model and data.

Heads are chosen on one data set and scored on another. Each sentence of the second is asked once
(once per prompt), and every variant is read from the same maps. What each was worth goes into a
journal, so that the work can be stopped at any moment; the tables are made from the journal.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine._version import __version__
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, NotFoundError, nearest
from vg_engine.core.evaluation.draws import Unit, batches, units
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.measure import loop
from vg_engine.measure.ablated import Row, Scored, Table, row_json
from vg_engine.measure.calibration import Calibration, Working, unseen
from vg_engine.measure.findings import correlations, shown_faults
from vg_engine.measure.overlap import shared_pictures
from vg_engine.measure.planning import make_plan
from vg_engine.measure.reading import read_batch
from vg_engine.measure.records import Record
from vg_engine.measure.tables import estimate_json
from vg_engine.measure.variants import Plan
from vg_engine.plugins.exporters.records import plain
from vg_engine.plugins.files import prepare_folder
from vg_engine.plugins.journal import Journal

WORK, RECORDS, NUMBERS, REPORT = "ablate", "readings.jsonl", "ablation.json", "report.html"
TABLES = ("k", "criteria", "sigma", "kernel", "per_sample", "region", "spearman")
DEARER = ("entropy", "query_row")  # each row takes passes of its own
_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Settings:
    """What is varied, and how it is scored.

    Attributes:
        tables: names of `TABLES` and `DEARER`.
        random_draws: of random heads.
        seed: of random heads and of the bootstrap.
        resamples: of the bootstrap.
        limit: only the first so many samples; None takes all.
    """

    tables: tuple[str, ...] = TABLES
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
        if self.random_draws < 1 or self.resamples < 1:
            raise InputError(
                f"random draws and resamples must be at least 1, got {self.random_draws} and "
                f"{self.resamples}"
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit must be at least 1, got {self.limit}")


@dataclass(frozen=True, eq=False)
class Ablation:
    """What was measured.

    Attributes:
        calibration: the heads, by every way of choosing them.
        default: the row that all others are compared with.
        tables: by name.
        spearman: over the candidates, their frequency against how well each does alone, on the
            calibration data; by column.
        metrics: those that the data can tell, the first is the one that charts show.
        n, pictures: samples that were scored, and the pictures that they are about.
        distinct: readings per sample.
        faults, fault_count: the first of what could not be used, and how many there are.
        warnings: what makes the numbers worth less than they look.
        notes: what was left out, what the data and the model say of themselves.
        settings, remarks: as the journal keeps them.
    """

    calibration: Calibration
    default: Row
    tables: Mapping[str, Table]
    spearman: Mapping[str, Estimate]
    metrics: tuple[str, ...]
    n: int
    pictures: int
    distinct: int
    faults: tuple[Fault, ...]
    fault_count: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `ablation.json` holds them; floats have six decimals."""
        found = self.calibration.discovery
        return {
            "work": WORK,
            "tool": f"vg-engine {__version__}",
            "date": self.remarks.get("date"),
            "model": self.settings["model"],
            "calibration": {
                "data": found.settings["data"],
                "mode": found.mode.text,
                "samples": found.settings["samples"],
                "draws": found.settings["draws"],
                "drawn": found.drawn,
                "measured": found.measured,
                "resampled": found.resampled,
                "faults": shown_faults(found.faults),
            },
            "data": self.settings["data"],
            "n": self.n,
            "pictures": self.pictures,
            "readings_per_sample": self.distinct,
            "metrics": {name: metric(name).description for name in self.metrics},
            "default": row_json(self.default, self.n),
            "tables": {
                name: {
                    "title": table.sheet.title,
                    "axis": table.sheet.axis,
                    "rows": [row_json(row, self.n) for row in table.rows],
                }
                for name, table in self.tables.items()
            },
            "spearman": {name: estimate_json(rho) for name, rho in self.spearman.items()},
            "faults": {
                "count": self.fault_count,
                "first": loop.fault_records(self.faults),
            },
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "settings": plain(dict(self.settings)),
        }


def ablate(
    engine: Engine,
    calibration: Calibration,
    data: DataSet,
    out: Path,
    *,
    settings: Settings | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    working: Working = unseen,
) -> Ablation:
    """Score every variant.

    Args:
        engine: asks with its own prompt; its region and smoothing are the default row's.
        calibration: the heads (`vg_engine.measure.calibration.calibrate`).
        data: sentences with true boxes or masks, other ones than the heads were chosen on.
        out: folder of the journal; what is there already is gone on with.
        settings: tables, seed, limit.
        strict: the first fault stops everything.
        remarks: kept in the journal when it is begun (the date).
        working: shows the progress.

    Raises:
        InputError: nothing to score against, or a folder that holds other work.
        OutputError: the folder cannot be written; what was done stays.
    """
    settings = settings or Settings()
    plan = make_plan(
        engine, calibration, settings.tables, draws=settings.random_draws, seed=settings.seed
    )
    found = loop.read(loop.limited(data, settings.limit), strict=strict)
    loop.check_truth(data, found)
    warnings = _leaks(engine, calibration, found.samples, data)
    kept = _kept(engine, data, settings, plan, found)
    with Journal(prepare_folder(out) / RECORDS, WORK, kept, remarks=remarks) as journal:
        with working("reading") as told:
            _work(engine, plan, found, journal, strict=strict, told=told)
        return _made(calibration, data, settings, plan, journal, warnings, kept)


def _leaks(
    engine: Engine, calibration: Calibration, samples: Sequence[Sample], data: DataSet
) -> tuple[str, ...]:
    """Whether heads were chosen on pictures that are scored, in words."""
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
    engine: Engine, data: DataSet, settings: Settings, plan: Plan, found: loop.Read
) -> dict[str, Any]:
    """All that the records depend on."""
    return {
        **loop.asking(engine),
        "data": data.name,
        "data_revision": data.revision,
        "samples": len(found.samples),
        "faults": len(found.faults),
        "records": loop.listed(found),
        "limit": settings.limit,
        "batch_size": engine.settings.batch_size,
        "k": engine.settings.k,
        "query_rows": [prompt.query_row for prompt in plan.prompts],
        "readings": [reading.to_json() for reading in plan.readings],
    }


def _work(
    engine: Engine,
    plan: Plan,
    found: loop.Read,
    journal: Journal,
    *,
    strict: bool,
    told: loop.Told,
) -> None:
    """Read every batch that the journal does not hold yet."""
    most = engine.settings.batch_size
    grouped = batches(units(found.samples, range(len(found.samples)), most=most), most)

    def read(batch: Sequence[Unit]) -> Sequence[Record]:
        return read_batch(engine, plan, found.samples, batch)

    loop.through(journal, found, grouped, read, strict=strict, told=told)


def _made(
    calibration: Calibration,
    data: DataSet,
    settings: Settings,
    plan: Plan,
    journal: Journal,
    warnings: tuple[str, ...],
    kept: Mapping[str, Any],
) -> Ablation:
    """The tables of what the journal holds."""
    failed = (record for record in journal.records() if "error" in record)
    first = loop.failed(list(itertools.islice(failed, _SHOWN_FAULTS)))
    count = len(first) + sum(1 for _ in failed)
    scored = Scored(journal.records, plan.default, resamples=settings.resamples, seed=settings.seed)
    if not scored.pictures:
        why = f"; the first of {count} faults: {first[0].id}: {first[0].error}" if first else ""
        raise InputError(f"no sample of {data.name} could be scored{why}")
    found = calibration.discovery
    spearman = correlations(found, found.chosen) if "spearman" in settings.tables else {}
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
            sheet.name: Table(sheet, tuple(map(scored.row, sheet.variants)))
            for sheet in plan.sheets
        },
        spearman=spearman,
        metrics=scored.metrics,
        n=len(scored.pictures),
        pictures=len(set(scored.pictures)),
        distinct=len(plan.readings),
        faults=tuple(first),
        fault_count=count,
        warnings=warnings,
        notes=tuple(dict.fromkeys(notes)),
        settings={**kept, "resamples": settings.resamples, "seed": settings.seed},
        remarks=journal.remarks,
    )
