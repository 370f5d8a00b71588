"""Strict reading of YAML files: known keys of known types, and nothing that could surprise.

Whatever is misspelt, doubled, missing or of another type is refused, with the file, the key and the
nearest key that exists. A file may come from a stranger: no tags, no aliases (a few lines of them
unfold into gigabytes), no endless files.
"""

from __future__ import annotations

import datetime as dt
import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vg_engine.core.errors import InputError, nearest

LARGEST = 8_000_000  # characters; a head set with every head of a large model has under a million
DEEPEST = 20

# libyaml's, where PyYAML was built with it, is ten times as fast.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Lines(yaml.SafeDumper):
    """Writes what `load` takes: never an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is theirs
        """Write everything out, however often it stands in the data."""
        return True

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        """Put text that holds more than letters and blanks between quotes, with escapes.

        Otherwise PyYAML does not read every line separator back as it was.
        """
        if isinstance(value, str) and not value.isprintable():
            style = '"'
        return super().represent_scalar(tag, value, style=style)


def load(path: Path) -> object:
    """What a YAML file holds.

    Raises:
        InputError: no such file, no YAML, or YAML that is more than plain values.
    """
    where = shown(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise InputError(f"{where} has more than {LARGEST} characters; is it the right file?")
        _check_shape(where, text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _check_keys(where, node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except FileNotFoundError as error:
        raise InputError(f"no file {where}; check the path (here is {Path.cwd()})") from error
    # ValueError: not UTF-8, a NUL in the path, a date or a number that cannot be.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} cannot be read ({cause}); mend or remove it") from error


def dump(data: Mapping[str, Any]) -> str:
    """The YAML of plain values."""
    text: str = yaml.dump(data, Dumper=_Lines, sort_keys=False, allow_unicode=True, width=100)
    return text


def mapping(path: Path, schema: Mapping[str, type], required: Sequence[str]) -> dict[str, Any]:
    """The keys and values of a file, checked; its name is the file's.

    Raises:
        InputError: the file is not what the schema says; file and key are named.
    """
    where = shown(path)
    data = checked(where, load(path), schema)
    missing = [key for key in required if key not in data]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing; add it")
    if data["name"] != path.stem:
        raise InputError(f"{where}: name is {data['name']!r}; name it {path.stem!r} as the file")
    return data


def checked(where: str, data: object, schema: Mapping[str, type]) -> dict[str, Any]:
    """The mapping without its empty keys, every other one known and of its type, all plain.

    Raises:
        InputError: a key is unknown, or its value is of another type or cannot be.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected keys and values, got {type(data).__name__}")
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if key not in schema:
            raise InputError(f"{where}: unknown key {key!r}; {nearest(str(key), schema)}")
        if value is not None:
            kept[key] = _of_type(f"{where}: {key}", plain(f"{where}: {key}", value), schema[key])
    return kept


def _of_type(where: str, given: Any, wanted: type) -> Any:
    if wanted is float and isinstance(given, int) and not isinstance(given, bool):
        given = float(given)
    if not isinstance(given, wanted) or (wanted is int and isinstance(given, bool)):
        quotes = wanted is str and isinstance(given, int | float)
        advice = "; write it in quotes" if quotes else ""
        raise InputError(
            f"{where} must be {wanted.__name__}, got {type(given).__name__} {given!r:.80}{advice}"
        )
    if isinstance(given, int) and given < 0:
        raise InputError(f"{where} must not be negative, got {given}")
    return given


def choice(where: str, key: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise InputError(f"{where}: {key} {value!r}; choose {', '.join(map(str, choices))}")


def texts(where: str, key: str, values: Sequence[object]) -> tuple[str, ...]:
    """A list that holds nothing but text.

    Raises:
        InputError: it holds something else.
    """
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{where}: {key} must be a list of text, got {values!r:.80}")
    return tuple(map(str, values))


def plain(where: str, value: object) -> Any:
    """Mappings, lists, text, finite numbers and None, as JSON and YAML both take them.

    Dates become text, numpy's numbers Python's, keys text.

    Raises:
        InputError: the value is something else, or a number is not finite.
    """
    match value:
        case None | bool():
            answer: Any = value
        case str():
            answer = str(value)
        case numbers.Integral():
            answer = int(value)
        case numbers.Real() if math.isfinite(value):
            answer = float(value)
        case numbers.Real():
            raise InputError(f"{where} is {float(value)}; write a finite number, or leave it out")
        case dt.date():
            answer = value.isoformat()
        case Mapping():
            answer = {str(key): plain(f"{where}, {key}", inner) for key, inner in value.items()}
        case list() | tuple():
            answer = [plain(where, inner) for inner in value]
        case _:
            kind = type(value).__name__
            raise InputError(f"{where} holds a {kind}; write text, numbers, lists or keys")
    return answer


def shown(path: Path) -> str:
    """A path for messages: of our own files, where they lie in the package."""
    return f"{path.parent.name}/{path.name}" if "vg_engine" in path.parts else str(path)


def _check_shape(where: str, text: str) -> None:
    """Refuse what must not be composed: aliases, and nests that overflow libyaml's stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InputError(f"{where}{_line(event)}: an alias (&, *); write the value out instead")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{where}: more than {DEEPEST} levels deep; is it the right file?")


def _check_keys(where: str, root: yaml.Node | None) -> None:
    """Refuse doubled keys, of which PyYAML takes the last without a word."""
    open_ = [] if root is None else [root]
    while open_:
        node = open_.pop()
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name is not None and name in keys:
                    raise InputError(f"{where}{_line(key)}: key {name!r} twice; keep one")
                keys.add(name)
                open_.append(value)
        elif isinstance(node, yaml.SequenceNode):
            open_ += node.value


def _line(part: Any) -> str:
    """Where an event or a node stands."""
    return f", line {part.start_mark.line + 1}" if part.start_mark else ""
