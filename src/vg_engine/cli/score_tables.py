"""Tables of scores on a terminal: intervals beside the numbers where there is room, else below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vg_engine.cli import console
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.studies.compare.results import Comparison
from vg_engine.studies.evaluate.results import Evaluation

_PIPED = 240  # columns of what is no terminal: a row stays on its line, for grep
_GAP = 2


@dataclass(frozen=True)
class ScoreLine:
    """A row of numbers.

    Attributes:
        name: of the row.
        cells: numbers with their intervals (`0.853 [0.826, 0.879]`).
        description: what the row is, in a few words.
        muted: it stands back (a control).
    """

    name: str
    cells: Sequence[str]
    description: str = ""
    muted: bool = False


def show(titles: Sequence[str], lines: Sequence[ScoreLine]) -> None:
    """Print a table on stdout.

    Args:
        titles: one per column of numbers.
        lines: the first one stands out.
    """
    screen = Console(highlight=False, markup=False)
    if not screen.is_terminal:
        screen.width = _PIPED
    columns = [
        max(map(len, column))
        for column in zip(titles, *(line.cells for line in lines), strict=True)
    ]
    names = max(len(line.name) for line in lines)
    explained = max(len(line.description) for line in lines)
    whole = names + sum(columns) + _GAP * len(columns)
    beside = whole <= screen.width
    last = beside and whole + _GAP + explained <= screen.width
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=beside)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    if last:
        table.add_column("", no_wrap=True)
    for number, line in enumerate(lines):
        style = "dim" if line.muted else "bold" if not number else ""
        cells = [_cell(cell, style, beside=beside) for cell in line.cells]
        table.add_row(
            Text(line.name, style), *cells, *([Text(line.description, "dim")] if last else [])
        )
    screen.print(table)
    if not last:
        for line in lines:
            if line.description:
                screen.print(Text.assemble((f"{line.name}: {line.description}", "dim")))


def _cell(cell: str, style: str, *, beside: bool) -> Text:
    value, gap, interval = cell.partition(" ")
    return Text.assemble((value, style), (gap if beside else "\n" * bool(gap)), (interval, "dim"))


def tell(found: Evaluation | Comparison, out: Path | None) -> None:
    """Print the tables of an evaluation or a comparison, and where the report lies."""
    if isinstance(found, Comparison):
        _differences(found, out)
    else:
        _scores(found, out)


def _differences(found: Comparison, out: Path | None) -> None:
    show(
        ["A", "B", "A - B", "p", "McNemar"],
        [
            ScoreLine(
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
        console.result(f"{letter}: {side.entry.name} of {side.kept.path.parent}")
    console.result(
        f"{found.n:,} sentences about {found.pictures:,} pictures; in brackets: 95 % intervals, "
        "whole pictures resampled"
    )
    for note in found.notes:
        console.result(f"note: {note}")
    if out is not None:
        console.result(str(out / "comparison.html"))


def _scores(found: Evaluation, out: Path | None) -> None:
    names = found.table.headline
    show(
        [metric(name).title for name in names],
        [
            ScoreLine(
                row.entry.name,
                [str(row.scores[name]) for name in names],
                row.entry.description,
                row.entry.control,
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
        where = f"see {out / 'eval.json'}" if out is not None else "--out DIR keeps them all"
        first = found.faults[0]
        console.result(
            f"{records} could not be used, the first: {first.id}: {first.error}; {where}"
        )
    if out is not None:
        console.result(str(out / "report.html"))
