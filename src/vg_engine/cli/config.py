"""`--config FILE.yaml`: options of a command, for what a command line is too long for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from vg_engine.core.errors import InputError, nearest

# Mappings that no option on the command line can hold.
PROMPT, OPTIONS = "prompt", "options"
_REFUSED = {
    "config": "a config names no other config",
    "trust_remote_code": "say --trust-remote-code on the command line",
}


def apply(context: typer.Context, path: Path | None) -> Path | None:
    """Make a YAML file's values the command's defaults; what the command line says wins.

    Raises:
        InputError: the file cannot be read, or holds what is not an option.
    """
    if path is None:
        return None
    from vg_engine.registry import schema, yaml_files  # noqa: PLC0415 - for this option alone

    where = f"config {path}"
    values = schema.check(where, dict[str, Any], yaml_files.load(path))
    parameters = _options(context)
    inner: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in values.items():
        name = key.replace("-", "_")
        several = getattr(parameters.get(name), "multiple", False)
        if name in _REFUSED:
            raise InputError(f"{where}: {key}: {_REFUSED[name]}")
        if name not in {*parameters, PROMPT, OPTIONS}:
            known = {*parameters, OPTIONS} - {*_REFUSED, "help"}
            raise InputError(f"{where}: no option {key!r}; {nearest(name, known)}")
        if name in seen:
            raise InputError(f"{where}: {key} twice, with - and with _; keep one")
        seen.add(name)
        if value is None:
            continue
        if name == PROMPT and isinstance(value, dict):
            inner[name] = schema.check(f"{where}: {key}", schema.PromptFields, value).stated()
        elif name == OPTIONS:
            inner[name] = schema.check(f"{where}: {key}", dict[str, Any], value)
        elif isinstance(value, dict) or (isinstance(value, list) and not several):
            raise InputError(f"{where}: {key} takes one value, got {value!r}")
        elif several:
            each = value if isinstance(value, list) else [value]
            if not all(isinstance(one, str) for one in each):  # `yes` is no text, 007 is 7
                raise InputError(f"{where}: {key} takes text, got {value!r}; write it in quotes")
            defaults[parameters[name].name] = each
        else:
            defaults[parameters[name].name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    context.meta["vg_engine.config"] = inner
    return path


def nested(context: typer.Context, name: str) -> dict[str, Any]:
    """Return the mapping of that name in the config; empty without one."""
    found: dict[str, Any] = context.meta.get("vg_engine.config", {}).get(name, {})
    return found


def _options(context: typer.Context) -> dict[str, Any]:
    """Map long names, hyphens as underscores, to the command's options."""
    return {
        name[2:].replace("-", "_"): parameter
        for parameter in context.command.params
        for name in parameter.opts
        if name.startswith("--")
    }
