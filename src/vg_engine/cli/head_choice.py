"""The work of `vg-engine heads`: sets by name or file, and which of them a model takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vg_engine import model_source
from vg_engine.cli import console
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


def named_set(text: str) -> tuple[HeadSet, Path]:
    """Find a head set by its name or its file, and where it lies."""
    path = catalog.file_from(text)
    if path is not None:
        return read_head_set(path), path
    return catalog.head_set(text), catalog.file_of(text)


def use(name: str, models: Sequence[str], *, force: bool) -> list[dict[str, Any]]:
    """Make a head set the default of models; a set from a file is first kept among the user's own.

    Args:
        name: of the set, or its file.
        models: as users name them; without any, those that the set was made for.
        force: replaces another set of that name.

    Returns:
        For each model, its name, the set and the file that says so.

    Raises:
        VGError: there is no such set or model, they do not fit, or a file cannot be written.
    """
    chosen, path = _chosen(name)
    found, notes = ([_source(source) for source in models], []) if models else _listed(chosen)
    keys = {_key(source): source for source in found}
    notes += [note for key, source in keys.items() for note in _check_fits(chosen, key, source)]
    kept = _keep(chosen, path, force=force)
    done = [_done(key, chosen, catalog.set_default(key, chosen.name)) for key in keys]
    # A mistake is one line, so other notes wait until all went well.
    for note in [*notes, *kept]:
        console.say("note", note)
    return done


def _chosen(name: str) -> tuple[HeadSet, Path]:
    """Find the set to use; refuse a bare list of heads."""
    try:
        return named_set(name)
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


def forget(source: str) -> dict[str, Any]:
    """Let a model have no default again.

    Returns:
        The model's name, the set that it takes now, and the file that says so.

    Raises:
        InputError: it was not told to use a set.
    """
    chosen, key = catalog.defaults(), catalog.model_key(source)
    held = next((known for known in chosen if known.lower() in (key.lower(), source.lower())), None)
    if held is None:
        told = nearest(source, chosen) if chosen else "no model was"
        raise InputError(f"{source!r} has no head set of its own choice; {told}")
    file = catalog.set_default(held, None)
    entry = catalog.find_model(held)
    return _done(held, catalog.for_entry(entry) if entry is not None else None, file)


def _source(name: str) -> model_source.Source:
    found = model_source.resolve(name, None, None, None, read=False)
    if found.entry is None and not Path(found.source).is_dir() and "/" not in name:
        raise NotFoundError(
            f"no model {name!r} (name a folder, a hub id such as owner/name, or a known model); "
            f"{catalog.near(name)}"
        )
    return found


def _listed(chosen: HeadSet) -> tuple[list[model_source.Source], list[str]]:
    """Find the models that a set was made for; notes tell which are not known here."""
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


def _key(found: model_source.Source) -> str:
    return found.entry.name if found.entry is not None else catalog.model_key(found.source)


def _check_fits(chosen: HeadSet, key: str, found: model_source.Source) -> list[str]:
    """Refuse a set for another shape, as far as the entry or the config tells the model's.

    Returns:
        Notes for the user.

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
        Notes for the user.

    Raises:
        InputError: another set has that name, and `force` is not set.
        OutputError: the folder cannot be written.
    """
    known, mine = catalog.file_of(chosen.name), catalog.user_folder() / "heads"
    if known.is_file():
        held = read_head_set(known)
        if path.resolve() == known.resolve() or held == chosen:
            return []
        if not force:
            raise InputError(
                f"there is another head set {held.name!r} ({known}); give yours another name (in "
                "the file), or replace that one with --force"
            )
    place = known if mine in known.parents else mine / f"{chosen.name}.yaml"
    return [f"kept as {own.write_file(place, path.read_bytes())}"]
