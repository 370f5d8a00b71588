"""`vg-engine eval`: the work."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine._load import load
from vg_engine.cli import console, score_tables
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.core.heads import HeadSet
from vg_engine.html import comparison as report
from vg_engine.measure import comparison
from vg_engine.measure.comparison import Comparison
from vg_engine.measure.contestants import named
from vg_engine.measure.evaluation import NUMBERS, REPORT, Evaluation, Settings
from vg_engine.measure.evaluation import evaluate as score
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.files import prepare_folder, write_whole
from vg_engine.registry import catalog

SCENES = "scenes?split=exam"


@dataclass(frozen=True)
class Asked:
    """What the command line says, but for the model."""

    data: str | None
    heads: tuple[str, ...]
    out: Path | None
    strict: bool
    as_json: bool
    settings: Mapping[str, Any]


def evaluate(asked: Asked, choices: Mapping[str, Any]) -> None:
    """Score answers, and say what they are worth.

    Raises:
        VGError: the user's mistake, or a disk that is full; what was done stays.
    """
    settings = Settings(**asked.settings)
    data = open_data(_data(asked.data, choices["source"]))
    main = _main(asked.heads[0]) if asked.heads else None
    with console.notes(), console.quiet_libraries():
        with console.waiting("loading the model"):
            engine = load(**choices, heads=main)
        with engine, console.working("scoring") as told:
            found = score(
                engine,
                data,
                asked.out,
                heads=asked.heads[1:],
                prompt=choices["prompt"],
                settings=settings,
                strict=asked.strict,
                remarks={"date": dt.datetime.now(dt.UTC).date().isoformat()},
                command=command_line(),
                told=told,
            )
    if asked.as_json:
        console.result(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    _show(found, asked.out)


def compare(
    sides: tuple[str, str],
    rows: Sequence[str],
    *,
    out: Path | None,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare two evaluations, and say where they differ.

    Raises:
        VGError: the user's mistake.
    """
    found = comparison.compare(Path(sides[0]), Path(sides[1]), rows, resamples=resamples, seed=seed)
    folder = None if out is None else prepare_folder(out)
    if folder is not None:
        text = json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
        write_whole(folder / comparison.NUMBERS, f"{text}\n".encode())
        with console.waiting("writing the report"):
            pictures, missing = comparison.shown_pictures(found)
            page = report.page(found, pictures, missing, command=command_line())
            write_whole(folder / comparison.REPORT, page.render().encode())
    if as_json:
        console.result(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    _show_differences(found)
    if folder is not None:
        console.result(str(folder / comparison.REPORT))


def _show_differences(found: Comparison) -> None:
    score_tables.show(
        ["A", "B", "A - B", "p", "McNemar"],
        [
            score_tables.Line(
                metric(one.name).title,
                [
                    str(one.a),
                    str(one.b),
                    str(one.paired).partition(", p = ")[0],
                    f"{one.paired.p:.3g}",
                    "" if one.mcnemar is None else f"{one.mcnemar.p:.3g}",
                ],
            )
            for one in found.differences
        ],
    )
    for letter, side in (("A", found.a), ("B", found.b)):
        console.result(f"{letter}: {side.contestant.name} of {side.kept.path.parent}")
    console.result(
        f"{found.n:,} sentences about {found.pictures:,} pictures; in brackets: 95 % intervals, "
        "whole pictures resampled"
    )
    for note in found.notes:
        console.result(f"note: {note}")


def command_line() -> str:
    """What was typed."""
    return shlex.join(["vg-engine", *sys.argv[1:]])


def _data(given: str | None, model: str | None) -> str:
    if given is not None:
        return given
    entry = catalog.find_model(model) if model is not None else None
    if model is None or (entry is not None and entry.name == catalog.EMBEDDED):
        return SCENES
    raise InputError(
        "which sentences? name a data set with --data, as 'refcoco:/data/refer?split=testA' or "
        "jsonl:samples.jsonl"
    )


def _main(text: str) -> str | HeadSet:
    """What `load` takes."""
    return named(text) or text


def _show(found: Evaluation, out: Path | None) -> None:
    names = found.table.headline
    score_tables.show(
        [metric(name).title for name in names],
        [
            score_tables.Line(
                row.contestant.name,
                [str(row.scores[name]) for name in names],
                row.contestant.said,
                row.contestant.control,
            )
            for row in found.table.rows
        ],
    )
    count = f"{found.table.n:,} sentences about {found.pictures:,} pictures"
    console.result(f"{count}; in brackets: 95 % intervals, whole pictures resampled")
    for note in found.notes:
        console.result(f"note: {note}")
    if found.fault_count:
        records = "1 record" if found.fault_count == 1 else f"{found.fault_count:,} records"
        where = f"see {out / NUMBERS}" if out is not None else "--out DIR keeps them all"
        first = found.faults[0]
        console.result(
            f"{records} could not be used, the first: {first.id}: {first.error}; {where}"
        )
    if out is not None:
        console.result(str(out / REPORT))
