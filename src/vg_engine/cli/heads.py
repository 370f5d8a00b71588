"""`vg-engine heads`: list head sets, show one, make one a model's default, compare several."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vg_engine import _sources
from vg_engine.cli import console, head_tables
from vg_engine.cli.lists import Json, show_rows
from vg_engine.core.errors import (
    HeadsError,
    HeadSetNotFoundError,
    InputError,
    NotFoundError,
    nearest,
)
from vg_engine.core.heads import HeadSet, check_heads, parse_heads
from vg_engine.registry import catalog, own
from vg_engine.registry.schema import read_head_set

_FILES = (".yaml", ".yml")


class Group(TyperGroup):
    """A group whose context is what its annotation says: typer makes its base class else."""

    context_class = typer.Context


app = typer.Typer(
    cls=Group,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
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


@app.command("list")
def list_(
    *,
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """List all head sets, and the models that take them where --heads names none."""
    if name is not None:
        raise InputError(f"vg-engine heads list takes no name; try: vg-engine heads show {name}")
    used = catalog.used_for()
    rows = [
        head_tables.summary(entry) | {"default_of": list(used.get(entry.name, ()))}
        for entry in catalog.head_sets()
    ]
    show_rows(rows, ("name", "heads", "mode", "models", "default_of"), as_json=as_json)


@app.command()
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
    found, file = _set_of(name)
    used = catalog.used_for().get(found.name, ()) if file == catalog.file_of(found.name) else ()
    if as_json:
        whole = head_tables.whole(found) | {"default_of": list(used), "file": str(file)}
        console.result(json.dumps(whole, ensure_ascii=False))
        return
    for line in head_tables.sheet(found, default_of=used, file=file):
        console.result(line)


@app.command()
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
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Folder, hub id or known name; repeats. Without it, the models of the set.",
        ),
    ] = None,
    reset: Annotated[
        list[str] | None,
        typer.Option(
            "--reset", metavar="MODEL", help="Forget what MODEL was told to use; repeats."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", metavar="", help="Replace another set of the same name."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a head set the default of a model: run and eval take it where --heads names none.

    [dim]vg-engine heads use found/mine.yaml --model llava-1.5-7b[/dim]

    A file is copied into your own folder first. What is chosen stands there in defaults.yaml;
    VG_ENGINE_HOME moves the folder.
    """
    if reset:
        if name is not None or model or force:
            raise InputError("--reset stands alone: vg-engine heads use --reset MODEL")
        done = [_forget(source) for source in reset]
    elif name is None:
        raise InputError(
            "which head set? vg-engine heads use NAME --model MODEL (vg-engine heads lists them)"
        )
    else:
        done = _use(name, model or (), force=force)
    for record in done:
        if as_json:
            console.result(json.dumps(record, ensure_ascii=False))
            continue
        chosen = record["head_set"] or "heads selected on each picture (auto)"
        console.result(f"{record['model']}: {chosen}  ({record['file']})")


