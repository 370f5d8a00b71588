"""`vg-engine plugins`: what is installed by kind, and the options of a kind's plugins."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console

from vg_engine.cli import console, lists
from vg_engine.core.errors import InputError, PluginError, nearest
from vg_engine.plugins import entrypoints, options

# How a plugin of each kind is asked for.
_ASKED = {
    "adapters": "--adapter NAME; vg-engine adapters --check imports them",
    "postprocessors": "run --postprocess NAME",
    "regions": "--region NAME",
    "rules": "discover --rule NAME",
    "datasets": "--data NAME:PATH",
    "converters": "convert takes the one that knows the checkpoint",
    "editors": "vg_engine.edit(answer, picture, NAME)",
}
_OURS = "vg-engine"


def plugins(
    *,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=f"One of {', '.join(_ASKED)}.")
    ] = None,
    as_json: lists.Json = False,
) -> None:
    """List the installed plugins by kind; of one KIND, with their options.

    Other people's are imported to see whether they can be, adapters apart.
    """
    if kind is not None and kind not in entrypoints.KINDS:
        raise InputError(f"no kind of plugins {kind!r}; {nearest(kind, entrypoints.KINDS)}")
    if kind == "adapters":
        lists.adapters(as_json=as_json)
        return
    kinds = [kind] if kind else list(entrypoints.KINDS)
    with console.notes():
        rows = [row for each in kinds for row in _rows(each, whole=kind is not None)]
    if as_json:
        for row in rows:
            console.record(row)
    else:
        _show(rows, kinds)
    if any(row["error"] for row in rows):
        raise typer.Exit(lists.MISTAKE)


def _rows(kind: str, *, whole: bool) -> Iterable[dict[str, Any]]:
    """The plugins of a kind, each with what keeps it from being used; `whole`: and its options."""
    entries = entrypoints.installed(entrypoints.KINDS[kind])
    for entry in entries:
        row: dict[str, Any] = {
            "kind": kind,
            "name": entry.name,
            "distribution": entry.distribution,
            "version": entry.version,
            "error": None,
        }
        try:
            entrypoints.find(entry.group, entry.name, entries)
            if whole or (entry.distribution != _OURS and kind != "adapters"):
                summary, known = options.describe(entry.load())
                if whole:
                    row |= {"summary": summary, "options": [one._asdict() for one in known]}
        except PluginError as error:
            row["error"] = str(error)
        yield row


def _show(rows: list[dict[str, Any]], kinds: Iterable[str]) -> None:
    """The list for people: words wrap on a terminal, and are never cut."""
    screen = Console()
    width = screen.width if screen.is_terminal else sys.maxsize  # for grep: one line each
    fill = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    for kind in kinds:
        those = [row for row in rows if row["kind"] == kind]
        for indent, line in [(0, f"{kind}: {_ASKED[kind]}"), *_lines(those)]:
            fill.initial_indent, fill.subsequent_indent = indent * " ", (indent + 2) * " "
            console.result(fill.fill(line))


def _lines(rows: list[dict[str, Any]]) -> Iterable[tuple[int, str]]:
    """The lines about the plugins of one kind, each with its indent."""
    usable = [row for row in rows if not row["error"]]
    for row in (row for row in usable if "options" in row):
        ours = row["distribution"] == _OURS
        yield 2, row["name"] if ours else f"{row['name']} ({_package(row)})"
        yield 4, row["summary"]
        for one in row["options"]:
            default = "(empty)" if one["default"] == "" else one["default"]
            yield 4, f"{one['name']}={default}: {one['type']}; {one['meaning']}".rstrip("; ")
    short = sorted((row for row in usable if "options" not in row), key=_package)
    for package, those in itertools.groupby(short, _package):
        yield 2, f"{package}: {', '.join(row['name'] for row in those)}"
    yield from ((2, f"not usable: {row['error']}") for row in rows if row["error"])
    if not rows:
        yield 2, "none"


def _package(row: dict[str, Any]) -> str:
    return f"{row['distribution']} {row['version']}"
