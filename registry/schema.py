"""The one strict schema of the registry's entries: head sets and models.

`vg_engine.registry.strict` reads the YAML; here is what it may hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.heads import Head, HeadSet, check_heads, parse_heads
from vg_engine.registry import strict

# Who chose the heads: the name of a selection rule, and others may bring rules; or one of these.
PUBLISHED, GIVEN = "published", "given"
_MODE = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
AUTO = "auto"
HOLE = "{expression}"
FORMS = ("bare", "chat")
# The same names as `vg_engine.core.contract.prompt.QUERY_ROWS`; a test compares.
QUERY_ROWS = ("expression_last", "expression_all", "prompt_last")
# The same as in `vg_engine.core.attention.criteria`, which would import numpy; a test compares.
WEIGHTINGS = ("area", "mass")
CONNECTIVITIES = (4, 8)
BASES = (0, 1)

_PROMPT = {"form": str, "template": str, "system": str, "query_row": str}
_PROMPT_CHOICES = {"form": FORMS, "query_row": QUERY_ROWS}
_HEAD = {"head": str, "frequency": float, "spread": float, "score": float}
# What a head set states beside its heads; every key here goes into the provenance as it stands.
_PROVENANCE: dict[str, type] = {
    "revision": str,  # of the model
    "model_fingerprint": str,
    "adapter": str,
    "dtype": str,
    "data": str,
    "data_revision": str,
    "split": str,
    "n": int,  # samples that there were
    "samples": int,  # drawn of them in each draw
    "draws": int,
    "seed": int,
    "k": int,  # heads that were chosen
    "per_sample": int,  # N: heads of lowest entropy that a sample votes for
    "threshold": float,  # tau: least mean attention to the picture
    "cut": float,
    "weighting": str,
    "connectivity": int,
    "neutral": str,  # the prompt that says nothing, where the rule compares with one
    "faults": int,  # samples that could not be read
    "prompt": dict,
    "region": str,
    "tool_version": str,
    "date": str,
    "source": str,
    "controls": dict,
    "licence": str,
    "index_base": int,
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
_CHOICES: dict[str, Sequence[object]] = {
    "weighting": WEIGHTINGS,
    "connectivity": CONNECTIVITIES,
    "index_base": BASES,
}
SHIFTED = "counted from 1 in its file; here layers and heads count from 0"
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
        prompt: fields of `vg_engine.core.contract.prompt.Prompt`.
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
    """Read one head set; its heads count from 0, whatever the file's `index_base`.

    A set that counts from 1 is shifted, and its notes then say so.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    data = strict.mapping(path, _HEAD_SET, required=("name", "models", "mode", "heads"))
    return _head_set(strict.shown(path), data)


def read_model(path: Path, root: Path) -> ModelEntry:
    """Read one model entry; its folder is relative to `root`.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    data = strict.mapping(path, _MODEL, required=("name",))
    where = strict.shown(path)
    lists: dict[str, Any] = {
        key: strict.texts(where, key, data.pop(key))
        for key in ("aliases", "ids", "notes")
        if key in data
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
        InputError: the set states what the schema does not know, or could not be read back.
    """
    where = f"head set {heads.name!r}"
    data: dict[str, Any] = {"name": heads.name, "models": list(heads.model)}
    if heads.layers:
        data["layers"] = heads.layers
    if heads.heads_per_layer:
        data["heads_per_layer"] = heads.heads_per_layer
    data["mode"] = heads.mode
    columns = heads.columns
    data["heads"] = [
        {"head": str(head), **{key: values[place] for key, values in columns.items()}}
        for place, head in enumerate(heads.heads)
    ]
    if heads.provenance.get("index_base"):
        raise InputError(f"{where}: index_base is of files; heads in memory count from 0")
    stated = strict.checked(where, heads.provenance, _PROVENANCE)
    data |= {key: stated[key] for key in _PROVENANCE if key in stated}
    data = strict.checked(where, data, _HEAD_SET)
    _head_set(where, data)
    return strict.dump(data)


