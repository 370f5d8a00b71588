"""Look-up of head sets and models: those that ship with the engine, and the user's own, which win.

Users' entries lie in `heads/` and `models/` of their data folder (`user_folder`), one YAML file
each, whatever it is called, with the same schema as ours; `defaults.yaml` there names the head set
that a model takes.
Nothing is cached: a file that was just written counts.

Without `--heads` a model takes the first of these: the set in `defaults.yaml`; the set that
the user's model entry names; a set of the user's that lists the model; the set that our model entry
names; a set of ours that lists the model. With none of them, heads are selected on each picture.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import platformdirs

from vg_engine.core.errors import (
    HeadsError,
    HeadSetNotFoundError,
    InputError,
    ModelNotFoundError,
    nearest,
)
from vg_engine.core.heads import HeadSet, parse_heads
from vg_engine.registry import own
from vg_engine.registry.schema import ModelEntry, read_head_set, read_model

HOME = "VG_ENGINE_HOME"
OURS = Path(__file__).parent
EMBEDDED = "embedded"
FILES = (".yaml", ".yml")  # of head sets

Item = TypeVar("Item", HeadSet, ModelEntry)


def user_folder() -> Path:
    """Return the folder of the user's own entries; `VG_ENGINE_HOME` in the environment moves it."""
    moved = os.environ.get(HOME)
    return Path(moved) if moved else Path(platformdirs.user_data_dir("vg-engine", appauthor=False))


def head_sets() -> tuple[HeadSet, ...]:
    """List all head sets; one of the user's replaces one of ours with the same name.

    Raises:
        InputError: a file breaks the schema; it is named.
    """
    return tuple(found for found, _ in _merged("heads", _read_heads).values())


def models() -> tuple[ModelEntry, ...]:
    """List all model entries; one of the user's replaces one of ours with the same name.

    Raises:
        InputError: a file breaks the schema; it is named.
    """
    return tuple(found for found, _ in _merged("models", read_model).values())


def head_set(name: str) -> HeadSet:
    """Find the head set of that name.

    Raises:
        HeadSetNotFoundError: there is none; the nearest names are in the message.
    """
    known = head_sets()
    found = next((entry for entry in known if entry.name == name), None)
    if found is None:
        names = nearest(name, [entry.name for entry in known])
        raise HeadSetNotFoundError(
            f"no head set {name!r} (a list of heads is written L14H24,L14H13); {names}"
        )
    return found


def file_from(text: str) -> Path | None:
    """Return the path if the text is written as a file and no head set has that name."""
    path = text.lower().endswith(FILES) or ("/" in text and Path(text).is_file())
    known = path and any(entry.name == text for entry in head_sets())
    return Path(text) if path and not known else None


def find_heads(text: str, name: str = "given") -> HeadSet:
    """Find the head set that a text names, the one in that YAML file, or the heads that it lists.

    Args:
        text: what the user wrote.
        name: of the set that is made of a list.

    Raises:
        HeadSetNotFoundError: it is none of these; the nearest names are in the message.
        InputError: the file cannot be read.
        HeadsError: a list with a name that is no head.
    """
    if any(known.name == text for known in head_sets()):
        return head_set(text)
    path = file_from(text)
    if path is not None:
        return read_head_set(path)
    try:
        return HeadSet(name, parse_heads(text), "given")
    except HeadsError:
        if "," in text or not text.strip():
            raise
        return head_set(text)


def file_of(name: str) -> Path:
    """Return the file of that head set, or the one that it would have among the user's own."""
    held = _merged("heads", _read_heads).get(name)
    return held[1] if held is not None else user_folder() / "heads" / f"{name}.yaml"


