"""Report pages: safe, self-contained, readable by everybody."""

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.heads import Head
from vg_engine.html import charts
from vg_engine.html.cells import Cell, cell
from vg_engine.html.report_page import ReportPage
from vg_engine.html.thumbnails import Card, Tile

HOSTILE = (
    "\"'><script>alert(1)</script><img src=https://evil.example/x onerror=x()>&amp;{{}} \x00\ud800"
)
SEEN = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
REPORTS = ("ablation", "comparison", "discovery", "evaluation")
NAN = math.nan


class Reader(HTMLParser):
    """Reads a page as strictly as a validator: every element is closed by its own end tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        keys = [key for key, _ in attributes]
        assert len(keys) == len(set(keys)), f"an attribute twice in {name}"
        assert not (name in {"p", "div", "table", "figure"} and "p" in self.open), f"{name} in p"
        self.elements.append((name, dict(attributes)))
        if name not in {"meta", "link", "img", "br"}:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]


def table(*rows: list[object], **more: object) -> dict[str, object]:
    return {"columns": ["x", *["y"] * (len(rows[0]) - 1)], "rows": rows, "align": "lr", **more}


def context(description: str) -> dict[str, Any]:
    """The context of every report, each word of it `description`."""
    dot = Image.fromarray(np.full((9, 12, 3), 99, np.uint8))
    estimate = Estimate(0.5, 0.45, 0.55, 100)
    words = {"title": description, "x_label": description}
    series = [charts.Series(description, [1, 2]), charts.Series(description, [2, 3])]
    marks = [charts.Mark(1.0, 2.0, description)]
    chart = charts.line(
        series, y_label=description, marks=marks, x_ticks=[description] * 2, dots=True, **words
    )
    drawn = [
        charts.elbow(
            [0.1, 0.2, 0.9], index=1, threshold=0.2, title=description, y_label=description
        ),
        charts.scatter([1], [2], [description], highlight=[description], note=description, **words),
        charts.bars([description], [1.0], **words),
        charts.forest(
            [charts.ForestRow(description, estimate, note=description)], title=description
        ),
        charts.heat_map(
            np.ones((2, 2)), title=description, value_label=description, marks=[(0, 1)]
        ),
        charts.stability([[description]], title=description),
    ]
    cards = [
        Card(
            dot,
            description,
            description,
            [description, description],
            hit=False,
            tiles=[Tile(description, dot)],
        )
    ]
    cells = table([Cell(description, description, stacked=True), description], caption=description)
    facts = {description: description, "list": [description], "left out": None}
    faults = [{"id": description, "error": description}] * 2
    reading = {"sigma": 1.0, "kernel": 7, "region": description}
    sheet = {"name": "k", "title": description, "chart": chart, "finding": description}
    # What the templates read of results.
    result = {
        "chosen": {"notes": [description], "thresholds": [1, 2], "samples": [5, 3]},
        "default": {"variant": {"heads": [description]}},
        "fault_count": 3,
        "faults": faults,
        "metrics": ["miou"],
        "rule": {"text": description},
        "resampled": True,
        "resamples": 2000,
        "settings": {"resamples": 2000, "samples": 2000, "readings": [reading]},
        "table": {
            "metrics": ["miou", "pointing"],
            "headline": ["miou"],
            "rows": [description, description],
        },
        **{key: [description] for key in ("notes", "statements", "warnings")},
    }
    return {
        **dict.fromkeys(REPORTS, result),
        **dict.fromkeys(("use", "elbow_words", "missing"), description),
        **dict.fromkeys(
            ("chart", "elbow_chart", "ranking_chart", "stability_chart", "truth_chart"), chart
        ),
        **dict.fromkeys(("control_charts", "fit_charts", "heat_maps"), drawn),
        **dict.fromkeys(("worst", "best", "a_better", "b_better", "cards"), cards),
        **dict.fromkeys(("scores", "all_scores", "differences", "ranking", "correlations"), cells),
        **dict.fromkeys(("boxed", "others"), 2000),
        **dict.fromkeys(("column_descriptions", "provenance"), facts),
        "difference_rows": [[description] * 6],
        "fault_tables": [(description, 3, faults)],
        "groups": [cells],
        "listed": 1,
        "rules": [[description] * 4],
        "numbers": [(description, description, description), (description, estimate, description)],
        "sides": [facts, facts],
        "tables": [sheet | {"scores": cells, "differences": cells}],
    }


def report(template: str, description: str, **changes: object) -> str:
    return ReportPage(
        template,
        description,
        description,
        context(description) | changes,
        description,
        description,
        (description, description, description),
    ).render()


@pytest.mark.parametrize("template", REPORTS)
def test_a_page_is_well_formed_and_says_what_it_was_given(template: str) -> None:
    reader = Reader(report(template, "plain words"))
    assert reader.elements[0] == ("html", {"lang": "en"})
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names)) >= 4
    assert [attributes["href"] for attributes in reader.all("a")] == [f"#{name}" for name in names]
    assert reader.words.count("plain words") > 15
    assert "left out" not in reader.words


@pytest.mark.parametrize("template", REPORTS)
def test_nothing_that_is_shown_becomes_part_of_the_page_or_asks_for_anything(template: str) -> None:
    html = report(template, HOSTILE)
    html.encode("utf-8")
    reader, plain = Reader(html), Reader(report(template, "x"))
    assert "script" not in {name for name, _ in reader.elements}
    # Charts cut long words, or leave them to be seen on hovering; all else stays the same.
    names, expected = (
        [name for name, _ in page.elements if name not in {"line", "text", "title"}]
        for page in (reader, plain)
    )
    assert names == expected
    assert "".join(reader.words).count(SEEN) > 15
    for _, attributes in reader.elements:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url\(|@import", style)
    (policy,) = [a["content"] for a in reader.all("meta") if "http-equiv" in a]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pages_are_the_same_each_time_and_light_or_dark_as_the_reader_has_it() -> None:
    html = report("evaluation", "words")
    assert html == report("evaluation", "words")
    assert "prefers-color-scheme: dark" in html
    used = set(re.findall(r"var\((--\w+)", html))
    for scheme in re.findall(r":root \{(.*?)\}", html, re.DOTALL):
        assert used - {"--c", "--k"} <= set(re.findall(r"(--\w+):", scheme))


def test_few_sections_need_no_contents() -> None:
    few = context("x") | {"a_better": [], "b_better": [], "missing": ""}
    reader = Reader(ReportPage("comparison", "x", "x", few).render())
    assert not reader.all("nav")
    assert "lead" not in {attributes.get("class") for attributes in reader.all("div")}
    assert not reader.all("code")
    assert any("vg-engine" in word for word in reader.words)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Estimate(0.853, 0.826, 0.879, 9), "0.853 [0.826, 0.879]"),
        (Estimate(0.5, NAN, NAN, 1), "0.500"),
        (Estimate(NAN, NAN, NAN, 0), "n/a"),
        (0.12345, "0.123"),
        (np.float32(0.25), "0.250"),
        (0.0, "0.000"),
        (0.0000123, "1.2e-05"),
        (123456.78, "123,456.8"),
        (NAN, "n/a"),
        (None, "n/a"),
        (2026, "2026"),
        (np.int64(57457), "57,457"),
        (Head(14, 24), "L14H24"),
        ((Head(14, 24), Head(3, 1)), "L14H24, L3H1"),
        ("<b>", "<b>"),
        (Cell("+0.1", "[0, 1]", stacked=True), "+0.1[0, 1]"),
    ],
)
def test_values_are_written_for_people(value: object, text: str) -> None:
    html = report("evaluation", "x", scores=table(["name", value]))
    (found,) = re.findall(r'<td>name</td>\s*<td class="r">(.*?)</td>', html)
    assert "".join(Reader(found).words) == text
    assert cell(cell(value)) == cell(value)


def test_rows_stand_out_or_back_and_numbers_stand_to_the_right() -> None:
    rows = table(["a", 1], ["b", 2], ["c", 3], highlight=[1], muted=[0])
    reader = Reader(report("evaluation", "x", scores=rows))
    assert [a.get("class") for a in reader.all("tr")][:4] == [None, "off", "on", None]
    assert [a.get("class") for a in reader.all("th")][:2] == [None, "r"]
    assert [a.get("class") for a in reader.all("td")][:2] == [None, "r"]


@pytest.mark.parametrize(("hit", "word"), [(True, "hit · "), (False, "miss · "), (None, "")])
def test_a_hit_is_told_by_a_word_not_by_colour_alone(hit: bool | None, word: str) -> None:
    dot = Image.fromarray(np.zeros((9, 9, 3), np.uint8))
    html = report("evaluation", "x", worst=[Card(dot, "", "the cup", ("IoU 0.7", "3"), hit)])
    (description,) = re.findall(
        r'<p class="says" dir="auto">the cup</p>\s*(<p.*?</p>)', html, re.DOTALL
    )
    assert "".join(Reader(description).words) == f"{word}IoU 0.7 · 3"


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("comparison", ["A's box", "B's box", "true box"]),
        ("evaluation", ["answer", "true box", "peak of the map"]),
    ],
)
def test_the_key_names_the_lines_that_are_drawn(template: str, names: list[str]) -> None:
    lines = {"answer", "A's box", "B's box", "true box", "peak of the map"}
    assert [word for word in Reader(report(template, "x")).words if word in lines] == names
