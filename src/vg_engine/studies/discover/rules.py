"""Selection rules by name, as option `--rule` gives them: `paper`, `paper:per_sample=5`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from vg_engine.core.errors import InputError, PluginError
from vg_engine.core.selection.head_statistics import ATTENTION
from vg_engine.core.selection.ranking import Rule
from vg_engine.plugins import entrypoints, options


class NamedRule(NamedTuple):
    """A rule as the user named it."""

    text: str
    name: str
    rule: Rule
    options: dict[str, Any]


def find_rule(text: str, **defaults: str) -> NamedRule:
    """Find the rule that a text names, among the entry points `vg_engine.rules`.

    Args:
        text: a name, with options after a colon.
        defaults: options for every rule that knows them; the text wins.

    Raises:
        NotFoundError: there is no such rule; the nearest names are in the message.
        InputError: an option that it has not got.
        PluginError: what was found is no rule.
    """
    name, _, stated = text.partition(":")
    entry = entrypoints.find(entrypoints.RULES, name.strip())
    made = entry.load()
    known = options.settable(made)
    wanted = {key: value for key, value in defaults.items() if key in known}
    wanted |= options.pairs(stated)
    values = options.parse(f"rule {name!r}", made, wanted)
    try:
        rule = made(**values)
    except InputError as error:
        raise InputError(f"rule {text!r}: {error}") from error
    needs = getattr(rule, "needs", None)
    if not isinstance(needs, tuple) or not callable(getattr(rule, "score", None)):
        raise PluginError(
            f"rule {name!r} of {entry.package} is no rule: it lacks `needs` or `score`; update or "
            "remove that package"
        )
    return NamedRule(text, name.strip(), rule, values)


def needed(rules: Iterable[NamedRule]) -> frozenset[str]:
    """The columns that the rules read; mean S_img is always told."""
    return frozenset({ATTENTION}).union(*(rule.rule.needs for rule in rules))
