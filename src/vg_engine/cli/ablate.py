"""`vg-engine ablate`: its options. The work is in `vg_engine.cli.ablating`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vg_engine.cli import options

_WHAT, _HEADS = "What is looked at", "What is varied"


def ablate(
    context: typer.Context,
    *,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            rich_help_panel=_WHAT,
            help="Heads are chosen on it: READER:PATH?options, as refcoco:/data/refer?split=train; "
            "drawn scenes without it, for the embedded model.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            rich_help_panel=_WHAT,
            help="What they are scored on, other pictures with true boxes or masks.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Score only the first N samples.", rich_help_panel=_WHAT
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Calibration sentences per draw.", rich_help_panel=_WHAT
        ),
    ] = 1000,
    draws: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Draws of them.", rich_help_panel=_WHAT),
    ] = 5,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Of draws, random heads and intervals.",
            rich_help_panel=_WHAT,
        ),
    ] = 0,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            rich_help_panel=_HEADS,
            help="The rule of the default row; all others stand in table criteria.",
        ),
    ] = "paper",
    tables: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            rich_help_panel=_HEADS,
            help="Some of k,criteria,sigma,kernel,per_sample,region,spearman, which are made "
            "without it; entropy and query_row look at the calibration data anew for each row.",
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of the intervals.", rich_help_panel=_HEADS),
    ] = 2000,
    model: options.Model = None,
    adapter: options.Adapter = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    region: options.Region = None,
    prompt: options.PromptForm = None,
    query_row: options.QueryRow = None,
    template: options.Template = None,
    geometry: options.Geometry = None,
    batch_size: options.BatchSize = 8,
    max_pixels: options.MaxPixels = 64_000_000,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=options.OUT,
            help="Folder of ablation.json, report.html and journals; out/ablate without it. A "
            "stopped run goes on there.",
        ),
    ] = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Vary the choices of the method one by one.

    How many heads, by which rule, how smoothed, read as which region: each row of each table
    changes one thing, and says how far it is from the default row. Heads are chosen on one data
    set and scored on another. It can be stopped at any moment; the same command goes on.

    [dim]vg-engine ablate --model checkpoints/llava-1.5-7b-hf --calibration
    'refcoco:/data/refer?split=train' --data 'refcoco:/data/refer?split=val' --out ablations[/dim]
    """
    from vg_engine.cli import ablating  # noqa: PLC0415 - torch, for the work alone

    asked = ablating.Asked(
        calibration=calibration,
        data=data,
        mode=mode,
        out=out or Path("out/ablate"),
        strict=strict,
        as_json=as_json,
        tables=tables,
        looking={"samples": samples, "draws": draws, "seed": seed},
        scoring={"seed": seed, "resamples": resamples, "limit": limit},
    )
    ablating.ablate(
        asked,
        {
            "source": model,
            "adapter": adapter,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "region": region,
            "prompt": options.prompt_fields(
                context, form=prompt, query_row=query_row, template=template
            ),
            "options": options.adapter_options(context, geometry),
            "batch_size": batch_size,
            "max_pixels": max_pixels,
        },
    )
