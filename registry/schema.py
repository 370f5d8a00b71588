"""The keys of head-set files and model files, checked by pydantic, and how such files are read.

`check` turns what pydantic refuses into one line; `vg_engine.registry.yaml_files` reads the YAML.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, to_jsonable_python

from vg_engine.core.contract.prompt import Prompt, PromptForm
from vg_engine.core.errors import HeadsError, InputError, nearest
from vg_engine.core.heads import Head, HeadSet, check_heads, parse_heads
from vg_engine.registry import yaml_files

_RULE = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
AUTO = "auto"
SHIFTED = "counted from 1 in its file; here layers and heads count from 0"
# The same as in `vg_engine.core.attention.criteria`, which would import numpy; a test compares.
Weighting = Literal["area", "mass"]
Connectivity = Literal[4, 8]

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]  # a strict tuple takes no list

# What pydantic calls a value's type, in words for people who write YAML.
_WANTED = {
    "model_type": "`key: value` lines",
    "dict_type": "`key: value` lines",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "path_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "invalid-json-value": "text, a number, a list or `key: value` lines",
}


def _rule_name(rule: str) -> str:
    """Accept the name of any selection rule, since plugins may bring rules."""
    if not _RULE.fullmatch(rule):
        raise ValueError(
            f"{rule!r} is no name of a selection rule (small letters, digits, _ . + -); choose "
            "published, given, or the rule that chose the heads"
        )
    return rule


def _set_name(name: str) -> str:
    """Refuse names that `--heads` would take for something else."""
    try:
        parse_heads(name)
    except HeadsError:
        if name != AUTO and name == name.strip() and not re.search(r"[,/\\]", name):
            return name
    raise ValueError(
        f"{name!r} reads as a list of heads, a file or a choice of --heads; take another name"
    )


class Section(BaseModel):
    """A mapping of a file: known keys of known types; an empty key counts as not there."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}

    def stated(self) -> dict[str, Any]:
        """The keys that are stated, with plain values."""
        return self.model_dump(exclude_unset=True)


class PromptFields(Section):
    """Fields of `vg_engine.core.contract.prompt.Prompt`."""

    form: PromptForm | None = None
    template: str | None = None
    system: str | None = None
    query_row: str | None = None
    answer: str | None = None
    ending: str | None = None


def _whole(fields: PromptFields) -> PromptFields:
    """Check the fields together, with the defaults for the others."""
    try:
        Prompt(**fields.stated())
    except InputError as error:
        raise ValueError(str(error)) from error
    return fields


WholePrompt = Annotated[PromptFields, AfterValidator(_whole)]


class HeadLine(Section):
    """One head of a set, and what is known of it."""

    head: str
    frequency: float | None = None
    spread: float | None = None
    score: float | None = None


class Provenance(Section):
    """Facts that a head set states beside its heads."""

    revision: str | None = None  # of the model
    model_fingerprint: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    data: str | None = None
    data_revision: str | None = None
    split: str | None = None
    n: Count | None = None  # samples that there were
    samples: Count | None = None  # drawn of them in each draw
    draws: Count | None = None
    seed: Count | None = None
    k: Count | None = None  # heads that were chosen
    per_sample: Count | None = None  # N: heads of lowest entropy that a sample votes for
    threshold: float | None = None  # tau: least mean attention to the picture
    cut: float | None = None
    weighting: Weighting | None = None
    connectivity: Connectivity | None = None
    neutral: str | None = None  # the prompt that says nothing, where the rule compares with one
    faults: Count | None = None  # samples that could not be read
    prompt: WholePrompt | None = None
    region: str | None = None
    options: dict[str, JsonValue] | None = None  # of the adapter, such as geometry: pad
    tool_version: str | None = None
    date: str | None = None
    source: str | None = None
    controls: dict[str, JsonValue] | None = None
    licence: str | None = None
    index_base: Annotated[int, Field(ge=0, le=1)] | None = None
    notes: list[str] | None = None


