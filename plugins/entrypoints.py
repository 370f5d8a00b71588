"""Installed plugins, read from the distributions' metadata without importing them.

A plugin is imported only when it is requested by name. If that fails, the error names its
distribution, version and cause.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vg_engine.core.errors import AdapterNotFoundError, NotFoundError, PluginError, nearest

ADAPTERS = "vg_engine.adapters"
MODEL_TYPES = "vg_engine.model_types"
PLUGINS = "vg_engine.plugins"
REGIONS = "vg_engine.regions"
CONVERTERS = "vg_engine.converters"
DATASETS = "vg_engine.datasets"
RULES = "vg_engine.rules"
EDITORS = "vg_engine.editors"
GROUPS = (ADAPTERS, MODEL_TYPES, PLUGINS, REGIONS, CONVERTERS, DATASETS, RULES, EDITORS)
# The kinds of plugins, as `vg-engine plugins` names them; an adapter brings its model types.
KINDS = {
    "adapters": ADAPTERS,
    "postprocessors": PLUGINS,
    "regions": REGIONS,
    "rules": RULES,
    "datasets": DATASETS,
    "converters": CONVERTERS,
    "editors": EDITORS,
}
_CALLED = (REGIONS, RULES, DATASETS, CONVERTERS)  # whose plugins are functions or classes
_LOG = logging.getLogger("vg_engine")

# Per group: its kind of plugin in words, the error for an unknown name, and a hint.
_KINDS: dict[str, tuple[str, type[NotFoundError], str]] = {
    ADAPTERS: ("adapter", AdapterNotFoundError, " (vg-engine adapters lists what is installed)"),
    MODEL_TYPES: ("adapter for model type", AdapterNotFoundError, " (name one with --adapter)"),
    PLUGINS: ("plugin", NotFoundError, " (is its package installed here?)"),
    REGIONS: ("region", NotFoundError, ""),
    CONVERTERS: ("converter", NotFoundError, ""),
    DATASETS: ("data set", NotFoundError, " (write READER:PATH, as refcoco:/data/refer)"),
    RULES: ("selection rule", NotFoundError, ""),
    EDITORS: ("editor", NotFoundError, " (is its package installed here?)"),
}


@dataclass(frozen=True, order=True)
class Entry:
    """One entry point, as stated in its distribution's metadata.

    Attributes:
        name: the name that users write.
        value: `module:attribute`, not imported yet.
        distribution, version: the package that provides it.
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
        """Import the entry point's object; an adapter is also instantiated once, to check it.

        Raises:
            PluginError: it cannot be imported, or an adapter is not valid; the message names the
                package and the cause.
        """
        try:
            found = importlib.metadata.EntryPoint(self.name, self.value, self.group).load()
            if self.group in (ADAPTERS, MODEL_TYPES):
                self._check_adapter(found)
            elif self.group in _CALLED:
                _check_callable(found)
        # A module that exits the program during its import is broken like any other.
        except (Exception, SystemExit) as error:
            cause = " ".join(str(error).split()) or "no message"
            if not isinstance(error, PluginError):
                cause = f"{type(error).__name__}: {cause}"
            raise PluginError(
                f"{_kind(self.group)[0]} {self.name!r} of {self.package} is broken "
                f"({self.value}: {cause}); {self._advice(error)}"
            ) from error
        return found

    def _check_adapter(self, found: Any) -> None:
        """Refuse an adapter that cannot be registered or cannot state which models it supports."""
        from vg_engine.plugins import manager  # noqa: PLC0415 - torch, which listing does not need

        manager.check_adapter(self.name, found() if inspect.isclass(found) else found)
        claims = getattr(found, "claims", None)
        if claims is not None:
            # It is asked about every config of its type (also where the entry is `type+tower`),
            # even one that holds nothing but the type.
            claims({"model_type": self.name.partition("+")[0]})

    def _advice(self, error: BaseException) -> str:
        """Advise how to repair a broken plugin."""
        if isinstance(error, ModuleNotFoundError) and error.name:
            missing = error.name.partition(".")[0]
            own = self.value.partition(":")[0].partition(".")[0]
            if missing != own and missing not in sys.modules:
                return f"install {missing}, or remove that package"
        return "update or remove that package"


def _check_callable(found: Any) -> None:
    if not callable(found):
        raise PluginError(f"{type(found).__name__} is no function or class")


def installed(group: str) -> tuple[Entry, ...]:
    """List all entry points of a group, by name. Nothing is imported, and none is left out.

    >>> any(entry.distribution == "vg-engine" for entry in installed("vg_engine.adapters"))
    True
    """
    # Parse a package's metadata once, not per entry; keep the object, so that its id stays unique.
    packages: dict[int, tuple[Any, tuple[str, str]]] = {}
    found = set()
    for point in _points(group):
        if id(point.dist) not in packages:
            packages[id(point.dist)] = point.dist, _package(point.dist)
        found.add(Entry(point.name, point.value, *packages[id(point.dist)][1], group))
    return tuple(sorted(found))


def _points(group: str) -> Iterator[Any]:
    """Iterate over the entry points of a group, without distributions of unreadable metadata."""
    try:
        return iter(importlib.metadata.entry_points(group=group))
    except Exception:  # noqa: BLE001 - one broken file makes the common call fail
        return _readable_points(group)


def _readable_points(group: str) -> Iterator[Any]:
    seen = set()
    for distribution in importlib.metadata.distributions():
        name, _ = _package(distribution)
        if name in seen:
            continue  # hidden by one earlier on the path
        seen.add(name)
        try:
            yield from distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - whatever its file holds
            cause = " ".join(str(error).split())
            _LOG.warning("the entry points of %s cannot be read (%s); reinstall it", name, cause)


def _package(distribution: Any) -> tuple[str, str]:
    """Return name and version of a distribution, as far as they can be read."""
    try:
        return str(distribution.name or "an unnamed package"), str(distribution.version or "?")
    except Exception:  # noqa: BLE001 - a folder that a failed installation left behind
        return "an unnamed package", "?"


def find(group: str, name: str, entries: Sequence[Entry] | None = None) -> Entry:
    """Find the one entry of a name, without importing it.

    Args:
        group: one of `GROUPS`.
        name: as the user wrote it.
        entries: the entries to search; by default all installed ones.

    Raises:
        NotFoundError: no package offers that name (the nearest names are in the message).
        PluginError: two distributions offer it; the message names both.
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
