"""`vg-engine adapters`: what there is; and tables of such lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vg_engine.cli import console
from vg_engine.cli.options import flag
from vg_engine.core.errors import PluginError
from vg_engine.plugins import entrypoints
from vg_engine.registry.adapters import model_types

Json = Annotated[bool, flag("One JSON record per line.", None, "--json")]
MISTAKE = 2
_WIDE = 200


def adapters(
    *,
    check: Annotated[bool, flag("Import each, and say which are broken.", None, "--check")] = False,
    as_json: Json = False,
) -> None:
    """List the installed adapters, without importing them."""
    with console.notes():  # reports metadata that cannot be read
        types = entrypoints.installed(entrypoints.MODEL_TYPES)
        offers = _offers(types)
    rows = []
    for entry in offers:
        row: dict[str, Any] = {
            "name": entry.name if entry.group == entrypoints.ADAPTERS else None,
            "distribution": entry.distribution,
            "version": entry.version,
            "model_types": list(model_types(entry, types)),
        }
        rows.append(row | _check(entry) if check else row)
    show_rows(rows, ("name", "distribution", "version", "model_types"), as_json=as_json)
    if any(row.get("error") for row in rows):
        raise typer.Exit(MISTAKE)


def _offers(types: Sequence[entrypoints.Entry]) -> list[entrypoints.Entry]:
    """The adapters by name, then those that are offered by model type alone."""
    named = entrypoints.installed(entrypoints.ADAPTERS)
    known = {entry.value for entry in named}
    unnamed = {entry.value: entry for entry in types if entry.value not in known}
    return [*named, *unnamed.values()]


def _check(entry: entrypoints.Entry) -> dict[str, Any]:
    try:
        if entry.group == entrypoints.ADAPTERS:
            entry = entrypoints.find(entry.group, entry.name)
        entry.load()
    except PluginError as error:
        console.say("error", str(error))
        return {"error": str(error)}
    return {"error": None}


def show_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table for people, lines of JSON for programs."""
    if as_json:
        for row in rows:
            console.result(json.dumps(row, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        cells = (row[column] for column in columns)
        table.add_row(*map(_words, cells))
    # Names are other people's: a bracket in one is no markup.
    screen = Console(highlight=False, markup=False)
    if not screen.is_terminal:
        screen.width = _WIDE  # for grep: a row stays on its line
    screen.print(table)


def _words(cell: object) -> str:
    """A cell of the table; nothing is a dash."""
    words = ", ".join(map(str, cell)) if isinstance(cell, list) else str(cell or "")
    return words or "-"