class HeadSetFile(Provenance):
    """A head-set file."""

    name: Annotated[str, AfterValidator(_set_name)]
    models: Texts
    layers: Count = 0
    heads_per_layer: Count = 0
    rule: Annotated[str, AfterValidator(_rule_name)]
    heads: list[HeadLine]


class ModelEntry(Section):
    """A model that the registry knows.

    Attributes:
        name: what `--model` takes, beside the aliases and ids.
        ids: hub ids, the preferred one first.
        folder: where its files lie, if they come with the registry or the user keeps them.
        adapter: name of its adapter; None lets the config's model type decide.
        prompt: how it is asked.
        heads: name of its head set; None selects heads on each picture.
        region: name of its default region.
        layers, heads_per_layer: its shape; 0 = not stated.
        options: switches of its adapter.
        notes: added to every answer.
    """

    name: str
    aliases: Texts = ()
    ids: Texts = ()
    folder: Annotated[Path, Field(strict=False)] | None = None
    adapter: str | None = None
    prompt: WholePrompt = PromptFields()
    heads: str | None = None
    region: str | None = None
    layers: Count = 0
    heads_per_layer: Count = 0
    options: dict[str, JsonValue] = {}
    licence: str | None = None
    source: str | None = None
    notes: Texts = ()

    @model_validator(mode="after")
    def _has_files(self) -> ModelEntry:
        if self.folder is None and not self.ids:
            raise ValueError("neither folder nor ids; say where the model's files are")
        return self

    def answers_to(self, name: str) -> bool:
        """Tell whether `name` means this model; case does not matter."""
        return name.lower() in {n.lower() for n in (self.name, *self.aliases, *self.ids)}


_JSON_TYPES = frozenset({"dict", "list", "float"})
Kind = TypeVar("Kind")


def check(where: str, kind: Callable[..., Kind], data: object) -> Kind:
    """Check plain values against a model or another type that pydantic knows.

    Args:
        where: the file, for messages.
        kind: the model or type.
        data: what the file holds.

    Raises:
        InputError: the first thing that is wrong, in one line that names file and key.
    """
    try:
        return TypeAdapter(cast("type[Kind]", kind)).validate_python(data)
    except ValidationError as error:
        # A misspelt key is also a missing one: the misspelling says more.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise InputError(f"{where}: {_sentence(kind, first)}") from error


def _sentence(kind: Any, error: ErrorDetails) -> str:
    """Say what is wrong: the key, what it must be and what it is."""
    what, loc, given = error["type"], error["loc"], error["input"]
    if what == "extra_forbidden":
        key, loc = loc[-1], loc[:-1]
        problem = f"unknown key {key!r}; {nearest(str(key), _keys(kind, loc))}"
    elif what == "missing":
        problem = "missing; add it"
    elif what == "value_error":
        problem = str(error["ctx"]["error"])
    else:
        wanted = _WANTED.get(what) or error["msg"].removeprefix("Input should be ")
        got = "nothing" if given is None else f"{type(given).__name__} {given!r:.80}"
        quotes = what == "string_type" and isinstance(given, int | float)
        problem = f"must be {wanted}, got {got}{'; write it in quotes' if quotes else ''}"
    # Places in a JSON value also name the types on the way.
    steps = [str(s + 1) if isinstance(s, int) else s for s in loc if s not in _JSON_TYPES]
    return f"{', '.join(steps)}: {problem}" if steps else problem


def _keys(kind: Any, loc: Iterable[int | str]) -> Iterable[str]:
    """List the keys that the mapping at this place takes."""
    for step in loc:
        if isinstance(step, str):
            kind = kind.model_fields[step].annotation
            kind = next(iter(get_args(kind)), kind)
    known: Iterable[str] = kind.model_fields
    return known


