"""`vg-engine doctor`: the conformance kit on a checkpoint of the user's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vg_engine.cli import config, console

if TYPE_CHECKING:
    from vg_engine.testing.doctor import Finding

UNWELL = 1
_STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow"}


def doctor(
    context: typer.Context,
    *,
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Folder, hub id or known name; else the embedded."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", "-a", metavar="NAME", help="Instead of the model type's own."),
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Of a hub id.")] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="float32 compares numbers, half precision rankings.")
    ] = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", metavar="", help="Run code of the repository."),
    ] = False,
    geometry: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="crop or pad, for models that know both."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON record per line.")
    ] = False,
    _config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            callback=config.apply,
            is_eager=True,
            help="Options from a YAML file; the command line wins.",
        ),
    ] = None,
) -> None:
    """Check an adapter on your own checkpoint: rows, cells, prompts, padding, threads.

    Exits with 1 if a check fails, and says what to report.
    """
    from vg_engine.api import open_model  # noqa: PLC0415 - torch, for the work alone
    from vg_engine.testing import doctor as checks  # noqa: PLC0415 - the same
    from vg_engine.testing.opened import Opened  # noqa: PLC0415 - the same

    options = dict(config.nested(context, config.OPTIONS))
    if geometry is not None:
        options["geometry"] = geometry
    with console.notes() as notes:
        with console.waiting("loading"):
            name, made, hooks, loaded = open_model(
                model,
                adapter=adapter,
                options=options,
                revision=revision,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
            )
        notes.tell(loaded.statements)
        opened = Opened(hooks, loaded)
        patient = checks.Patient(opened)
        facts = _facts(name, adapter, made, loaded)
        shown = checks.rendered(opened)
        findings = []
        with console.waiting("examining"):
            for finding in checks.examine(patient):
                findings.append(finding)
                if as_json:
                    console.result(json.dumps(vars(finding), ensure_ascii=False))
    if as_json:
        console.result(json.dumps({"model": facts, "prompts": shown}, ensure_ascii=False))
    else:
        _show(findings, facts, shown)
    failed = [finding.check for finding in findings if finding.status == "failed"]
    if failed:
        console.say(
            "error",
            f"{len(failed)} of {len(findings)} checks failed ({', '.join(failed)}): do not trust "
            f"answers of this model; report this table and these facts to {facts['package']}, "
            "whose adapter it is",
        )
        raise typer.Exit(UNWELL)


def _package(made: Any) -> str:
    """Who brings an adapter: by its class, for it may be offered for model types alone."""
    from vg_engine.plugins import entrypoints  # noqa: PLC0415 - for this alone

    value = f"{type(made).__module__}:{type(made).__qualname__}"
    groups = (entrypoints.ADAPTERS, entrypoints.MODEL_TYPES)
    offers = (entry for group in groups for entry in entrypoints.installed(group))
    return next((entry.package for entry in offers if entry.value == value), value)


def _facts(name: str, asked: str | None, made: Any, loaded: Any) -> dict[str, str]:
    """What a report needs beside the table."""
    import platform  # noqa: PLC0415 - for this alone

    import torch  # noqa: PLC0415 - slow
    import transformers  # noqa: PLC0415 - slow

    from vg_engine._version import __version__  # noqa: PLC0415 - for this alone

    return {
        "model": str(loaded.name),
        "revision": str(loaded.revision or "-"),
        "model type": str(getattr(loaded.module.config, "model_type", "?")),
        "adapter": name if asked is None else f"{name} (asked for)",
        "package": _package(made),
        "shape": f"{loaded.layers} layers x {loaded.heads} heads",
        "precision": str(loaded.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "versions": f"vg-engine {__version__}, transformers {transformers.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}",
    }


def _show(findings: Sequence[Finding], facts: dict[str, str], shown: dict[str, str]) -> None:
    paper = Console(highlight=False)
    for key, value in facts.items():
        paper.print(f"{key + ':':<12}{value}", markup=False, soft_wrap=True)
    for form, text in shown.items():
        paper.print(f"{form + ':':<12}{text!r}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("check", "", "measured"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.status]
        table.add_row(finding.check, f"[{style}]{finding.status}[/]", escape(finding.said))
    paper.print()
    paper.print(table)
