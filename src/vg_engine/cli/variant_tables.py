"""The tables of an ablation on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from vg_engine.cli import console
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html.ablation import SPEARMAN
from vg_engine.studies.ablate.results import Ablation, VariantScores

_PIPED = 240  # columns of what is no terminal: a row stays on its line, for grep
_GAP = 2


def tell(found: Ablation, out: Path) -> None:
    """Print every table, and where the report lies."""
    default = found.default.variant
    for table in found.tables.values():
        console.result(f"{table.sheet.title} (n = {found.n:,})")
        _show_table(found.metrics, table.sheet.axis, table.distinct)
        if table.finding:
            console.result(table.finding)
        console.result("")
    if found.spearman:
        how = SPEARMAN
        told = [f"{how[name]} {rho}" for name, rho in found.spearman.items() if name in how]
        console.result(f"Spearman's rho of the ranking and each head alone: {', '.join(told)}")
    named = ", ".join(map(str, default.heads))
    count = f"{found.n:,} sentences about {found.pictures:,} pictures"
    console.result(
        f"{count}; in brackets: 95 % intervals, whole pictures resampled; default: {named}"
    )
    console.result(str(out / "report.html"))


def _show_table(metrics: Sequence[str], axis: str, shown: Sequence[VariantScores]) -> None:
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
    widest = max(len(row.variant.description) for row in shown)
    last = names + sum(widths) + widest + _GAP * (1 + len(widths)) <= screen.width
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
            *([Text(variant.description, "dim")] if last else []),
        )
    screen.print(grid)


def _less(row: VariantScores, name: str) -> str:
    if row.variant.default:
        return "default"
    if not row.against:
        return "the same"
    return str(row.against[name]).partition(", p = ")[0]


def _cell(cell: str, style: str) -> Text:
    value, gap, interval = cell.partition(" [")
    return Text.assemble((value, style), (gap + interval, "dim"))
