"""Options of a plugin, written as text (`paper:per_sample=5`) and read by their defaults' types."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from vg_engine.core.errors import InputError, nearest

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


def settable(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """List the parameters that a user may set: those with a default that can be named in a call."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in kinds and parameter.default is not parameter.empty
    }


def parse(what: str, function: Callable[..., Any], stated: Mapping[str, str]) -> dict[str, Any]:
    """Turn texts into the values that a function's options take; a default tells the type.

    Args:
        what: the plugin's kind and name, for messages (`region 'mean_std'`).
        function: what will be called.
        stated: option -> text.

    Raises:
        InputError: an unknown option, or a value of another type.

    >>> parse("mode 'x'", lambda *, n=3, cut=1.0, by="unc": None, {"n": "5", "cut": "2"})
    {'n': 5, 'cut': 2.0}
    """
    known = settable(function)
    values: dict[str, Any] = {}
    for key, text in stated.items():
        if key not in known:
            options = nearest(key, known) if known else "it takes none"
            raise InputError(f"{what} has no option {key!r}; {options}")
        values[key] = _value(what, key, text, known[key].default)
    return values


def _value(what: str, key: str, text: str, default: object) -> Any:
    try:
        match default:
            case bool():
                return _WORDS[text.lower()]
            case int():
                return int(text)
            case float():
                return float(text) if math.isfinite(float(text)) else _WORDS[text]
    except (ValueError, KeyError):
        kind = {bool: "yes or no", int: "a whole number", float: "a number"}[type(default)]
        raise InputError(f"{what}: {key} takes {kind}, got {text!r}") from None
    return text


def pairs(text: str, separator: str = ",") -> dict[str, str]:
    """Split `a=1,b=2` into a mapping.

    Raises:
        InputError: a part without `=`, or an option named twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(separator))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InputError(f"{part!r} is no option; write name=value")
        if key in found:
            raise InputError(f"option {key!r} is given twice; give it once")
        found[key] = value
    return found