def _head_set(where: str, data: dict[str, Any]) -> HeadSet:
    """The head set of checked keys and values; what can be put plainer in `data` then is."""
    _check_name(where, data["name"])
    if not _MODE.fullmatch(data["mode"]):
        raise InputError(
            f"{where}: mode {data['mode']!r} is no name of a selection rule (small letters, "
            f"digits, _ . + -); choose {PUBLISHED}, {GIVEN}, or the rule that chose the heads"
        )
    for key, choices in _CHOICES.items():
        if key in data:
            strict.choice(where, key, data[key], choices)
    if "prompt" in data:
        data["prompt"] = _prompt(where, data["prompt"])
    if "notes" in data:
        data["notes"] = list(strict.texts(where, "notes", data["notes"]))
    base = data.get("index_base", 0)
    shape = (data.get("layers", 0), data.get("heads_per_layer", 0))
    try:
        heads, columns = _heads(where, data["heads"], base)
        if base:
            data |= {"index_base": 0, "notes": [*data.get("notes", ()), SHIFTED]}
        if all(shape):
            _check_range(where, heads, shape, base)
        return HeadSet(
            name=data["name"],
            heads=heads,
            mode=data["mode"],
            model=strict.texts(where, "models", data["models"]),
            layers=shape[0],
            heads_per_layer=shape[1],
            **columns,
            provenance=MappingProxyType({key: data[key] for key in _PROVENANCE if key in data}),
        )
    except HeadsError as error:
        raise InputError(f"{where}: {error}") from error


def _heads(
    where: str, items: Sequence[object], base: int
) -> tuple[tuple[Head, ...], dict[str, tuple[float, ...]]]:
    """The heads, counted from 0, and what is stated of each: all or none of a column."""
    heads: list[Head] = []
    columns: dict[str, list[float]] = {key: [] for key in _HEAD if key != "head"}
    for number, item in enumerate(items, start=1):
        place = f"{where}, head {number}"
        if isinstance(item, str):
            raise InputError(f"{place}: write it as a key and its value: head: {item:.20}")
        entry = strict.checked(place, item, _HEAD)
        if "head" not in entry:
            raise InputError(f"{place}: head missing; write head: L14H24")
        heads.append(_counted_from_0(place, Head.parse(entry["head"]), base))
        for key in columns.keys() & entry.keys():
            columns[key].append(entry[key])
    for key, values in columns.items():
        if values and len(values) != len(heads):
            raise InputError(
                f"{where}: a {key} for {len(values)} of {len(heads)} heads; all or none"
            )
    return tuple(heads), {key: tuple(values) for key, values in columns.items() if values}


def _counted_from_0(place: str, head: Head, base: int) -> Head:
    if base and not (head.layer and head.head):
        raise InputError(
            f"{place}: {head} in a list that counts from 1 (index_base: 1); count layers and "
            "heads from 1, or say index_base: 0"
        )
    return Head(head.layer - base, head.head - base)


def _check_range(where: str, heads: Sequence[Head], shape: tuple[int, int], base: int) -> None:
    """Refuse a head that lies outside, in the words of the file, which may count from 1."""
    outside = [head for head in heads if head.layer >= shape[0] or head.head >= shape[1]]
    if base and outside:
        written = Head(outside[0].layer + base, outside[0].head + base)
        raise InputError(
            f"{where}: {written} is out of range: counted from 1, layers are 1 to {shape[0]} "
            f"and heads 1 to {shape[1]}"
        )
    check_heads(heads, layers=shape[0], per_layer=shape[1])


def _prompt(where: str, value: object) -> dict[str, str]:
    prompt = strict.checked(f"{where}, prompt", value, _PROMPT)
    for key, choices in _PROMPT_CHOICES.items():
        if key in prompt:
            strict.choice(where, f"prompt {key}", prompt[key], choices)
    if prompt.get("template", HOLE).count(HOLE) != 1:
        raise InputError(
            f"{where}: prompt template {prompt['template']!r} must hold {HOLE} exactly once"
        )
    return prompt


def _check_name(where: str, name: str) -> None:
    """Refuse names that `--heads` would take for something else."""
    try:
        parse_heads(name)
    except HeadsError:
        if name != AUTO and name == name.strip() and not re.search(r"[,/\\]", name):
            return
    raise InputError(
        f"{where}: name {name!r} reads as a list of heads, a file or a choice of --heads; take "
        "another name"
    )
