"""`vg-engine adapters`: what there is; and tables of such lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vg_engine.cli import console, tables
from vg_engine.cli.options import flag
from vg_engine.core.errors import PluginError
from vg_engine.plugins import entrypoints
from vg_engine.registry.adapters import model_types

Json = Annotated[bool, flag("One JSON record per line.", None, "--json")]
MISTAKE = 2


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
            console.record(row)
        return
    titles = [column.replace("_", " ") for column in columns]
    # A list at the end may fold; all else stays whole.
    end = -1 if isinstance(rows[0][columns[-1]], list) else None
    cells = [[_words(row[column]) for column in columns] for row in rows]
    lines = [tables.Row(one[0], one[1:end], "".join(one[end:] if end else ())) for one in cells]
    tables.show(titles, lines, numbers=False)


def _words(cell: object) -> str:
    """A cell of the table; nothing is a dash."""
    words = ", ".join(map(str, cell)) if isinstance(cell, list) else str(cell or "")
    return words or "-"
