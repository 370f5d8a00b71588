"""Scoring an engine's answers on a data set, with controls beside them: `vg_engine.evaluate`.

Every sample is asked once per prompt. What each contestant answered, and what that is worth, goes
into a journal, so that the work can be stopped at any moment; all tables are made from the journal.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vg_engine.core.contract.picture import Picture
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, OutputError, VGError
from vg_engine.core.evaluation.draws import Unit, batches, units
from vg_engine.core.evaluation.outcomes import METRICS
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.core.geometry import SoftMap
from vg_engine.core.heads import HeadSet
from vg_engine.measure import contestants, loop, tables
from vg_engine.measure.columns import Columns, read_columns
from vg_engine.measure.columns import batches as by_batch
from vg_engine.measure.contestants import Plan, make_plan
from vg_engine.measure.race import Race
from vg_engine.measure.records import RECORDS, WORK, Record
from vg_engine.measure.scoring import main_answer, open_sample, score_batch
from vg_engine.measure.tables import Against, Group, Table
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.exporters.records import plain
from vg_engine.plugins.files import prepare_folder, write_whole
from vg_engine.plugins.journal import Journal

NUMBERS, REPORT = "eval.json", "report.html"
_SHOWN_FAULTS = 20
_ROUNDING = (
    "numbers are rounded to 6 decimals, pixels to 3, areas to 1; the IoU and F1 of a record are "
    "cut to 6, so that none climbs over a threshold; n/a is null"
)


@dataclass(frozen=True)
class Settings:
    """How answers are scored.

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
        if self.resamples < 1:
            raise InputError(f"resamples must be at least 1, got {self.resamples}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit must be at least 1, got {self.limit}")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the answers are worth.

    Attributes:
        table: all samples, the main contestant first.
        sizes: small, medium and large objects.
        groups: per key of the data set's groups, its values.
        against: the main contestant less each other one.
        columns: what each sample adds to each metric.
        faults: the first of what could not be used.
        fault_count: how many there are.
        notes: what a reader of the table should know.
        settings, remarks: as the journal keeps them.
    """

    table: Table
    sizes: tuple[Group, ...]
    groups: Mapping[str, tuple[Group, ...]]
    against: tuple[Against, ...]
    columns: Columns
    faults: tuple[Fault, ...]
    fault_count: int
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]

    @property
    def pictures(self) -> int:
        """How many pictures the samples are about."""
        return len(set(self.columns.pictures))

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `eval.json` holds them."""
        return {
            "work": WORK,
            "data": self.settings["data"],
            "n": self.table.n,
            "pictures": self.pictures,
            "metrics": {m.name: {"title": m.title, "is": m.description} for m in METRICS},
            "table": self.table.to_json(),
            "against_first": [
                {
                    "name": one.contestant.name,
                    "differences": {n: tables.paired_json(d) for n, d in one.differences.items()},
                }
                for one in self.against
            ],
            "object_size": {g.value: _group_json(g) for g in self.sizes},
            "groups": {
                key: {group.value: _group_json(group) for group in groups}
                for key, groups in self.groups.items()
            },
            "faults": {
                "count": self.fault_count,
                "first": [{"id": fault.id, "error": fault.error} for fault in self.faults],
            },
            "notes": list(self.notes),
            "rounding": _ROUNDING,
            "remarks": dict(self.remarks),
            "settings": plain(dict(self.settings)),
        }


