"""The one strict schema of the registry's YAML: head sets and models.

Whatever is misspelt, missing or of another type is refused, with the file, the key and the nearest
key that exists. Values are read with `yaml.safe_load` alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from vg_engine.core.errors import HeadsError, InputError, nearest
from vg_engine.core.heads import Head, HeadSet, check_heads

MODES = ("paper", "paper+sensitivity", "sensitivity", "consensus", "mean_all", "published", "given")
FORMS = ("bare", "chat")
# The same names as `vg_engine.core.types.QUERY_ROWS`, which would import torch; a test compares.
QUERY_ROWS = ("expression_last", "expression_all", "prompt_last")

_PROMPT = {"form": str, "template": str, "system": str, "query_row": str}
_HEAD = {"head": str, "frequency": float}
# What a head set states beside its heads; every key here goes into the provenance as it stands.
_PROVENANCE: dict[str, type] = {
    "revision": str,  # of the model
    "data": str,
    "split": str,
    "n": int,
    "seed": int,
    "draws": int,
    "prompt": dict,
    "region": str,
    "tool_version": str,
    "date": str,
    "source": str,
    "controls": dict,
    "licence": str,
    "notes": list,
}
_HEAD_SET: dict[str, type] = {
    "name": str,
    "models": list,
    "layers": int,
    "heads_per_layer": int,
    "mode": str,
    "heads": list,
    **_PROVENANCE,
}
_MODEL: dict[str, type] = {
    "name": str,
    "aliases": list,
    "ids": list,
    "folder": str,
    "adapter": str,
    "layers": int,
    "heads_per_layer": int,
    "prompt": dict,
    "heads": str,
    "region": str,
    "options": dict,
    "licence": str,
    "source": str,
    "notes": list,
}


@dataclass(frozen=True)
class ModelEntry:
    """A model that the registry knows.

    Attributes:
        name: what `--model` takes, beside the aliases and ids.
        ids: hub ids, the preferred one first.
        folder: where its files lie, if they come with the registry or the user keeps them.
        adapter: name of its adapter; None lets the config's model type decide.
        prompt: fields of `vg_engine.core.types.Prompt`.
        heads: name of its head set; None selects heads on each picture.
        region: name of its default region.
        layers, heads_per_layer: its shape; 0 = not stated.
        options: switches of its adapter.
        notes: said with every answer.
    """

    name: str
    aliases: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    folder: Path | None = None
    adapter: str | None = None
    prompt: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    heads: str | None = None
    region: str | None = None
    layers: int = 0
    heads_per_layer: int = 0
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    licence: str | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Whether a user who says `name` means this model; case does not matter."""
        return name.lower() in {n.lower() for n in (self.name, *self.aliases, *self.ids)}


def read_head_set(path: Path) -> HeadSet:
    """Read one head set.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    data = _mapping(path, _HEAD_SET, required=("name", "models", "mode", "heads"))
    where = _shown(path)
    _choice(where, "mode", data["mode"], MODES)
    if "prompt" in data:
        data["prompt"] = _prompt(where, data["prompt"])
    shape = (data.get("layers", 0), data.get("heads_per_layer", 0))
    try:
        heads, frequency = _heads(where, data["heads"])
        if all(shape):
            check_heads(heads, layers=shape[0], per_layer=shape[1])
        return HeadSet(
            name=data["name"],
            heads=heads,
            mode=data["mode"],
            model=_texts(where, "models", data["models"]),
            layers=shape[0],
            heads_per_layer=shape[1],
            frequency=frequency,
            provenance=MappingProxyType({key: data[key] for key in _PROVENANCE if key in data}),
        )
    except HeadsError as error:
        raise InputError(f"{where}: {error}") from error


def read_model(path: Path, root: Path) -> ModelEntry:
    """Read one model entry; its folder is relative to `root`.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    data = _mapping(path, _MODEL, required=("name",))
    where = _shown(path)
    lists: dict[str, Any] = {
        key: _texts(where, key, data.pop(key)) for key in ("aliases", "ids", "notes") if key in data
    }
    prompt = _prompt(where, data.pop("prompt", {}))
    folder = data.pop("folder", None)
    if folder is None and not lists.get("ids"):
        raise InputError(f"{where}: neither folder nor ids; say where the model's files are")
    return ModelEntry(
        **data,
        **lists,
        prompt=MappingProxyType(prompt),
        folder=None if folder is None else (root / folder).absolute(),
    )


