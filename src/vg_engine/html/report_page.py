"""A report as one HTML file that needs nothing else: it runs no script and asks no network."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vg_engine._version import __version__
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html import cells, thumbnails
from vg_engine.render import CASING, DISCS

_HERE: Final = Path(__file__).parent
# HTML knows neither control characters nor halves of characters.
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class ReportPage:
    """A whole report.

    Attributes:
        template: a file in `templates`, without its endings.
        title, subtitle: above everything.
        context: the values that the template shows; all text is escaped there.
        command: the command that made this report, for the foot.
        made: the date, as text; no clock is read here.
        verdict: the answer to the reader's first question, then what it rests on; empty if unknown.
    """

    template: str
    title: str
    subtitle: str
    context: Mapping[str, object]
    command: str = ""
    made: str = ""
    verdict: tuple[str, ...] = ()

    def render(self) -> str:
        """The text of the file."""
        html = (
            _environment()
            .get_template(f"{self.template}.html.jinja")
            .render(
                self.context,
                title=self.title,
                subtitle=self.subtitle,
                verdict=self.verdict,
                command=self.command,
                made=self.made,
                section_titles=[],
            )
        )
        return _UNWRITABLE.sub("\ufffd", html)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_HERE / "templates", _HERE]),  # the style sheet is included
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {
        "anchor": _anchor,
        "cell": cells.cell,
        "commas": "{:,}".format,
        "data_uri": thumbnails.data_uri,
        "hex_colour": _hex_colour,
    }
    environment.globals |= {
        "metric": metric,
        "version": __version__,
        "box_lines": thumbnails.LINES,
        "casing": CASING,
        "peak_discs": DISCS,
    }
    return environment


def _anchor(title: str) -> str:
    """The id of a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _hex_colour(colour: tuple[int, int, int]) -> str:
    return f"#{bytes(colour).hex()}"
