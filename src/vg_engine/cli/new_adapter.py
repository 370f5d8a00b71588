"""`vg-engine new-adapter`: the template of an adapter's package, with its names filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vg_engine.cli import console
from vg_engine.cli.options import option


def new_adapter(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What --adapter will take, such as zebra-vl.")
    ],
    out: Annotated[
        Path | None, option("DIR", "A new folder; vg-engine-NAME without it.", None, "--out", "-o")
    ] = None,
) -> None:
    """Make the package of a new adapter, with a test that passes.

    docs/write-an-adapter.md goes on from there.
    """
    from vg_engine import adapter_package  # noqa: PLC0415 - for the work alone

    folder = adapter_package.new_adapter(name, out)
    console.result(str(folder))
    console.say("note", f"next: cd '{folder}' && pip install -e '.[dev]' && pytest")