def find_model(source: str) -> ModelEntry | None:
    """Find the entry whose name, alias, hub id or folder is `source`; the user's go first.

    Raises:
        InputError: several of the user's are called so.
    """
    known = models()
    answering, own_names = [entry for entry in known if entry.answers_to(source)], _users("models")
    users = [entry.name for entry in answering if entry.name in own_names]
    if len(users) > 1:
        raise InputError(
            f"model {source!r} is {' and '.join(users)} in {user_folder() / 'models'}; keep the "
            "name in one of them"
        )
    named = answering[0] if answering else None
    # Unlike Path's, this raises nothing, whatever a model in memory is called.
    if named is not None or not os.path.isdir(source):  # noqa: PTH112 - any name will do
        return named
    folder = Path(source).resolve()
    return next((e for e in known if e.folder is not None and e.folder.resolve() == folder), None)


def model_entry(source: str) -> ModelEntry:
    """Find the entry whose name, alias or hub id is `source`.

    Raises:
        ModelNotFoundError: there is none; the nearest names are in the message.
    """
    found = find_model(source)
    if found is None:
        raise ModelNotFoundError(
            f"no model {source!r} (name a folder, a hub id or a known model); {near(source)}"
        )
    return found


def near(source: str) -> str:
    """Name the models nearest to `source`, else all, in words for an error message."""
    known = models()
    ids = [name for entry in known for name in (*entry.aliases, *entry.ids)]
    names = [entry.name for entry in known]
    found = nearest(source, [*names, *ids])
    return found if found.startswith("did") else nearest(source, names)


def for_model(
    source: str, *, layers: int, heads_per_layer: int, names: Sequence[str] = ()
) -> HeadSet | None:
    """Find the head set for a model of this name and shape; None if there is none.

    The order is the module's. A local folder counts as the model that its own name or one of
    `names` (from its config) names.

    Args:
        source: name, alias, hub id or folder.
        layers: of the loaded model; a set of another shape is passed over, unless the user made it
            the default of exactly this source.
        heads_per_layer: the same.
        names: other names of the same model.

    Raises:
        HeadSetNotFoundError: the model's default does not exist any more.
    """
    default = default_of(source)
    if default is not None:
        return default
    spellings = [source, *names]
    wanted = {
        name.lower() for name in (*spellings, *(Path(name).name for name in spellings)) if name
    }
    entries = [entry for entry in models() if any(map(entry.answers_to, wanted))]
    known = head_sets()
    users_models, users_sets = _users("models"), _users("heads")
    ranked = [
        (0 if entry.name in users_models else 1 if s.name in users_sets else 2, s)
        for entry in entries
        for s in known
        if s.name == entry.heads
    ]
    wanted |= {name.lower() for entry in entries for name in (entry.name, *entry.ids)}
    ranked += [(1 if s.name in users_sets else 3, s) for s in known if wanted & _known_as(s)]
    chosen = {name for key, name in defaults().items() if wanted & _called(key)}
    ranked += [(-1, s) for s in known if s.name in chosen]
    shape = (layers, heads_per_layer)
    return next(
        (
            candidate
            for _, candidate in sorted(ranked, key=lambda pair: pair[0])
            if not candidate.layers or (candidate.layers, candidate.heads_per_layer) == shape
        ),
        None,
    )


def for_entry(entry: ModelEntry) -> HeadSet | None:
    """Find the head set of a known model, in the module's order; None if its entry names none.

    Raises:
        HeadSetNotFoundError: the set that it names does not exist.
    """
    default = default_of(entry.name)
    if default is not None or entry.heads is None:
        return default
    theirs = _users("heads")
    if entry.name not in _users("models") and entry.heads not in theirs:
        names = {name.lower() for name in (entry.name, *entry.aliases, *entry.ids)}
        shape = (entry.layers, entry.heads_per_layer)
        for known in head_sets():
            fits = not (known.layers and entry.layers) or (
                (known.layers, known.heads_per_layer) == shape
            )
            if known.name in theirs and names & _known_as(known) and fits:
                return known
    return head_set(entry.heads)


def defaults() -> dict[str, str]:
    """Read the user's defaults: model (as `model_key` writes it) to name of a head set.

    Raises:
        InputError: the file is broken; it is named.
    """
    return own.read_defaults(user_folder())


