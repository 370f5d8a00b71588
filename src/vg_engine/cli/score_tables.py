"""Tables of scores on a terminal: intervals beside the numbers where there is room, else below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED = 240  # columns of what is no terminal: a row stays on its line, for grep
_GAP = 2


@dataclass(frozen=True)
class Line:
    """A row of numbers.

    Attributes:
        name: of the row.
        cells: numbers with their intervals (`0.853 [0.826, 0.879]`).
        said: what the row is, in a few words.
        muted: it stands back (a control).
    """

    name: str
    cells: Sequence[str]
    said: str = ""
    muted: bool = False


def show(titles: Sequence[str], lines: Sequence[Line]) -> None:
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
    explained = max(len(line.said) for line in lines)
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
        table.add_row(Text(line.name, style), *cells, *([Text(line.said, "dim")] if last else []))
    screen.print(table)
    if not last:
        for line in lines:
            if line.said:
                screen.print(Text.assemble((f"{line.name}: {line.said}", "dim")))


def _cell(cell: str, style: str, *, beside: bool) -> Text:
    value, gap, interval = cell.partition(" ")
    return Text.assemble((value, style), (gap if beside else "\n" * bool(gap)), (interval, "dim"))
