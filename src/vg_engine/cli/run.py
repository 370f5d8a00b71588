"""`vg-engine run`: its options. The work is in `vg_engine.cli.work`, imported when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vg_engine.cli import options

_ASK, _HOW, _OUT = "What to ask", options.HOW, options.OUT


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
    model: options.Model = None,
    adapter: options.Adapter = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="HEADS",
            rich_help_panel=_HOW,
            help="A head set, its YAML file, L14H24,L14H13,..., or auto (chosen per picture).",
        ),
    ] = None,
    region: options.Region = None,
    prompt: options.PromptForm = None,
    query_row: options.QueryRow = None,
    template: options.Template = None,
    geometry: options.Geometry = None,
    postprocess: options.Postprocess = None,
    batch_size: options.BatchSize = 8,
    max_pixels: options.MaxPixels = 64_000_000,
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
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Ground sentences in pictures.

    [dim]vg-engine run --image scene.png --text "the red circle" --out answers[/dim]
    """
    from vg_engine.cli import asking, work  # noqa: PLC0415 - torch, for the work alone

    asked = asking.Asked(
        images=tuple(image or ()), texts=tuple(text or ()), queries=queries, max_pixels=max_pixels
    )
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
            "prompt": options.prompt_fields(
                context, form=prompt, query_row=query_row, template=template
            ),
            "options": options.adapter_options(context, geometry),
            "postprocessors": tuple(postprocess or ()),
            "batch_size": batch_size,
            "max_pixels": max_pixels,
        },
    )
    raise typer.Exit(code)
