"""`vg-engine adapters` and `vg-engine heads`: what there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vg_engine.cli import console
from vg_engine.core.errors import InputError, PluginError
from vg_engine.core.heads import HeadSet
from vg_engine.plugins import entrypoints
from vg_engine.registry import catalog
from vg_engine.registry.adapters import model_types

_Json = Annotated[bool, typer.Option("--json", metavar="", help="One JSON record per line.")]
MISTAKE = 2
_WIDE = 200


def adapters(
    *,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Import each, and say which are broken.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the installed adapters, without importing them."""
    with console.notes():  # metadata that cannot be read is told
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
    _show(rows, ("name", "distribution", "version", "model_types"), as_json=as_json)
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


class Action(StrEnum):
    """What to do with head sets."""

    list = "list"
    show = "show"


def heads(
    *,
    action: Annotated[Action, typer.Argument(help="list or show.")] = Action.list,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which to show.")] = None,
    as_json: _Json = False,
) -> None:
    """List head sets, or show one with where it comes from."""
    if action is Action.list:
        if name is not None:
            raise InputError(
                f"vg-engine heads list takes no name; try: vg-engine heads show {name}"
            )
        sets = [_summary(entry) for entry in catalog.head_sets()]
        _show(sets, ("name", "heads", "mode", "models"), as_json=as_json)
        return
    if name is None:
        raise InputError("which head set? vg-engine heads lists them, vg-engine heads show NAME")
    found = catalog.head_set(name)
    if as_json:
        console.result(json.dumps(_whole(found), ensure_ascii=False))
        return
    for key, value in _whole(found).items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(words, dict):
            words = ", ".join(f"{k}: {v}" for k, v in words.items())
        if words not in (None, "", 0):
            console.result(f"{key + ':':<18}{words}")


def _summary(entry: HeadSet) -> dict[str, Any]:
    return {
        "name": entry.name,
        "heads": [str(head) for head in entry.heads],
        "mode": entry.mode,
        "models": list(entry.model),
        "layers": entry.layers,
        "heads_per_layer": entry.heads_per_layer,
    }


def _whole(entry: HeadSet) -> dict[str, Any]:
    return _summary(entry) | {"frequency": list(entry.frequency)} | dict(entry.provenance)


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
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