def _group_json(group: Group) -> dict[str, Any]:
    return {"n": group.table.n, "table": group.table.to_json()}


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with its picture, for the report.

    Attributes:
        record: what was answered.
        picture: what it was about.
        heat: the main contestant's map.
    """

    record: Record
    picture: Picture
    heat: SoftMap


def evaluate(
    engine: Engine,
    data: DataSet | str,
    out: Path | str | None = None,
    *,
    heads: Sequence[HeadSet | str | None] = (),
    prompt: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    command: str = "",
    told: loop.Told = loop.quiet,
) -> Evaluation:
    """Score an engine's answers, with controls beside them.

    Args:
        engine: answers as `engine.ground` does; its head set is the first row.
        data: a data set, or its name (`scenes?split=exam`).
        out: folder for `records.jsonl`, `eval.json` and `report.html`; what is there already is
            gone on with. None keeps no file.
        heads: further rows: head sets, their names or YAML files, `L14H24,L14H13`, or `auto`
            (None), which selects heads on each picture.
        prompt: what was said of the prompt when the engine was loaded. A further set is asked
            with the prompt that it was found with, and refused if that is another.
        settings: controls, seed, limit.
        strict: the first fault stops everything.
        remarks: kept when the work is begun (the date).
        command: what was typed, for the foot of the report.
        told: called after each batch.

    Raises:
        InputError: nothing to score against, or a folder that holds other work.
        HeadsError: heads that do not fit the model.
        OutputError: the folder cannot be written; what was done stays.
    """
    settings = settings or Settings()
    data = open_data(data) if isinstance(data, str) else data
    others = [contestants.named(one) if isinstance(one, str) else one for one in heads]
    plan = make_plan(
        engine,
        others,
        given=prompt,
        draws=settings.draws,
        seed=settings.seed,
        controls=settings.controls,
        oracle=settings.oracle,
    )
    seen = contestants.found_here((engine.head_set, *others), data)
    plan = replace(plan, notes=(*plan.notes, *seen))
    found = loop.read(loop.limited(data, settings.limit), strict=strict)
    loop.check_truth(data, found)
    kept = _kept(engine, data, settings, plan, found)
    with _folder(out) as folder:
        with Journal(folder / RECORDS, WORK, kept, remarks=remarks) as journal:
            for part in (*folder.glob(f".{NUMBERS}.*"), *folder.glob(f".{REPORT}.*")):
                part.unlink(missing_ok=True)  # what a kill left half written
            _work(engine, plan, found, journal, strict=strict, told=told)
            evaluation = _made(engine, data, settings, plan, journal, kept)
        if out is not None:
            text = json.dumps(evaluation.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
            write_whole(folder / NUMBERS, f"{text}\n".encode())
            from vg_engine.html import evaluation as report  # noqa: PLC0415 - for files alone

            cases = show_cases(engine, plan, found.samples, evaluation)
            page = report.page(evaluation, cases, command=command)
            write_whole(folder / REPORT, page.render().encode())
    return evaluation


@contextmanager
def _folder(out: Path | str | None) -> Iterator[Path]:
    if out is not None:
        yield prepare_folder(Path(out))
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="vg-engine-")
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(
            f"no temporary folder can be made ({cause}); name a folder with --out"
        ) from error
    with made as folder:
        yield Path(folder)


def _kept(
    engine: Engine, data: DataSet, settings: Settings, plan: Plan, found: loop.Read
) -> dict[str, Any]:
    """All that the records depend on."""
    how = engine.settings
    return {
        **loop.asking(engine),
        "data": data.name,
        "data_revision": data.revision,
        "samples": len(found.samples),
        "faults": len(found.faults),
        "records": loop.listed(found),
        "limit": settings.limit,
        "seed": settings.seed,
        "batch_size": how.batch_size,
        "region": how.region_name,
        "sigma": how.sigma,
        "kernel": how.kernel,
        "k": how.k,
        "postprocess": engine.stamp()["postprocess"],
        **contestants.as_settings(plan),
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
    """Score every batch that the journal does not hold yet."""
    made = units(found.samples, range(len(found.samples)), most=len(found.samples))
    grouped: Sequence[tuple[Unit, ...]] = batches(made, engine.settings.batch_size)
    races = {c.name: Race(c.name, c.heads) for c in plan.contestants if c.kind == "single"}

    def add(records: Sequence[Record]) -> None:
        for race in races.values():
            race.add(records)

    for batch in by_batch(journal.records()):
        add(batch)

    def score(batch: Sequence[Unit]) -> Sequence[Record]:
        return score_batch(engine, plan, races, found.samples, batch)

    loop.through(journal, found, grouped, score, strict=strict, told=told, after=add)


def _made(
    engine: Engine,
    data: DataSet,
    settings: Settings,
    plan: Plan,
    journal: Journal,
    kept: Mapping[str, Any],
) -> Evaluation:
    """The tables of what the journal holds."""
    failed = (record for record in journal.records() if "error" in record)
    first = loop.failed(list(itertools.islice(failed, _SHOWN_FAULTS)))
    count = len(first) + sum(1 for _ in failed)
    columns = read_columns(journal.records, plan.contestants)
    if not columns.ids:
        why = f"; the first of {count} faults: {first[0].id}: {first[0].error}" if first else ""
        raise InputError(f"no sample of {data.name} could be scored{why}")
    how: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    return Evaluation(
        table=tables.make_table(columns, **how),
        sizes=tuple(tables.make_sizes(columns, **how)),
        groups={k: tuple(g) for k, g in tables.make_groups(columns, **how).items()},
        against=tuple(tables.against_main(columns, **how)),
        columns=columns,
        faults=tuple(first),
        fault_count=count,
        notes=(*data.statements, *engine.model.statements, *plan.notes, *_notes(columns)),
        settings={**kept, "resamples": settings.resamples},
        remarks=journal.remarks,
    )


def _notes(columns: Columns) -> Iterator[str]:
    """What the data cannot tell."""
    main = columns.parts[columns.contestants[0].name]
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


def show_cases(
    engine: Engine, plan: Plan, samples: Sequence[Sample], evaluation: Evaluation
) -> tuple[tuple[Shown, ...], tuple[Shown, ...]]:
    """The worst and the best cases with pictures and maps; what cannot be opened is left out."""
    places = {sample.id: place for place, sample in enumerate(samples)}
    wanted = plan.main.heads or engine.model.candidate_heads

    def shown(records: Sequence[Record]) -> Iterator[Shown]:
        for record in records:
            try:
                picture = open_sample(engine, samples, places[record["id"]]).picture
                (seen,) = engine.maps_many([(picture, record["text"])], wanted)
            except VGError:
                continue
            yield Shown(record, picture, main_answer(engine, plan, seen, picture).soft_map)

    return tuple(shown(evaluation.columns.worst)), tuple(shown(evaluation.columns.best))