def dump_head_set(heads: HeadSet) -> str:
    """The YAML of a head set; `read_head_set` reads the same set back.

    Raises:
        InputError: the set states what the schema does not know.
    """
    for key in heads.provenance:
        if key not in _PROVENANCE:
            raise InputError(f"head set {heads.name!r}: {key!r}; {nearest(key, _PROVENANCE)}")
    frequency: Sequence[float | None] = heads.frequency or (None,) * len(heads.heads)
    data: dict[str, Any] = {"name": heads.name, "models": list(heads.model)}
    if heads.layers and heads.heads_per_layer:
        data |= {"layers": heads.layers, "heads_per_layer": heads.heads_per_layer}
    data["mode"] = heads.mode
    data["heads"] = [
        {"head": str(head)} if share is None else {"head": str(head), "frequency": share}
        for head, share in zip(heads.heads, frequency, strict=True)
    ]
    data |= {key: heads.provenance[key] for key in _PROVENANCE if key in heads.provenance}
    text: str = yaml.safe_dump(_plain(data), sort_keys=False, allow_unicode=True, width=100)
    return text


def _mapping(path: Path, schema: Mapping[str, type], required: Sequence[str]) -> dict[str, Any]:
    where = _shown(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{where} cannot be read ({cause}); mend or remove it") from error
    data = _checked(where, data, schema)
    missing = [key for key in required if key not in data]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing; add it")
    if data["name"] != path.stem:
        raise InputError(f"{where}: name is {data['name']!r}; name it {path.stem!r} as the file")
    return data


def _checked(where: str, data: object, schema: Mapping[str, type]) -> dict[str, Any]:
    """The mapping without its empty keys, every other one known and of its type."""
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected keys and values, got {type(data).__name__}")
    checked: dict[str, Any] = {}
    for key, value in data.items():
        if key not in schema:
            raise InputError(f"{where}: unknown key {key!r}; {nearest(str(key), schema)}")
        if value is None:
            continue
        given = value.isoformat() if isinstance(value, dt.date) else value
        wanted = schema[key]
        if wanted is float and isinstance(given, int) and not isinstance(given, bool):
            given = float(given)
        if not isinstance(given, wanted) or (wanted is int and isinstance(given, bool)):
            raise InputError(
                f"{where}: {key} must be {wanted.__name__}, got {type(given).__name__} {given!r}"
            )
        if isinstance(given, int) and given < 0:
            raise InputError(f"{where}: {key} must not be negative, got {given}")
        checked[key] = given
    return checked


def _heads(where: str, items: Sequence[object]) -> tuple[tuple[Head, ...], tuple[float, ...]]:
    heads, shares = [], []
    for number, item in enumerate(items, start=1):
        entry = _checked(f"{where}, head {number}", item, _HEAD)
        if "head" not in entry:
            raise InputError(f"{where}, head {number}: head missing; write head: L14H24")
        heads.append(Head.parse(entry["head"]))
        if "frequency" in entry:
            shares.append(entry["frequency"])
    if len(set(heads)) != len(heads):
        raise InputError(f"{where}: a head is named twice in {', '.join(map(str, heads))}")
    if shares and len(shares) != len(heads):
        raise InputError(
            f"{where}: a frequency for {len(shares)} of {len(heads)} heads; all or none"
        )
    return tuple(heads), tuple(shares)


def _prompt(where: str, value: Mapping[str, object]) -> dict[str, str]:
    prompt = _checked(f"{where}, prompt", value, _PROMPT)
    if "form" in prompt:
        _choice(where, "prompt form", prompt["form"], FORMS)
    if "query_row" in prompt:
        _choice(where, "query_row", prompt["query_row"], QUERY_ROWS)
    return prompt


def _choice(where: str, key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{where}: {key} {value!r}; choose {', '.join(choices)}")


def _texts(where: str, key: str, values: Sequence[object]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{where}: {key} must be a list of text, got {values!r}")
    return tuple(map(str, values))


def _plain(value: object) -> Any:
    """Mappings and sequences as the safe dumper takes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if "vg_engine" in path.parts else str(path)
