"""`vg-engine convert`: an original checkpoint becomes a folder that every command can load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import DownloadColumn

from vg_engine.cli import console
from vg_engine.cli.options import flag, folder, option

STOPPED = 130
_FIRST, _EVERY = 2.0, 10.0  # seconds until the first line of progress, and between lines
_SHOWN = 5  # assumed rules that are listed on the screen; the report has all


def convert(
    *,
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The original's folder.", parser=folder)
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder.", parser=folder)],
    vision_tower: Annotated[
        Path | None, option("DIR", "The vision tower of a checkpoint that holds none.")
    ] = None,
    base: Annotated[Path | None, option("DIR", "The model that delta weights belong to.")] = None,
    as_json: Annotated[bool, flag("Print the report as JSON.", None, "--json")] = False,
) -> None:
    """Turn an original checkpoint (.bin or safetensors) into a folder to load.

    Reads LLaVA v1 and 1.5, ShareGPT4V, InternVL (internvl_chat), Yi-VL,
    Mini-Gemini, and any .bin folder in transformers' own form. Nothing in SRC
    is executed. DST appears when all of it worked, with a report in
    vg_engine_conversion.json.
    """
    from vg_engine import checkpoints  # noqa: PLC0415 - for the work alone

    try:
        with console.notes(), console.quiet_libraries(), _bar() as progress:
            report = checkpoints.convert(
                source,
                target,
                vision_tower=vision_tower,
                base=base,
                progress=progress,
                note=lambda sentence: console.say("note", sentence),
            )
    except KeyboardInterrupt:
        console.say("error", f"stopped; nothing was written to {target}")
        raise typer.Exit(STOPPED) from None
    if as_json:
        console.record(report)
    else:
        _tell(report, target)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Progress on stderr: a bar on a terminal, else a line from time to time."""
    if not console.stderr().is_terminal:
        yield _lines()
        return
    with console.live_bar("{task.description}", DownloadColumn()) as bar:
        task = bar.add_task("converting", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what.partition(":")[0], completed=done, total=total)

        yield tell


def _lines() -> Callable[[str, int, int], None]:
    due = time.monotonic() + _FIRST

    def tell(what: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + _EVERY
            share = 100 * done // max(1, total)
            console.say("note", f"{share} % of {total / 1e9:.2f} GB written ({what})")

    return tell


def _tell(report: Mapping[str, Any], target: Path) -> None:
    """The report for people: what was made on stdout, what they should know on stderr."""
    for sentence in report["statements"]:
        console.say("note", sentence)
    if report["rows_added"]:
        console.say("note", f"rows were added for new tokens: {', '.join(report['rows_added'])}")
    known, assumed = report["checked_with_public_script"], report["assumed_never_seen"]
    seen = sum(rule["tensors"] for rule in known)
    console.result(
        f"{target}: {report['model_class']}, {report['tensors']} tensors, "
        f"{report['bytes'] / 1e9:.2f} GB in {report['dtype']}, from format {report['format']}"
    )
    console.result(f"keys taken from a public conversion script: {seen} tensors")
    unseen = sum(rule["tensors"] for rule in assumed)
    console.result(f"keys assumed, never seen in a checkpoint: {unseen} tensors")
    for rule in assumed[:_SHOWN]:
        console.result(f"  {rule['pattern']} -> {', '.join(rule['names']) or 'dropped'}")
    console.result(f"the whole report: {target / 'vg_engine_conversion.json'}")
