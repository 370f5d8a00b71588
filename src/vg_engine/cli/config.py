"""`--config FILE.yaml`: options of a command, for what a command line is too long for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from vg_engine.core.errors import InputError, nearest

# Mappings that no option on the command line can hold.
PROMPT, OPTIONS = "prompt", "options"
_PROMPT_FIELDS = ("form", "template", "system", "query_row")
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
    values = _read(path)
    parameters = _options(context)
    inner: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in _REFUSED:
            raise InputError(f"{path}: {key}: {_REFUSED[name]}")
        if value is None:
            continue
        if name in (PROMPT, OPTIONS) and isinstance(value, dict):
            inner[name] = _texts(path, name, value)
        elif name == OPTIONS:
            raise InputError(f"{path}: options takes `name: value` pairs, got {value!r}")
        elif name not in parameters:
            known = {*parameters, OPTIONS} - {*_REFUSED, "help"}
            raise InputError(f"{path}: no option {key!r}; {nearest(name, known)}")
        elif isinstance(value, dict) or (
            isinstance(value, list) and not getattr(parameters[name], "multiple", False)
        ):
            raise InputError(f"{path}: {key} takes one value, got {value!r}")
        elif getattr(parameters[name], "multiple", False):
            defaults[parameters[name].name] = (
                [str(v) for v in value] if isinstance(value, list) else [str(value)]
            )
        else:
            defaults[parameters[name].name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    context.meta["vg_engine.config"] = inner
    return path


def nested(context: typer.Context, name: str) -> dict[str, Any]:
    """The mapping of that name in the config; empty without one."""
    found: dict[str, Any] = context.meta.get("vg_engine.config", {}).get(name, {})
    return found


def _options(context: typer.Context) -> dict[str, Any]:
    """The command's options by their long names, hyphens as underscores."""
    return {
        name[2:].replace("-", "_"): parameter
        for parameter in context.command.params
        for name in parameter.opts
        if name.startswith("--")
    }


def _read(path: Path) -> dict[Any, Any]:
    import yaml  # noqa: PLC0415 - for this option alone

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"config {path} cannot be read ({cause}); check the file") from error
    if not isinstance(values, dict):
        raise InputError(f"config {path} must hold `option: value` lines")
    return values


def _texts(path: Path, name: str, value: dict[Any, Any]) -> dict[str, Any]:
    if name == PROMPT:
        for key, text in value.items():
            if key not in _PROMPT_FIELDS:
                raise InputError(
                    f"{path}: prompt has no {key!r}; {nearest(str(key), _PROMPT_FIELDS)}"
                )
            if not isinstance(text, str):
                raise InputError(f"{path}: prompt {key} must be text, got {text!r}")
    return {str(key): held for key, held in value.items()}
