"""Tables on a terminal of any width: names and numbers stay whole, what does not fit folds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

_GAP = Text("  ")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: of the row.
        cells: one per column; a number may have an interval (`0.853 [0.826, 0.879]`).
        words: what the row is: in the last column, or below it.
        style: of its name and values, as rich has it.
    """

    name: str
    cells: Sequence[str]
    words: str = ""
    style: str = ""


def show(titles: Sequence[str], rows: Sequence[Row], *, numbers: bool = True) -> None:
    """Print a table on stdout; where that is no terminal, each row is one line, for grep."""
    screen = Console(highlight=False, markup=False, soft_wrap=True)
    for line in lines(titles, rows, screen_width(), numbers=numbers):
        line.rstrip()
        screen.print(line)


def basis(sentences: int, pictures: int) -> str:
    """Say how many samples a table is computed from, and what its brackets are."""
    count = f"{sentences:,} sentences about {pictures:,} pictures"
    return f"{count}; in brackets: 95 % intervals, whole pictures resampled"


def screen_width() -> int:
    """The characters of a line on stdout: any number where that is no terminal."""
    screen = Console()
    return screen.width if screen.is_terminal else sys.maxsize


def lines(
    titles: Sequence[str], rows: Sequence[Row], width: int, *, numbers: bool = True
) -> Iterator[Text]:
    """Lay a table out: in columns; else each name above its numbers; else value by value.

    Args:
        titles: of the names, of each column, and of the words if those have one.
        rows: at least one.
        width: of the screen, in characters.
        numbers: the cells are numbers, aligned to the right; else words.
    """
    count = len(rows[0].cells)
    axis, *heads = titles[: count + 1]
    last = "".join(titles[count + 1 :])
    table = [Row(axis, heads, last, "bold"), *rows]
    words = [Text(row.words, row.style if last else "dim") for row in table]
    parts = [[_parts(cell, row.style) for cell in row.cells] for row in table]
    whole = [[Text(" ").join(filter(None, cell)) for cell in cells] for cells in parts]
    names = _aligned([[Text(row.name, row.style)] for row in table])
    values = _aligned(whole, right=numbers)
    if (names[0] + _GAP + values[0]).cell_len <= width:
        for name, line, told in zip(names, values, words, strict=True):
            yield from _beside(name + _GAP + line, told, width)
        return
    labels = [
        Text.assemble((f"{axis}: " if axis else "", "dim"), (row.name, row.style)) for row in table
    ]
    # The number in one line, its interval in the next.
    halves = [[cell[half] for cell in cells] for cells in parts for half in (0, 1)]
    values = _aligned(halves, right=numbers)
    if any(map(any, halves[1::2])) and values[0].cell_len <= width:
        for place, label in enumerate(labels):
            if place:
                yield from _beside(label, words[place], width)
            yield from filter(_printed, values[2 * place : 2 * place + 2])
        return
    named = _aligned([[_GAP + Text(title, "dim")] for title in (*heads, last)])
    for label, cells, told in zip(labels[1:], whole[1:], words[1:], strict=True):
        yield from _beside(label, Text() if last else told, width)
        for title, value in zip(named, [*cells, told], strict=True):
            if value and _printed(title):
                yield from _beside(title, value, width, indent=2)


def _parts(cell: str, style: str) -> tuple[Text, Text]:
    """A number and its interval, which may be missing."""
    value, gap, interval = cell.partition(" [")
    return Text(value, style), Text(f"[{interval}" if gap else "", "dim")


def _aligned(rows: Sequence[Sequence[Text]], *, right: bool = False) -> list[Text]:
    """Rows as lines of one width, their columns aligned."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    side: Literal["left", "right"] = "right" if right else "left"
    lined = []
    for row in rows:
        cells = [cell.copy() for cell in row]
        for cell, width in zip(cells, widths, strict=True):
            cell.align(side, width)
        lined.append(_GAP.join(cells))
    return lined


def _beside(line: Text, words: Text, width: int, indent: int = 1) -> Iterator[Text]:
    """Words behind a line where there is room; else below it, in as many lines as they need."""
    whole = line + _GAP + words if words else line
    if whole.cell_len <= width or not words:
        yield whole
        return
    yield line
    margin = Text(_GAP.plain * indent)
    yield from (margin + part for part in words.wrap(Console(), max(1, width - len(margin))))


def _printed(line: Text) -> bool:
    return bool(line.plain.strip())
