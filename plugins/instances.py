"""Instances of plugins: by name, with the options behind it, or as the user's own object."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from vg_engine.core.errors import PluginError
from vg_engine.core.readout.regions import Region
from vg_engine.plugins import entrypoints, options


def made_plugin(name: str, plugin: Any) -> object:
    """Make an instance: a class is called, anything else is one already.

    Raises:
        PluginError: calling the class failed.
    """
    if not (inspect.isclass(plugin) or isinstance(plugin, functools.partial)):
        return plugin
    try:
        return plugin()
    except Exception as error:
        cause = " ".join(str(error).split())
        raise PluginError(
            f"plugin {name!r} cannot be made: {type(error).__name__}: {cause}; "
            "its class must take no arguments but its options"
        ) from error


def named_plugin(given: object, group: str) -> tuple[str, object]:
    """Find the name of a plugin, options and all, and make an instance of it.

    Args:
        given: `name`, `name:key=value,key=value`, a class or an instance.
        group: entry-point group that names are looked up in.

    Raises:
        VGError: no such plugin is installed, it has no such option, or it cannot be made.
    """
    if isinstance(given, str):
        return given, made_plugin(given.partition(":")[0], _with_options("plugin", given, group))
    name = given.__name__ if inspect.isclass(given) else type(given).__name__
    return name, made_plugin(name, given)


def made_region(given: str | Region) -> tuple[str, Region]:
    """Find a region by its name; one that is a function already keeps its own name.

    Raises:
        VGError: no such region is installed, or it has no such parameter.
    """
    if isinstance(given, str):
        return given, _with_options("region", given, entrypoints.REGIONS)
    return getattr(given, "__name__", type(given).__name__), given


def _with_options(kind: str, text: str, group: str) -> Any:
    """Load what the text names, and bind the options behind the colon."""
    name, _, stated = text.partition(":")
    found: Any = entrypoints.find(group, name).load()
    values = options.parse(f"{kind} {name!r}", found, options.pairs(stated)) if stated else {}
    return functools.partial(found, **values) if values else found
