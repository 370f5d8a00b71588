"""Reports: one safe file, charts that show what the numbers say, pictures of what was asked."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import Estimate
from vg_engine.core.heads import Head
from vg_engine.report import charts, page, pictures
from vg_engine.report.markup import Markup, escape, tag

HOSTILE = (
    "\"'><script>alert(1)</script><img src=https://evil.example/x onerror=x()>&amp;{{}} \x00\ud800"
)
SEEN = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
VOID = {"meta", "link", "img", "br", "hr"}
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
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag_, attributes in self.elements if tag_ == name]


def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value, value - half, value + half, 100)


def full_page(said: str) -> page.Page:
    """Every part of the kit, each word of it `said`."""
    dot = Image.fromarray(np.full((9, 12, 3), 99, np.uint8))
    img = pictures.img(dot, said)
    row = charts.Row(said, estimate(0.5), note=said)
    drawn = [
        charts.line(
            [charts.Series(said, [1, 2]), charts.Series(said, [2, 3])],
            title=said,
            x_label=said,
            y_label=said,
            marks=[charts.Mark(1, 2, said)],
            segments=[(charts.Mark(0, 1, said), charts.Mark(1, 2))],
            x_ticks=[said, said],
            dots=True,
        ),
        charts.elbow([0.1, 0.2, 0.9], index=1, threshold=0.2, title=said, x_label=said),
        charts.scatter([1], [2], labels=[said], highlight=[said], note=said, title=said),
        charts.spark([1, 2], title=said),
        charts.bars([said], [1.0], title=said, x_label=said),
        charts.dots_with_intervals([row], title=said, x_label=said),
        charts.heat(np.ones((2, 2)), title=said, row_label=said, value_label=said, marks=[(0, 1)]),
        charts.stability([[said]], title=said, x_label=said),
    ]
    card = page.Card(img, said, (said,), "bad", page.details(said, said))
    return page.Page(
        said,
        said,
        (
            page.section(said, said, *(page.figure(each, said) for each in drawn)),
            page.section(said, page.facts({said: said}), page.numbers((said, said, said))),
            page.section(said, page.table([said], [[said]], caption=said), page.note("info", said)),
            page.section("", page.gallery([card]), page.strip([(img, said)]), pictures.key()),
            page.section("漢字", page.columns(page.figure(img))),
        ),
        command=said,
        made=said,
    )


def test_a_page_is_well_formed_and_says_what_it_was_given() -> None:
    reader = Reader(full_page("plain words").render())
    assert reader.elements[0] == ("html", {"lang": "en"})
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names)) == 5
    links = [attributes["href"] for attributes in reader.all("a")]
    assert links == [f"#{name}" for name in names]
    assert reader.words.count("plain words") > 25
    assert len(reader.all("svg")) == 8 + 4


def test_nothing_that_is_shown_becomes_part_of_the_page() -> None:
    html = full_page(HOSTILE).render()
    html.encode("utf-8")
    reader = Reader(html)
    assert "script" not in {name for name, _ in reader.elements}
    assert not [key for _, attributes in reader.elements for key in attributes if key[:2] == "on"]
    assert len(reader.all("img")) == len(Reader(full_page("x").render()).all("img"))
    assert "".join(reader.words).count(SEEN) > 20
    plain = Reader(full_page("words").render())
    assert [name for name, _ in plain.elements] == [
        name for name, attributes in reader.elements if name != "title" or attributes
    ] or len(reader.elements) > len(plain.elements)  # long words add hover titles, nothing else


def test_a_page_asks_nobody_for_anything() -> None:
    html = full_page(HOSTILE).render()
    reader = Reader(html)
    for _, attributes in reader.elements:
        for key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [a["content"] for a in reader.all("meta") if "http-equiv" in a]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pages_are_the_same_each_time_and_light_or_dark_as_the_reader_has_it() -> None:
    html = full_page("words").render()
    assert html == full_page("words").render()
    assert "prefers-color-scheme:dark" in html
    used = set(re.findall(r"var\((--\w+)", html))
    light, dark = re.findall(r":root\{(.*?)\}", html)
    for scheme in (light, dark):
        assert used - {"--c", "--k"} <= set(re.findall(r"(--\w+):", scheme))


def test_few_sections_need_no_contents() -> None:
    short = page.Page("t", "", (page.section("a", "words"), page.section("b")))
    reader = Reader(short.render())
    assert not reader.all("nav")
    assert not reader.all("code")
    assert any("vg-engine" in word for word in reader.words)


@pytest.mark.parametrize(
    ("thing", "text"),
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
        (True, "yes"),
        (np.bool_(0), "no"),
        (Head(14, 24), "L14H24"),
        ((Head(14, 24), Head(3, 1)), "L14H24, L3H1"),
        ({"b", "a"}, "a, b"),
        ("<b>", "<b>"),
        (Markup("<b>x</b>"), "x"),
    ],
)
def test_values_are_written_for_people(thing: object, text: str) -> None:
    assert "".join(Reader(page.value(thing)).words) == text


def test_columns_of_numbers_stand_to_the_right() -> None:
    rows = [["a", estimate(0.5), 3, None, True], ["b", estimate(0.4), 2, 0.5, False]]
    html = page.table(["name", "score", "n", "gap", "flag"], rows, highlight=[1], muted=[0])
    reader = Reader(html)
    assert [a.get("class") for a in reader.all("th")] == [None, "r", "r", "r", None]
    assert [a.get("class") for a in reader.all("td")][:5] == [None, "r", "r", "r", None]
    assert [a.get("class") for a in reader.all("tr")] == [None, "off", "on"]
    centred = Reader(page.table(["a", "b"], [[1, 2]], align="cl"))
    assert [a.get("class") for a in centred.all("td")] == ["c", None]
    assert not Reader(page.table(["a"], [])).all("td")


@pytest.mark.parametrize("wrong", [{"align": "l"}, {"align": "lx"}, {"rows": [[1]]}])
def test_a_table_that_does_not_fit_together_is_refused(wrong: dict) -> None:
    arguments = {"rows": [[1, 2]]} | wrong
    with pytest.raises(InputError, match="columns"):
        page.table(["a", "b"], **arguments)


def test_a_hit_is_told_by_a_word_not_by_colour_alone() -> None:
    for tone, word in (("good", "hit"), ("bad", "miss")):
        reader = Reader(page.gallery([page.Card(Markup(""), "the cup", ("IoU 0.7",), tone)]))
        assert "".join(reader.words) == f"the cup{word} · IoU 0.7"
    assert "hit" not in page.gallery([page.Card(Markup(""), "the cup")])


def test_markup_escapes_once() -> None:
    assert escape(escape("a & b")) == "a &amp; b"
    assert tag("p", "<", Markup("<br>"), None, data_x="\"'", hidden=True, class_=None) == (
        '<p data-x="&quot;&#x27;" hidden>&lt;<br></p>'
    )
