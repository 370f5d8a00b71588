"""YAML files of plain values: read so that nothing in them surprises, and written.

A file may come from a stranger: doubled keys, tags, aliases (a few lines of them unfold into
gigabytes), deep nests and endless files are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from vg_engine.core.errors import InputError

LARGEST = 8_000_000  # characters; a head set with every head of a large model has under a million
DEEPEST = 20
_TIME = "tag:yaml.org,2002:timestamp"


# libyaml's loader, where PyYAML was built with it, is ten times as fast.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads keys and dates as the text that they are written as."""

    yaml_implicit_resolvers: ClassVar = {
        first: [pair for pair in pairs if pair[0] != _TIME]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, **_: bool) -> dict[str, Any]:
        """Refuse doubled keys, of which PyYAML takes the last without a word."""
        held: dict[str, Any] = {}
        for key, value in node.value:
            name = self.construct_scalar(key)
            if name in held:
                raise yaml.MarkedYAMLError(
                    problem=f"key {name!r} twice; keep one", problem_mark=key.start_mark
                )
            held[name] = self.construct_object(value, deep=True)
        return held


class _Dumper(yaml.SafeDumper):
    """Writes text that `load` takes: never an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is theirs
        """Write everything out, however often it stands in the data."""
        return True

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        """Put text with other than printable characters between quotes, with escapes.

        Otherwise PyYAML does not read every line separator back as it was.
        """
        if isinstance(value, str) and not value.isprintable():
            style = '"'
        return super().represent_scalar(tag, value, style=style)


def load(path: Path) -> Any:
    """Read a YAML file.

    Returns:
        Mappings with text as keys, lists, text (dates too), numbers, truth values, None; an empty
        file is an empty mapping.

    Raises:
        InputError: no such file, no YAML, or YAML that is more than plain values; the message
            names the file and, where it can, the line.
    """
    where = shown(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise InputError(f"{where} has more than {LARGEST} characters; is it the right file?")
        _check_events(text)
        held = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError as error:
        raise InputError(f"no file {where}; check the path (here is {Path.cwd()})") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        cause = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{where}{line}: {cause}") from error
    # ValueError: not UTF-8, a NUL in the path, a number that cannot be.
    except (OSError, ValueError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{where} cannot be read ({cause}); correct or remove it") from error
    return {} if held is None else held


def dump(data: Mapping[str, Any]) -> str:
    """Write plain values as YAML; `load` reads the same values back."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def shown(path: Path) -> str:
    """Give the path for messages; of our own files, where they lie in the package."""
    return f"{path.parent.name}/{path.name}" if "vg_engine" in path.parts else str(path)


def _check_events(text: str) -> None:
    """Refuse what must not be composed: aliases, and nests that overflow libyaml's stack."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            problem = "an alias (&, *); write the value out instead"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            problem = f"more than {DEEPEST} levels deep; is it the right file?"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
