"""`vg-engine ablate`: the work."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from vg_engine._load import load
from vg_engine.cli import console
from vg_engine.cli.discovering import SCENES
from vg_engine.cli.evaluating import command_line
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html import ablation as report
from vg_engine.measure import discovery
from vg_engine.measure.ablated import Row
from vg_engine.measure.ablation import NUMBERS, REPORT, TABLES, Ablation, Settings
from vg_engine.measure.ablation import ablate as vary
from vg_engine.measure.calibration import calibrate
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.files import write_whole
from vg_engine.registry import catalog

# What the embedded model is scored on: neither its calibration nor the exam, which is for results.
FRESH = "scenes?split=calibration&draw=1&n=600"
CALIBRATION = "calibration"
_PIPED = 240  # columns of what is no terminal: a row stays on its line, for grep
_GAP = 2


@dataclass(frozen=True)
class Asked:
    """What the command line says, but for the model."""

    calibration: str | None
    data: str | None
    mode: str
    out: Path
    strict: bool
    as_json: bool
    tables: str | None
    looking: Mapping[str, Any]
    scoring: Mapping[str, Any]


def ablate(asked: Asked, choices: Mapping[str, Any]) -> None:
    """Vary the method, and write tables and report.

    Raises:
        VGError: the user's mistake, or a disk that is full; what was done stays.
    """
    settings = Settings(tables=_tables(asked.tables), **asked.scoring)
    singles = discovery.SINGLES if "spearman" in settings.tables else 0
    looking = discovery.Settings(**asked.looking, singles=singles)
    calibration, data = map(open_data, _data(asked, choices["source"]))
    remarks = {"date": dt.datetime.now(dt.UTC).date().isoformat()}
    with console.notes() as notes, console.quiet_libraries():
        notes.tell([*calibration.statements, *data.statements])
        with console.waiting("loading the model"):
            # Every head is looked at: which set the model has does not matter, its prompt does.
            engine = load(**choices, heads="auto")
        with engine:
            notes.tell(engine.model.statements)
            heads = calibrate(
                engine,
                calibration,
                asked.out / CALIBRATION,
                mode=asked.mode,
                tables=settings.tables,
                settings=looking,
                strict=asked.strict,
                remarks=remarks,
                working=console.working,
            )
            found = vary(
                engine,
                heads,
                data,
                asked.out,
                settings=settings,
                strict=asked.strict,
                remarks=remarks,
                working=console.working,
            )
        for sentence in found.warnings:
            console.say("warning", sentence)
        notes.tell(found.notes)
    with console.waiting("writing the report"):
        text = json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
        write_whole(asked.out / NUMBERS, f"{text}\n".encode())
        page = report.page(found, command=command_line())
        write_whole(asked.out / REPORT, page.render().encode())
    if asked.as_json:
        console.result(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        _show(found, asked.out)
    if found.fault_count:
        records = "1 record" if found.fault_count == 1 else f"{found.fault_count:,} records"
        first = found.faults[0]
        console.say(
            "note",
            f"{records} could not be used, the first: {first.id}: {first.error} "
            f"(counted in {asked.out / NUMBERS})",
        )


def _tables(text: str | None) -> tuple[str, ...]:
    """The names of a list, in the order of the report."""
    if text is None:
        return TABLES
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _data(asked: Asked, model: str | None) -> tuple[str, str]:
    """The names of both data sets."""
    entry = catalog.find_model(model) if model is not None else None
    if model is None or (entry is not None and entry.name == catalog.EMBEDDED):
        return asked.calibration or SCENES, asked.data or FRESH
    if asked.calibration is None or asked.data is None:
        raise InputError(
            "which sentences? heads are chosen on --calibration and scored on --data, as "
            "--calibration 'refcoco:/data/refer?split=train' --data 'refcoco:/data/refer?split=val'"
        )
    return asked.calibration, asked.data


def _show(found: Ablation, out: Path) -> None:
    default = found.default.variant
    for table in found.tables.values():
        console.result(f"{table.sheet.title} (n = {found.n:,})")
        _show_table(found.metrics, table.sheet.axis, table.distinct)
        if table.finding:
            console.result(table.finding)
        console.result("")
    if found.spearman:
        how = report.SPEARMAN
        told = [f"{how[name]} {rho}" for name, rho in found.spearman.items() if name in how]
        console.result(f"Spearman's rho of the ranking and each head alone: {', '.join(told)}")
    named = ", ".join(map(str, default.heads))
    count = f"{found.n:,} sentences about {found.pictures:,} pictures"
    console.result(
        f"{count}; in brackets: 95 % intervals, whole pictures resampled; default: {named}"
    )
    console.result(str(out / REPORT))


def _show_table(metrics: Sequence[str], axis: str, shown: Sequence[Row]) -> None:
    """Print a table on stdout; where it is too wide, some intervals are left to the report."""
    screen = Console(highlight=False, markup=False)
    if not screen.is_terminal:
        screen.width = _PIPED
    titles = [*(metric(name).title for name in metrics), f"{metric(metrics[0]).title} - default"]
    rows = [[str(row.scores[name]) for name in metrics] + [_less(row, metrics[0])] for row in shown]
    names = max(len(row.variant.label) for row in shown)
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    if names + sum(widths) + _GAP * len(widths) > screen.width:
        rows = [[row[0], *(cell.partition(" ")[0] for cell in row[1:-1]), row[-1]] for row in rows]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    wide = names + sum(widths) + _GAP * len(widths) <= screen.width
    said = max(len(row.variant.said) for row in shown)
    last = names + sum(widths) + said + _GAP * (1 + len(widths)) <= screen.width
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column(axis, no_wrap=wide)
    for title in titles:
        grid.add_column(title, justify="right", no_wrap=wide)
    if last:
        grid.add_column("", no_wrap=True)
    for row, cells in zip(shown, rows, strict=True):
        variant = row.variant
        style = "bold" if variant.default else "dim" if variant.control else ""
        grid.add_row(
            Text(variant.label, style),
            *(_cell(cell, style) for cell in cells),
            *([Text(variant.said, "dim")] if last else []),
        )
    screen.print(grid)


def _less(row: Row, name: str) -> str:
    if row.variant.default:
        return "default"
    if not row.against:
        return "the same"
    return str(row.against[name]).partition(", p = ")[0]


def _cell(cell: str, style: str) -> Text:
    value, gap, interval = cell.partition(" [")
    return Text.assemble((value, style), (gap + interval, "dim"))
