"""A report as one HTML file. What comes in is escaped, unless it is `Markup`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vg_engine.report.markup import Markup


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
        raise NotImplementedError


def section(title: str, *parts: str) -> Section:
    """A section. A part that is plain text becomes a paragraph."""
    return Section(title, parts)


def value(thing: object) -> Markup:
    """Any value as it is written on a page.

    Estimates as `0.853 [0.826, 0.879]`, floats with three decimals, NaN and None as `n/a`,
    lists with commas, everything else as its text.
    """
    raise NotImplementedError


def facts(pairs: Mapping[str, object]) -> Markup:
    """Names and values, for provenance."""
    raise NotImplementedError


def numbers(*figures: tuple[str, object, str]) -> Markup:
    """The few numbers that matter, large: (name, value, a few words)."""
    raise NotImplementedError


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
    raise NotImplementedError


def figure(content: Markup, caption: str = "") -> Markup:
    """A chart or a picture with its caption."""
    raise NotImplementedError


def columns(*parts: Markup) -> Markup:
    """Parts side by side where there is room, else one below the other."""
    raise NotImplementedError


def gallery(cards: Sequence[Card]) -> Markup:
    """Cards side by side."""
    raise NotImplementedError


def strip(tiles: Sequence[tuple[Markup, str]]) -> Markup:
    """Small pictures with their captions in a row, for head maps."""
    raise NotImplementedError


def note(kind: Literal["info", "warning", "error"], text: str) -> Markup:
    """A remark that must not be overlooked."""
    raise NotImplementedError


def details(summary: str, *parts: str, opened: bool = False) -> Markup:
    """Something folded away."""
    raise NotImplementedError
