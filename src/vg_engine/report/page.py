"""A report as one HTML file. What comes in is escaped, unless it is `Markup`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal

from vg_engine._version import __version__
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import Estimate
from vg_engine.report.markup import Markup, join, tag
from vg_engine.report.style import PAGE
from vg_engine.report.values import value

# Nothing is fetched and nothing runs, whatever the data holds.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LONG = 12  # characters
_SEVERAL = 3  # sections from which a table of contents helps


@dataclass(frozen=True)
class Section:
    """A part of a page, named in its table of contents; made by `section`."""

    title: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A picture in a gallery.

    Attributes:
        picture: from `pictures.img`.
        sentence: what was asked.
        facts: short ones, one line.
        tone: colours its edge.
        more: shown below, folded away (head maps, for one).
    """

    picture: Markup
    sentence: str
    facts: Sequence[object] = ()
    tone: Literal["", "good", "bad"] = ""
    more: Markup | None = None


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title, subtitle: above everything.
        sections: in order; made by `section`.
        command: what made this report, for the foot.
        made: when, as text; nothing looks at a clock here.
    """

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()
    command: str = ""
    made: str = ""

    def render(self) -> str:
        """The file's text: HTML that needs no other file."""
        anchors = list(_anchors([part.title for part in self.sections]))
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name="generator", content=f"vg-engine {__version__}"),
            tag("link", rel="icon", href="data:,"),
            tag("title", self.title),
            tag("style", Markup(PAGE)),
        )
        body = tag(
            "body",
            tag(
                "header",
                tag("h1", self.title),
                tag("p", self.subtitle, class_="subtitle") if self.subtitle else None,
            ),
            self._contents(anchors),
            tag("main", *map(_section, self.sections, anchors)),
            self._foot(),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"

    def _contents(self, anchors: Sequence[str]) -> Markup | None:
        if len(anchors) < _SEVERAL:
            return None
        entries = [
            tag("li", tag("a", part.title, href=f"#{anchor}"))
            for part, anchor in zip(self.sections, anchors, strict=True)
        ]
        return tag("nav", tag("ol", *entries), aria_label="Contents")

    def _foot(self) -> Markup:
        made = f"vg-engine {__version__}" + (f", {self.made}" if self.made else "")
        command = tag("p", tag("code", self.command)) if self.command else None
        return tag("footer", tag("p", "Made by ", made), command)


def section(title: str, *parts: str) -> Section:
    """A section. A part that is plain text becomes a paragraph."""
    return Section(title, parts)


def _section(part: Section, anchor: str) -> Markup:
    return tag("section", tag("h2", part.title), *map(_block, part.parts), id=anchor)


def _block(part: str) -> Markup:
    return part if isinstance(part, Markup) else tag("p", part)


def _anchors(titles: Sequence[str]) -> Iterator[str]:
    used: set[str] = set()
    for title in titles:
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        anchor, count = stem, 1
        while anchor in used:
            count += 1
            anchor = f"{stem}-{count}"
        used.add(anchor)
        yield anchor


def facts(pairs: Mapping[str, object]) -> Markup:
    """Names and values, for provenance."""
    lines = [join(tag("dt", name), tag("dd", value(thing))) for name, thing in pairs.items()]
    return tag("dl", *lines, class_="facts")


def numbers(*figures: tuple[str, object, str]) -> Markup:
    """The few numbers that matter, large: (name, value, a few words)."""
    return tag("div", *(_number(*each) for each in figures), class_="numbers")


def _number(name: str, thing: object, said: str) -> Markup:
    shown = value(thing)
    # Words would be too loud at the size of a number.
    long = not isinstance(thing, Estimate) and len(shown) > _LONG
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag("div", shown, class_="big long" if long else "big"),
        tag("div", said, class_="words") if said else None,
    )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    align: str | None = None,
    highlight: Collection[int] = (),
    muted: Collection[int] = (),
    caption: str = "",
) -> Markup:
    """A table that scrolls on its own where the page is narrow.

    Args:
        columns: heads of the columns.
        rows: cells, written by `value`.
        align: a letter per column, `l`, `r` or `c`; None puts columns of numbers to the right.
        highlight, muted: indices of rows that stand out, or stand back (controls).
        caption: above it.

    Raises:
        InputError: a row or `align` of another length than `columns`.
    """
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise InputError(f"row {i} has {len(row)} cells, the table has {len(columns)} columns")
    sides = align if align is not None else _sides(len(columns), rows)
    if len(sides) != len(columns) or not set(sides) <= set("lrc"):
        raise InputError(f"align {sides!r}: a letter l, r or c for each of {len(columns)} columns")
    classes = [None if side == "l" else side for side in sides]
    heads = [
        tag("th", name, scope="col", class_=c) for name, c in zip(columns, classes, strict=True)
    ]
    lines = [
        tag(
            "tr",
            *(tag("td", value(cell), class_=c) for cell, c in zip(row, classes, strict=True)),
            class_="on" if i in highlight else "off" if i in muted else None,
        )
        for i, row in enumerate(rows)
    ]
    whole = tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", *heads)),
        tag("tbody", *lines),
    )
    return tag(
        "div", whole, class_="scroll", role="region", tabindex="0", aria_label=caption or "table"
    )


def _sides(count: int, rows: Sequence[Sequence[object]]) -> str:
    """To the right where a column holds numbers and gaps only."""
    sides = ""
    for column in range(count):
        cells = [row[column] for row in rows if row[column] is not None]
        counted = all(
            isinstance(cell, Real | Estimate) and not isinstance(cell, bool) for cell in cells
        )
        sides += "r" if cells and counted else "l"
    return sides


def figure(content: Markup, caption: str = "") -> Markup:
    """A chart or a picture with its caption."""
    below = tag("figcaption", caption) if caption else None
    return tag("figure", tag("div", content, class_="scroll"), below)


def columns(*parts: Markup) -> Markup:
    """Parts side by side where there is room, else one below the other."""
    return tag("div", *parts, class_="columns")


def gallery(cards: Sequence[Card]) -> Markup:
    """Cards side by side."""
    return tag("div", *map(_card, cards), class_="gallery")


def _card(card: Card) -> Markup:
    small = join(*map(value, card.facts), by=" · ")
    said = {"good": "hit", "bad": "miss"}.get(card.tone)
    return tag(
        "article",
        card.picture,
        tag("p", card.sentence, class_="says", dir="auto"),
        tag(
            "p",
            tag("span", said, class_="verdict") if said else None,
            " · " if said and card.facts else None,
            small,
            class_="small",
        ),
        card.more,
        class_=f"card {card.tone}".strip(),
    )


def strip(tiles: Sequence[tuple[Markup, str]]) -> Markup:
    """Small pictures with their captions in a row, for head maps."""
    return tag(
        "div",
        *(tag("figure", picture, tag("figcaption", caption)) for picture, caption in tiles),
        class_="strip",
    )


def note(kind: Literal["info", "warning", "error"], text: str) -> Markup:
    """A remark that must not be overlooked."""
    spoken = {"info": "Note", "warning": "Warning", "error": "Error"}[kind]
    return tag("div", tag("b", spoken), text, class_=f"note {kind}", role="note")


def details(summary: str, *parts: str, opened: bool = False) -> Markup:
    """Something folded away."""
    return tag("details", tag("summary", summary), *map(_block, parts), open=opened)