def set_default(key: str, name: str | None) -> Path:
    """Make a head set the default of a model, or (None) remove the model's default.

    Args:
        key: the model, as `model_key` writes it.
        name: of the head set.

    Returns:
        The file that says so.

    Raises:
        OutputError: it cannot be written.
    """
    chosen = {known: held for known, held in defaults().items() if known.lower() != key.lower()}
    return own.write_defaults(user_folder(), chosen if name is None else chosen | {key: name})


def model_key(source: str) -> str:
    """Write a model in one way: its entry's name, a folder's whole path, or the hub id."""
    entry = find_model(source)
    if entry is not None:
        return entry.name
    # As in `find_model`.
    folder = os.path.expanduser(source)  # noqa: PTH111 - any name will do
    return str(Path(folder).resolve()) if os.path.isdir(folder) else source  # noqa: PTH112 - the same


def default_of(source: str) -> HeadSet | None:
    """Find the head set that the user made the default of exactly this model.

    Raises:
        HeadSetNotFoundError: it does not exist any more.
    """
    key = model_key(source).lower()
    name = next((held for known, held in defaults().items() if known.lower() == key), None)
    if name is None:
        return None
    found = next((known for known in head_sets() if known.name == name), None)
    if found is None:
        file = user_folder() / own.DEFAULTS
        raise HeadSetNotFoundError(
            f"the default head set of {source}, {name!r}, is gone (it stands in {file}); "
            f"vg-engine heads use --reset {source}, or choose another"
        )
    return found


def used_for() -> dict[str, tuple[str, ...]]:
    """List the models that take each head set by default, as far as names tell."""
    entries, known = models(), head_sets()
    users: dict[str, list[str]] = {}
    spoken = {name.lower() for entry in entries for name in (entry.name, *entry.ids)}
    for entry in entries:
        with contextlib.suppress(HeadSetNotFoundError):  # loading that model reports it
            found = for_entry(entry)
            if found is not None:
                users.setdefault(found.name, []).append(entry.name)
    made_for = [(id_, heads.name) for heads in known for id_ in heads.model]
    for key, name in [*defaults().items(), *made_for]:
        if key.lower() not in spoken:
            users.setdefault(name, []).append(key)
            spoken.add(key.lower())
    return {name: tuple(models_) for name, models_ in users.items()}


def _called(key: str) -> set[str]:
    """All names of the model that a line of `defaults.yaml` is about; a folder has but one."""
    if Path(key).is_absolute():
        return {key.lower()}
    entry = find_model(key)
    names = (key,) if entry is None else (entry.name, *entry.aliases, *entry.ids)
    return {spelling.lower() for name in names for spelling in (name, name.rpartition("/")[2])}


def _users(folder: str) -> set[str]:
    """Names of the user's own entries."""
    if folder == "heads":
        return set(_read(user_folder(), folder, _read_heads))
    return set(_read(user_folder(), folder, read_model))


def _known_as(heads: HeadSet) -> set[str]:
    """List the ids of the models that a set was made for, with and without their owner."""
    return {name.lower() for id_ in heads.model for name in (id_, id_.rpartition("/")[2])}


def _read_heads(path: Path, root: Path) -> HeadSet:  # noqa: ARG001 - as models are read
    return read_head_set(path)


def _merged(folder: str, read: Callable[[Path, Path], Item]) -> dict[str, tuple[Item, Path]]:
    """All entries by name, with their files.

    The user's stand first, so that an alias of theirs wins over a name of ours.
    """
    mine = _read(user_folder(), folder, read)
    ours = _read(OURS, folder, read)
    return mine | {name: held for name, held in ours.items() if name not in mine}


def _read(
    root: Path, folder: str, read: Callable[[Path, Path], Item]
) -> dict[str, tuple[Item, Path]]:
    """The entries below one folder: each has the name that it states, whatever its file's."""
    found: dict[str, tuple[Item, Path]] = {}
    for path in sorted((root / folder).glob("[!.]*.y*ml")):  # hidden ones are left over
        entry = read(path, root)
        if entry.name in found:
            raise InputError(
                f"{found[entry.name][1]} and {path} have the same name {entry.name!r}; change "
                "it in one of them, or remove one"
            )
        found[entry.name] = entry, path
    return found
