"""`vg-engine eval`: its options. The work is in `vg_engine.studies`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vg_engine
from vg_engine.cli import console, options
from vg_engine.cli.studies import EXAM, command_line, data_name, written
from vg_engine.core.errors import InputError
from vg_engine.engine_spec import EngineSpec

if TYPE_CHECKING:
    from vg_engine.studies.compare.results import Comparison
    from vg_engine.studies.evaluate.results import Evaluation

# What --compare takes, besides itself.
_COMPARES = ("compare", "contestant", "resamples", "seed", "out", "as_json", "_config")
_WHAT, _BESIDE, _PAIR = "What is scored", "What stands beside it", "Two evaluations"


@options.with_engine(postprocess=True)
def evaluate(
    context: typer.Context,
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            rich_help_panel=_WHAT,
            help="READER:PATH?options, as refcoco:/data/refer?split=testA; the exam's scenes "
            "without it, for the embedded model.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N samples.", rich_help_panel=_WHAT),
    ] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEADS",
            rich_help_panel=_WHAT,
            help="A head set, its YAML file, L14H24,L14H13,..., or auto. Repeats: the first is the "
            "one that is scored, the others are further rows.",
        ),
    ] = None,
    random_draws: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of random heads.", rich_help_panel=_BESIDE),
    ] = 20,
    no_oracle: Annotated[
        bool,
        typer.Option(
            "--no-oracle",
            metavar="",
            rich_help_panel=_BESIDE,
            help="Without the best single head, which is chosen on the scored samples.",
        ),
    ] = False,
    no_controls: Annotated[
        bool,
        typer.Option(
            "--no-controls",
            metavar="",
            rich_help_panel=_BESIDE,
            help="Without random heads, all heads, single heads and centre box: faster.",
        ),
    ] = False,
    resamples: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of the intervals.", rich_help_panel=_BESIDE),
    ] = 2000,
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of random heads and intervals.", rich_help_panel=_BESIDE
        ),
    ] = 0,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            rich_help_panel=_PAIR,
            help="Folders of two evaluations: their differences on what both scored.",
        ),
    ] = None,
    contestant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_PAIR,
            help="Which row to compare; the first without it. Given twice: A's, then B's.",
        ),
    ] = None,
    spec: EngineSpec,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=options.OUT,
            help="Folder of records.jsonl, eval.json and report.html. A stopped run goes on there.",
        ),
    ] = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Score answers on a data set, with controls beside every score.

    Without options it scores the embedded model on its exam. With --out it can be stopped at any
    moment; the same command goes on where it stopped.

    [dim]vg-engine eval --model checkpoints/llava-1.5-7b-hf --data
    'refcoco:/data/refer?split=testA' --out testA[/dim]
    [dim]vg-engine eval --compare testA testA-sam[/dim]
    """
    if compare is not None:
        _alone(context)
        found = vg_engine.compare(
            *compare,
            out,
            rows=contestant or (),
            resamples=resamples,
            seed=seed,
            command=command_line(),
        )
        _tell(found, out, as_json=as_json)
        return
    if contestant:
        raise InputError("--contestant says which rows --compare compares; give --compare A B")
    settings = vg_engine.EvaluateSettings(
        controls=not no_controls,
        oracle=not (no_oracle or no_controls),
        draws=random_draws,
        seed=seed,
        resamples=resamples,
        limit=limit,
    )
    example = "refcoco:/data/refer?split=testA"
    scored = vg_engine.open_data(data_name(data, spec.model, EXAM, example))
    with console.notes(), console.quiet_libraries():
        with console.waiting("loading the model"):
            engine = vg_engine.load(spec, heads=heads[0] if heads else None)
        with engine, console.working("scoring") as progress:
            result = vg_engine.evaluate(
                engine,
                scored,
                out,
                heads=(heads or ())[1:],
                prompt=spec.prompt,
                settings=settings,
                strict=strict,
                progress=progress,
                **written(),
            )
    _tell(result, out, as_json=as_json)


def _tell(found: Evaluation | Comparison, out: Path | None, *, as_json: bool) -> None:
    """Print the result: JSON on one line, or tables."""
    if as_json:
        console.result(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    from vg_engine.cli import score_tables  # noqa: PLC0415 - numpy, for the tables alone

    score_tables.tell(found, out)


def _alone(context: typer.Context) -> None:
    """Refuse options that say how to score, where nothing is scored.

    Raises:
        InputError: there is one.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in _COMPARES:
            raise InputError(
                f"--compare reads two evaluations and scores nothing anew: leave "
                f"{parameter.opts[0]} out"
            )
