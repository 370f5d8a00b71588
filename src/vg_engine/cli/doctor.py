"""`vg-engine doctor`: the conformance kit on a checkpoint of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from vg_engine.cli import console, options, tables
from vg_engine.engine_spec import EngineSpec

if TYPE_CHECKING:
    from vg_engine.testing.doctor import Finding

UNWELL = 1
_MODEL = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="Folder, hub id or known name; else the embedded."),
]
_STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow"}


@options.with_engine(model=_MODEL, reads=False)
def doctor(
    *, spec: EngineSpec, as_json: options.Json = False, _config: options.Config = None
) -> None:
    """Check an adapter on your own checkpoint: rows, cells, prompts, padding, threads.

    In float32 it compares numbers, in half precision rankings. Exits with 1 if a check fails, and
    says what to report.
    """
    from vg_engine import checkpoints  # noqa: PLC0415 - pydantic and more, for the work alone

    def found(finding: Finding) -> None:
        if as_json:
            console.record(vars(finding))

    with console.notes() as notes, console.quiet_libraries(), console.spinner("examining"):
        checkup = checkpoints.doctor(spec, loaded=notes.tell, found=found)
    if as_json:
        shown = {"model": dict(checkup.facts), "prompts": dict(checkup.prompts)}
        console.record(shown)
    else:
        _show(checkup.findings, checkup.facts, checkup.prompts)
    if not checkup.ok:
        console.say(
            "error",
            f"{len(checkup.failed)} of {len(checkup.findings)} checks failed "
            f"({', '.join(checkup.failed)}): do not trust answers of this model; report this "
            f"table and these facts to {checkup.facts['package']}, whose adapter it is",
        )
        raise typer.Exit(UNWELL)


def _show(findings: Sequence[Finding], facts: Mapping[str, str], shown: Mapping[str, str]) -> None:
    paper = Console(highlight=False)
    for key, value in facts.items():
        paper.print(f"{key + ':':<12}{value}", markup=False, soft_wrap=True)
    for form, text in shown.items():
        paper.print(f"{form + ':':<12}{text!r}", markup=False, soft_wrap=True)
    paper.print()
    tables.show(
        ["check", "", "measured"],
        [
            tables.Row(one.check, [one.status], one.description, _STYLES[one.status])
            for one in findings
        ],
        numbers=False,
    )
