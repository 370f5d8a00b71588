"""Shared parts of frozen data: a read-only mapping, and rebuilding from the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any


class Rebuilt:
    """Lets a frozen dataclass be pickled and copied: the copy is built, and checked, anew."""

    def __reduce__(self) -> tuple[type[Any], tuple[Any, ...]]:
        """Name the class and the values of its fields; read-only mappings become dicts."""
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type] # a dataclass uses it
        return type(self), tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)


def empty() -> Mapping[str, Any]:
    """Make a read-only mapping without entries, the default of a field."""
    return MappingProxyType({})
