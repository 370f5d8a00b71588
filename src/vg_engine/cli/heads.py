"""`vg-engine heads`: list head sets, show one, make one a model's default, compare several."""

from __future__ import annotations

from typing import Annotated

import typer

from vg_engine.cli import console
from vg_engine.cli.lists import Json, show_rows
from vg_engine.cli.options import Command, Group, flag, option
from vg_engine.core.errors import InputError

app = typer.Typer(
    cls=Group, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def heads(context: typer.Context, *, as_json: Json = False) -> None:
    """List head sets; show one, use one, compare several.

    A head set says which attention heads of a model point, and how they were found.
    vg-engine discover finds one.
    """
    if context.invoked_subcommand is None:
        list_(as_json=as_json)
    elif as_json:
        raise InputError(
            f"say --json last: vg-engine heads {context.invoked_subcommand} ... --json"
        )


@app.command("list", cls=Command)
def list_(
    *, name: Annotated[str | None, typer.Argument(hidden=True)] = None, as_json: Json = False
) -> None:
    """List all head sets, and the models that take them where --heads names none."""
    if name is not None:
        raise InputError(f"vg-engine heads list takes no name; try: vg-engine heads show {name}")
    from vg_engine.cli import head_tables  # noqa: PLC0415 - for the work alone
    from vg_engine.registry import catalog  # noqa: PLC0415 - for the work alone

    used = catalog.used_for()
    rows = [
        head_tables.summary(entry) | {"default_of": list(used.get(entry.name, ()))}
        for entry in catalog.head_sets()
    ]
    show_rows(rows, ("name", "rule", "models", "default_of", "heads"), as_json=as_json)


@app.command(cls=Command)
def show(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="A head set's name, or its file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a head set with where it comes from and what was measured with it."""
    if name is None:
        raise InputError("which head set? vg-engine heads lists them, vg-engine heads show NAME")
    from vg_engine.cli import head_choice, head_tables  # noqa: PLC0415 - for the work alone
    from vg_engine.registry import catalog  # noqa: PLC0415 - for the work alone

    found, file = head_choice.named_set(name)
    used = catalog.used_for().get(found.name, ()) if file == catalog.file_of(found.name) else ()
    if as_json:
        whole = head_tables.whole(found) | {"default_of": list(used), "file": str(file)}
        console.record(whole)
        return
    for line in head_tables.sheet(found, default_of=used, file=file):
        console.result(line)


@app.command(cls=Command)
def use(
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE", help="A head set's name, or a file of one: it is kept."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        option(
            "MODEL",
            "Folder, hub id or known name; repeats. Without it, the models of the set.",
            None,
            "--model",
            "-m",
        ),
    ] = None,
    reset: Annotated[
        list[str] | None,
        option("MODEL", "Forget the head set that MODEL uses; repeats.", None, "--reset"),
    ] = None,
    force: Annotated[bool, flag("Replace another set of the same name.", None, "--force")] = False,
    as_json: Json = False,
) -> None:
    """Make a head set the default of a model: run and eval take it where --heads names none.

    [dim]vg-engine heads use found/mine.yaml --model llava-1.5-7b[/dim]

    A file is copied into your own folder first. What is chosen stands there in defaults.yaml;
    VG_ENGINE_HOME moves the folder.
    """
    from vg_engine.cli import head_choice  # noqa: PLC0415 - for the work alone

    if reset:
        if name is not None or model or force:
            raise InputError("--reset stands alone: vg-engine heads use --reset MODEL")
        done = [head_choice.forget(source) for source in reset]
    elif name is None:
        raise InputError(
            "which head set? vg-engine heads use NAME --model MODEL (vg-engine heads lists them)"
        )
    else:
        done = head_choice.use(name, model or (), force=force)
    for record in done:
        if as_json:
            console.record(record)
            continue
        chosen = record["head_set"] or "heads selected on each picture (auto)"
        console.result(f"{record['model']}: {chosen}  ({record['file']})")


@app.command(cls=Command)
def compare(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET", help="Names, files or lists of heads: two or more."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare head sets: shared heads, how alike their orders are, what they were found with.

    [dim]vg-engine heads compare llava-1.5-7b found/mine.yaml L14H24,L14H13[/dim]
    """
    given = names or []
    if len(given) < 2:
        raise InputError("name two or more: vg-engine heads compare NAME NAME_OR_FILE_OR_LIST")
    from vg_engine.cli import head_tables  # noqa: PLC0415 - for the work alone
    from vg_engine.registry import catalog  # noqa: PLC0415 - for the work alone

    comparison = head_tables.compare([(text, catalog.find_heads(text, text)) for text in given])
    for note in comparison.notes:
        console.say("note", note)
    if as_json:
        console.record(comparison.record())
        return
    comparison.show()