def read_head_set(path: Path) -> HeadSet:
    """Read one head set; its heads count from 0, whatever the file's `index_base`.

    A set that counts from 1 is shifted, and its notes then say so.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    where = yaml_files.shown(path)
    return _head_set(where, check(where, HeadSetFile, yaml_files.load(path)))


def read_model(path: Path, root: Path) -> ModelEntry:
    """Read one model entry; its folder is relative to `root`.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    entry = check(yaml_files.shown(path), ModelEntry, yaml_files.load(path))
    if entry.folder is None:
        return entry
    return entry.model_copy(update={"folder": (root / entry.folder).absolute()})


def dump_head_set(heads: HeadSet) -> str:
    """Write a head set as YAML; `read_head_set` reads the same set back.

    Raises:
        InputError: the set states what the schema does not know, or could not be read back.
    """
    where = f"head set {heads.name!r}"
    if heads.provenance.get("index_base"):
        raise InputError(f"{where}: index_base is of files; heads in memory count from 0")
    shape = {"layers": heads.layers, "heads_per_layer": heads.heads_per_layer}
    own = {
        "name": heads.name,
        "models": heads.model,
        **{key: count for key, count in shape.items() if count},
        "rule": heads.rule,
        "heads": [
            {"head": str(head), **{key: values[place] for key, values in heads.columns.items()}}
            for place, head in enumerate(heads.heads)
        ],
    }
    plain = to_jsonable_python([own, dict(heads.provenance)], fallback=_number)
    stated = check(where, Provenance, plain[1]).stated()
    _head_set(where, check(where, HeadSetFile, plain[0] | stated))
    return yaml_files.dump(plain[0] | stated)


def _number(value: Any) -> Any:
    """Turn one of numpy's numbers into one of Python's."""
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        return value.item()
    kind = type(value).__name__
    raise InputError(f"a head set states text, numbers, lists and mappings, got {kind}")


def _head_set(where: str, file: HeadSetFile) -> HeadSet:
    """Make the head set that a file states."""
    base = file.index_base or 0
    shape = (file.layers, file.heads_per_layer)
    provenance = {
        key: value for key, value in file.stated().items() if key in Provenance.model_fields
    }
    if base:
        provenance |= {"index_base": 0, "notes": [*(file.notes or ()), SHIFTED]}
    try:
        heads = tuple(_counted_from_0(Head.parse(line.head), base) for line in file.heads)
        if all(shape):
            _check_range(heads, shape, base)
        return HeadSet(
            name=file.name,
            heads=heads,
            rule=file.rule,
            model=file.models,
            layers=file.layers,
            heads_per_layer=file.heads_per_layer,
            **_columns(file.heads),
            provenance=MappingProxyType(provenance),
        )
    except HeadsError as error:
        raise InputError(f"{where}: {error}") from error


def _columns(lines: Sequence[HeadLine]) -> dict[str, tuple[float, ...]]:
    """Collect what is stated of each head: all or none of a column."""
    columns = {}
    for key in ("frequency", "spread", "score"):
        values = tuple(v for line in lines if (v := getattr(line, key)) is not None)
        if len(values) not in {0, len(lines)}:
            raise HeadsError(f"a {key} for {len(values)} of {len(lines)} heads; all or none")
        columns[key] = values
    return columns


def _counted_from_0(head: Head, base: int) -> Head:
    if base and not (head.layer and head.head):
        raise HeadsError(
            f"{head} in a list that counts from 1 (index_base: 1); count layers and heads from 1, "
            "or say index_base: 0"
        )
    return Head(head.layer - base, head.head - base)


def _check_range(heads: Sequence[Head], shape: tuple[int, int], base: int) -> None:
    """Refuse a head that lies outside, in the words of the file, which may count from 1."""
    outside = [head for head in heads if head.layer >= shape[0] or head.head >= shape[1]]
    if base and outside:
        written = Head(outside[0].layer + base, outside[0].head + base)
        raise HeadsError(
            f"{written} is out of range: counted from 1, layers are 1 to {shape[0]} "
            f"and heads 1 to {shape[1]}"
        )
    check_heads(heads, layers=shape[0], per_layer=shape[1])
