"""HTML that cannot be broken by what it shows: everything is escaped unless it is `Markup`."""

from __future__ import annotations

import html
import re
from typing import Final

# HTML knows neither control characters nor halves of characters.
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID: Final = frozenset({"br", "hr", "img", "link", "meta"})


class Markup(str):
    """Text that is HTML already, and is passed on as it is."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Any value as text of HTML, fit for elements and quoted attributes.

    >>> escape("a < b"), escape(Markup("<b>c</b>"))
    ('a &lt; b', '<b>c</b>')
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNWRITABLE.sub("\ufffd", str(value)), quote=True))


def join(*parts: object, by: str = "") -> Markup:
    """Parts one after the other, each escaped; None is left out."""
    return Markup(by.join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: escaped; None is left out.
        attributes: escaped; `class_` is written class, `aria_label` aria-label; None and False
            are left out, True stands without a value.

    >>> tag("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")
