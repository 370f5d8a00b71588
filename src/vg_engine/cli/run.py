"""`vg-engine run`: its options. `vg_engine.cli.answers`, which is imported late, does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vg_engine.cli import options
from vg_engine.cli.options import flag, option
from vg_engine.engine_spec import EngineSpec

_ASK, _HOW, _OUT = "What to ask", options.HOW, options.OUT


Heads = Annotated[
    str | None,
    option(
        "HEADS", "A head set, its YAML file, L14H24,L14H13,..., or auto (chosen per picture).", _HOW
    ),
]


@options.with_engine(heads=Heads, postprocess=True)
def run(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE|TEXT", help="Pictures, and what to look for."),
    ] = None,
    image: Annotated[
        list[str] | None, option("FILE", "A picture; repeats.", _ASK, "--image", "-i")
    ] = None,
    text: Annotated[
        list[str] | None,
        option(
            "TEXT",
            "What to look for; repeats: every text about every picture.",
            _ASK,
            "--text",
            "-t",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        option(
            "FILE",
            'Many: lines of {"id", "image", "text"}; paths relative to that file.',
            _ASK,
            "--input",
        ),
    ] = None,
    spec: EngineSpec,
    out: Annotated[
        Path | None,
        options.out_folder(
            "Write results.jsonl and a picture of every answer there. The same command replaces "
            "them, another is refused."
        ),
    ] = None,
    mask: Annotated[bool, flag("Write masks as PNG into --out, too.", _OUT, "--mask")] = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Ground sentences in pictures.

    [dim]vg-engine run scene.png "the red circle" --out answers[/dim]
    """
    from vg_engine.cli import answers, questions  # noqa: PLC0415 - torch, for the work alone

    asked = questions.Questions.of(image or (), text or (), words or (), queries, spec.max_pixels)
    code = answers.ground(asked, answers.Output(out=out, masks=mask, as_json=as_json), spec)
    raise typer.Exit(code)
