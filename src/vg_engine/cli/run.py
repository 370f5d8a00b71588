"""`vg-engine run`: its options. The work is in `vg_engine.cli.work`, imported when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vg_engine.cli import config

_ASK, _MODEL, _HOW, _OUT = "What to ask", "Which model", "How to read it", "What comes out"


def run(
    context: typer.Context,
    *,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", "-i", metavar="FILE", help="A picture; repeats.", rich_help_panel=_ASK
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            "-t",
            metavar="TEXT",
            rich_help_panel=_ASK,
            help="What to look for; repeats: every text about every picture.",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE",
            rich_help_panel=_ASK,
            help='Many: lines of {"id", "image", "text"}; paths relative to that file.',
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            rich_help_panel=_MODEL,
            help="Folder, hub id or known name; the embedded model without it.",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            "-a",
            metavar="NAME",
            rich_help_panel=_MODEL,
            help="Instead of the one for the model's type; vg-engine adapters lists them.",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Of a hub id.", rich_help_panel=_MODEL)
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_MODEL),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto, float32, bfloat16, float16.", rich_help_panel=_MODEL
        ),
    ] = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            metavar="",
            rich_help_panel=_MODEL,
            help="Run code that the model's repository brings.",
        ),
    ] = False,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="HEADS",
            rich_help_panel=_HOW,
            help="A head set, L14H24,L14H13,..., or auto (selected on each picture).",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="paper, otsu, mean_std, ...; mean_std:c=1.5 sets a parameter.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="FORM", help="bare or chat.", rich_help_panel=_HOW)
    ] = None,
    query_row: Annotated[
        str | None,
        typer.Option(
            metavar="ROW",
            help="expression_last, expression_all or prompt_last.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="crop or pad, for models that know both.", rich_help_panel=_HOW
        ),
    ] = None,
    postprocess: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A plugin that refines answers; repeats, in order.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Queries per pass.", rich_help_panel=_HOW)
    ] = 8,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Larger pictures are refused.", rich_help_panel=_HOW),
    ] = 64_000_000,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=_OUT,
            help="Write results.jsonl and a picture of every answer there.",
        ),
    ] = None,
    mask: Annotated[
        bool,
        typer.Option(
            "--mask", metavar="", help="Write masks as PNG into --out, too.", rich_help_panel=_OUT
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="One JSON record per line.", rich_help_panel=_OUT),
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
    """Ground sentences in pictures.

    [dim]vg-engine run --image scene.png --text "the red circle" --out answers[/dim]
    """
    from vg_engine.cli import asking, work  # noqa: PLC0415 - torch, for the work alone

    asked = asking.Asked(
        images=tuple(image or ()), texts=tuple(text or ()), queries=queries, max_pixels=max_pixels
    )
    stated = dict(config.nested(context, config.PROMPT))
    said = {"form": prompt, "query_row": query_row}
    stated |= {key: value for key, value in said.items() if value is not None}
    options = dict(config.nested(context, config.OPTIONS))
    if geometry is not None:
        options["geometry"] = geometry
    code = work.ground(
        asked,
        work.Wanted(out=out, masks=mask, as_json=as_json),
        {
            "source": model,
            "adapter": adapter,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "heads": heads,
            "region": region,
            "prompt": stated,
            "options": options,
            "postprocessors": tuple(postprocess or ()),
            "batch_size": batch_size,
            "max_pixels": max_pixels,
        },
    )
    raise typer.Exit(code)