@app.command()
def compare(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET...", help="Names, files or lists of heads: two or more."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare head sets: shared heads, how alike their orders are, what they were found with.

    [dim]vg-engine heads compare llava-1.5-7b found/mine.yaml L14H24,L14H13[/dim]
    """
    given = names or []
    if len(given) < 2:
        raise InputError("name two or more: vg-engine heads compare NAME NAME_OR_FILE_OR_LIST")
    comparison = head_tables.compare([(text, _any_of(text)) for text in given])
    for note in comparison.notes:
        console.say("note", note)
    if as_json:
        console.result(json.dumps(comparison.record(), ensure_ascii=False))
        return
    comparison.show()


def _set_of(text: str) -> tuple[HeadSet, Path]:
    """A head set by its name or its file, and where it lies."""
    path = _as_file(text)
    if path is not None:
        return read_head_set(path), path
    return catalog.head_set(text), catalog.file_of(text)


def _as_file(text: str) -> Path | None:
    """What is written as a file is one, unless a set is called so."""
    path = text.lower().endswith(_FILES) or ("/" in text and Path(text).is_file())
    known = path and any(entry.name == text for entry in catalog.head_sets())
    return Path(text) if path and not known else None


def _any_of(text: str) -> HeadSet:
    if any(known.name == text for known in catalog.head_sets()) or _as_file(text) is not None:
        return _set_of(text)[0]
    try:
        return HeadSet(text, parse_heads(text), "given")
    except HeadsError:
        if "," in text or not text.strip():
            raise
        return catalog.head_set(text)


def _use(name: str, models: Sequence[str], *, force: bool) -> list[dict[str, Any]]:
    chosen, path = _chosen(name)
    found, notes = ([_source(source) for source in models], []) if models else _listed(chosen)
    keys = {_key(source): source for source in found}
    notes += [note for key, source in keys.items() for note in _check_fits(chosen, key, source)]
    kept = _keep(chosen, path, force=force)
    done = [_done(key, chosen, catalog.set_default(key, chosen.name)) for key in keys]
    # A mistake is one line: what else there is to say is said once all went well.
    for note in [*notes, *kept]:
        console.say("note", note)
    return done


def _chosen(name: str) -> tuple[HeadSet, Path]:
    """The set to use; a bare list of heads is none."""
    try:
        return _set_of(name)
    except HeadSetNotFoundError:
        with contextlib.suppress(HeadsError):
            parse_heads(name)
            raise InputError(
                f"{name} is a list, which no name keeps; say --heads {name} each time, or write a "
                "head-set file (vg-engine heads show NAME shows what one states)"
            ) from None
        raise


def _done(key: str, chosen: HeadSet | None, file: Path) -> dict[str, Any]:
    return {"model": key, "head_set": chosen.name if chosen else None, "file": str(file)}


def _forget(source: str) -> dict[str, Any]:
    chosen, key = catalog.defaults(), catalog.model_key(source)
    held = next((known for known in chosen if known.lower() in (key.lower(), source.lower())), None)
    if held is None:
        told = nearest(source, chosen) if chosen else "no model was"
        raise InputError(f"{source!r} was not told to use a head set; {told}")
    file = catalog.set_default(held, None)
    entry = catalog.find_model(held)
    return _done(held, catalog.for_entry(entry) if entry is not None else None, file)


def _source(name: str) -> _sources.Source:
    found = _sources.resolve(name, None, None, None, read=False)
    if found.entry is None and not Path(found.source).is_dir() and "/" not in name:
        raise NotFoundError(
            f"no model {name!r} (name a folder, a hub id such as owner/name, or a known model); "
            f"{catalog.near(name)}"
        )
    return found


def _listed(chosen: HeadSet) -> tuple[list[_sources.Source], list[str]]:
    """The models that a set was made for, as far as they can be found here, and what cannot."""
    found, notes = [], []
    for name in chosen.model:
        try:
            found.append(_source(name))
        except NotFoundError as error:
            notes.append(f"passed over: {error}")
    if not found:
        raise InputError(
            f"head set {chosen.name!r} lists no model that is known here; say for which: "
            "vg-engine heads use ... --model MODEL"
        )
    return found, notes


def _key(found: _sources.Source) -> str:
    return found.entry.name if found.entry is not None else catalog.model_key(found.source)


def _check_fits(chosen: HeadSet, key: str, found: _sources.Source) -> list[str]:
    """Refuse a set for another shape, as far as the entry or the config tells the model's.

    Returns:
        What the user should know.

    Raises:
        HeadsError: it does not fit.
    """
    entry, notes = found.entry, []
    made_for = {catalog.model_key(name) for name in chosen.model}
    # A folder counts as the model that its own name says.
    if made_for and key not in made_for and Path(key).name not in made_for:
        notes.append(f"{chosen.name} was made for {', '.join(chosen.model)}, not for {key}")
    shape = (entry.layers, entry.heads_per_layer) if entry is not None else (0, 0)
    if not all(shape):
        shape = own.shape_of(found.config)
    if not all(shape):
        return [*notes, f"whether {chosen.name} fits {key} is seen when the model is loaded"]
    stated = (chosen.layers, chosen.heads_per_layer)
    if all(stated) and stated != shape:
        raise HeadsError(
            f"head set {chosen.name!r} was made for {stated[0]} layers x {stated[1]} heads, {key} "
            f"has {shape[0]} x {shape[1]}; use a set made for it (vg-engine heads lists them)"
        )
    try:
        check_heads(chosen.heads, layers=shape[0], per_layer=shape[1])
    except HeadsError as error:
        raise HeadsError(f"head set {chosen.name!r} does not fit {key}: {error}") from error
    return notes


def _keep(chosen: HeadSet, path: Path, *, force: bool) -> list[str]:
    """Copy a file into the user's folder, unless the set lies there or is ours.

    Returns:
        What the user should know.

    Raises:
        InputError: another set has that name, and nobody said --force.
        OutputError: the folder cannot be written.
    """
    known = catalog.file_of(chosen.name)
    if known.is_file():
        if path.resolve() == known.resolve() or catalog.head_set(chosen.name) == chosen:
            return []
        if not force:
            raise InputError(
                f"there is another head set {chosen.name!r} ({known}); give yours another name (in "
                "the file and of the file), or replace that one with --force"
            )
    mine = catalog.user_folder() / "heads" / f"{chosen.name}.yaml"
    return [f"kept as {own.write_file(mine, path.read_bytes())}"]
