"""`vg-engine eval`: its options. The work is in `vg_engine.studies`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vg_engine
from vg_engine.cli import console, options
from vg_engine.cli.options import flag, option
from vg_engine.cli.studies import EXAM, command_line, data_name, provenance
from vg_engine.core.errors import InputError
from vg_engine.engine_spec import EngineSpec

if TYPE_CHECKING:
    from vg_engine.studies.compare.results import Comparison
    from vg_engine.studies.evaluate.results import Evaluation

# What --compare takes, besides itself.
_COMPARES = ("compare", "entry", "resamples", "seed", "out", "as_json", "_config")
_WHAT, _BESIDE, _PAIR = "What is scored", "What stands beside it", "Two evaluations"


@options.with_engine(postprocess=True)
def evaluate(
    context: typer.Context,
    *,
    data: Annotated[
        str | None,
        option(
            "DATA",
            "READER:PATH?options, as refcoco:/data/refer?split=testA; the exam's scenes "
            "without it, for the embedded model.",
            _WHAT,
        ),
    ] = None,
    limit: Annotated[int | None, option("N", "Only the first N samples.", _WHAT, min=1)] = None,
    heads: Annotated[
        list[str] | None,
        option(
            "HEADS",
            "A head set, its YAML file, L14H24,L14H13,..., or auto. Repeats: the first is the "
            "one that is scored, the others are further rows.",
            _WHAT,
        ),
    ] = None,
    random_draws: Annotated[int, option("N", "Of random heads.", _BESIDE, min=1)] = 20,
    no_oracle: Annotated[
        bool,
        flag(
            "Without the best single head, which is chosen on the scored samples.",
            _BESIDE,
            "--no-oracle",
        ),
    ] = False,
    no_controls: Annotated[
        bool,
        flag(
            "Without random heads, all heads, single heads and centre box: faster.",
            _BESIDE,
            "--no-controls",
        ),
    ] = False,
    resamples: Annotated[int, option("N", "Of the intervals.", _BESIDE, min=1)] = 2000,
    seed: Annotated[int, option("N", "Of random heads and intervals.", _BESIDE, min=0)] = 0,
    compare: Annotated[
        tuple[str, str] | None,
        option("A B", "Folders of two evaluations: their differences on what both scored.", _PAIR),
    ] = None,
    entry: Annotated[
        list[str] | None,
        option(
            "NAME", "Which row to compare; the first without it. Given twice: A's, then B's.", _PAIR
        ),
    ] = None,
    spec: EngineSpec,
    out: Annotated[
        Path | None,
        options.out_folder(
            "Folder of records.jsonl, eval.json and report.html; out/eval without it, out/compare "
            "with --compare. A stopped run goes on there."
        ),
    ] = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Score answers on a data set, with controls beside every score.

    Without options it scores the embedded model on its exam. It can be stopped at any moment; the
    same command goes on where it stopped.

    [dim]vg-engine eval --model checkpoints/llava-1.5-7b-hf --data
    'refcoco:/data/refer?split=testA' --out testA[/dim]
    [dim]vg-engine eval --compare testA testA-sam[/dim]
    """
    if compare is not None:
        _alone(context)
        folder = out or Path("out/compare")
        found = vg_engine.compare(
            *compare,
            folder,
            entries=entry or (),
            resamples=resamples,
            seed=seed,
            command=command_line(),
        )
        _tell(found, folder, as_json=as_json)
        return
    if entry:
        raise InputError("--entry says which rows --compare compares; give --compare A B")
    settings = vg_engine.EvaluateSettings(
        controls=not no_controls,
        oracle=not (no_oracle or no_controls),
        draws=random_draws,
        seed=seed,
        resamples=resamples,
        limit=limit,
    )
    example = "refcoco:/data/refer?split=testA"
    folder = out or Path("out/eval")
    scored = vg_engine.open_data(data_name(data, spec.model, EXAM, example))
    with console.notes(), console.quiet_libraries():
        with console.spinner("loading the model"):
            engine = vg_engine.load(spec, heads=heads[0] if heads else None)
        with engine, console.study_progress("scoring") as progress:
            result = vg_engine.evaluate(
                engine,
                scored,
                folder,
                heads=(heads or ())[1:],
                prompt=spec.prompt,
                settings=settings,
                strict=strict,
                progress=progress,
                **provenance(),
            )
    _tell(result, folder, as_json=as_json)


def _tell(found: Evaluation | Comparison, out: Path, *, as_json: bool) -> None:
    """Print the result: JSON on one line, or tables."""
    if as_json:
        console.record(found.to_json())
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
                f"--compare reads two evaluations and scores nothing again: leave "
                f"{parameter.opts[0]} out"
            )
