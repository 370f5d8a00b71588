"""Options of a plugin: as text (`paper:per_sample=5`) converted to its types, and described."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vg_engine.core.errors import InputError, nearest

_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_KINDS = {bool: "yes or no", int: "a whole number", float: "a number"}  # anything else is text
# In a docstring of Google's form: a section of names, and its names with their meaning.
_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)+)", re.MULTILINE)
_NAMED = re.compile(r"^ {4}(\w+(?:, \w+)*): (.+(?:\n {5,}.+)*)", re.MULTILINE)


class Option(NamedTuple):
    """An option of a plugin; its meaning comes from the docstring, and may be empty."""

    name: str
    type: str
    default: Any
    meaning: str


def settable(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Find the parameters that a user may set: those with a default that a call can name."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in kinds and parameter.default is not parameter.empty
    }


def describe(plugin: Any) -> tuple[str, list[Option]]:
    """Read what a plugin does, in one sentence, and its options from its docstring and signature.

    >>> def widest(values, *, c: float = 1.0):
    ...     '''Find the widest part. Slow.
    ...
    ...     Args:
    ...         c: how wide, in cells. Not checked.
    ...     '''
    >>> summary, (option,) = describe(widest)
    >>> summary, option.type, option.default, option.meaning
    ('Find the widest part', 'a number', 1.0, 'how wide, in cells')
    """
    known = settable(plugin) if callable(plugin) else {}
    sources = [plugin]
    if inspect.isclass(plugin):
        sources = [*reversed(inspect.getmro(plugin)), plugin.__init__]
    meanings: dict[str, str] = {}
    for text in [inspect.cleandoc(one.__doc__ or "") for one in sources]:
        for names, meaning in _NAMED.findall("".join(_SECTION.findall(text))):
            meanings |= dict.fromkeys(names.split(", "), _sentence(meaning))
    options = [
        Option(name, _KINDS.get(type(one.default), "text"), one.default, meanings.get(name, ""))
        for name, one in known.items()
    ]
    return _sentence(inspect.getdoc(plugin) or ""), options


def _sentence(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def parse(what: str, function: Callable[..., Any], stated: Mapping[str, str]) -> dict[str, Any]:
    """Convert texts to the values of a function's options; the defaults give the types.

    Args:
        what: the plugin's kind and name, for messages (`region 'mean_std'`).
        function: the function that takes the options.
        stated: option -> text.

    Raises:
        InputError: an option is unknown, or a value has another type.

    >>> parse("rule 'x'", lambda *, n=3, cut=1.0, by="unc": None, {"n": "5", "cut": "2"})
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
        raise InputError(f"{what}: {key} takes {_KINDS[type(default)]}, got {text!r}") from None
    return text


def pairs(text: str, separator: str = ",") -> dict[str, str]:
    """Read `a=1,b=2` as a mapping.

    Raises:
        InputError: a part has no `=`, or an option is named twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(separator))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InputError(f"{part!r} is not an option; write name=value")
        if key in found:
            raise InputError(f"option {key!r} is given twice; give it once")
        found[key] = value
    return found
