"""What is installed, read from the distributions' metadata: nothing is imported to list it.

A plugin is imported when somebody asks for it by name, and only then can it break anything: the
error names its distribution, version and cause.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vg_engine.core.errors import AdapterNotFoundError, NotFoundError, PluginError, nearest

ADAPTERS = "vg_engine.adapters"
MODEL_TYPES = "vg_engine.model_types"
PLUGINS = "vg_engine.plugins"
REGIONS = "vg_engine.regions"
GROUPS = (ADAPTERS, MODEL_TYPES, PLUGINS, REGIONS)

# What a group holds, in words, and the error for a name that it does not hold.
_KINDS: dict[str, tuple[str, type[NotFoundError], str]] = {
    ADAPTERS: ("adapter", AdapterNotFoundError, " (vg-engine adapters lists what is installed)"),
    MODEL_TYPES: ("adapter for model type", AdapterNotFoundError, " (name one with --adapter)"),
    PLUGINS: ("plugin", NotFoundError, " (is its package installed here?)"),
    REGIONS: ("region", NotFoundError, ""),
}


@dataclass(frozen=True, order=True)
class Entry:
    """One entry point, as its distribution's metadata states it.

    Attributes:
        name: what the user calls it.
        value: `module:attribute`, not imported yet.
        distribution, version: the package that brings it.
        group: one of `GROUPS`.
    """

    name: str
    value: str
    distribution: str
    version: str
    group: str

    @property
    def package(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import what the entry point names.

        Raises:
            PluginError: it cannot be imported; the message names the package and the cause.
        """
        point = importlib.metadata.EntryPoint(self.name, self.value, self.group)
        try:
            return point.load()
        except Exception as error:
            cause = " ".join(str(error).split()) or "no message"
            raise PluginError(
                f"{_kind(self.group)[0]} {self.name!r} of {self.package} is broken "
                f"({self.value}: {type(error).__name__}: {cause}); "
                f"update or remove that package"
            ) from error


def installed(group: str) -> tuple[Entry, ...]:
    """All entry points of a group, by name. Nothing is imported, nobody is refused.

    >>> any(entry.distribution == "vg-engine" for entry in installed("vg_engine.adapters"))
    True
    """
    found = {
        Entry(
            point.name,
            point.value,
            point.dist.name if point.dist else "an unnamed package",
            point.dist.version if point.dist else "?",
            group,
        )
        for point in importlib.metadata.entry_points(group=group)
    }
    return tuple(sorted(found))


def find(group: str, name: str, entries: Sequence[Entry] | None = None) -> Entry:
    """The one entry of that name; not imported yet.

    Args:
        group: one of `GROUPS`.
        name: as the user wrote it.
        entries: where to look; by default what is installed.

    Raises:
        NotFoundError: nobody offers that name (the nearest names are in the message).
        PluginError: two distributions offer it; both are named.
    """
    known = installed(group) if entries is None else entries
    offers = [entry for entry in known if entry.name == name]
    kind, missing, advice = _kind(group)
    if not offers:
        names = nearest(name, [entry.name for entry in known])
        raise missing(f"no {kind} {name!r}{advice}; {names}")
    if len(offers) > 1:
        sides = " and ".join(f"{offer.package} ({offer.value})" for offer in offers)
        raise PluginError(f"{kind} {name!r} is offered by {sides}; uninstall one of them")
    return offers[0]


def _kind(group: str) -> tuple[str, type[NotFoundError], str]:
    return _KINDS.get(group, (f"entry of {group}", NotFoundError, ""))
