"""Charts show what the numbers say, and every word of them can be read."""

import math
import re
from dataclasses import replace
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import ImageFont

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.html import charts
from vg_engine.html.charts.colours import colour_at
from vg_engine.html.charts.scales import tick_texts, ticks
from vg_engine.html.discovery import elbow_words

NAN = math.nan


def drawn(svg: str) -> ET.Element:
    """A chart as XML; everything in it lies inside, and no two words touch."""
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    inside = {"x": width, "x1": width, "x2": width, "cx": width, "y": height, "cy": height}
    for element in root.iter():
        for key in inside.keys() & element.attrib:
            assert -1 <= float(element.attrib[key]) <= inside[key] + 1, element.attrib
        for number in re.findall(r"[^ MLZ]+", element.get("d", "")):
            assert -1 <= float(number) <= max(width, height) + 1
    boxes = [box(each) for each in root.iter("text")]
    for left, top, right, bottom, description in boxes:
        assert -1 <= left <= right <= width + 1, description
        assert 0 <= top <= bottom <= height, description
    for a, b in combinations(boxes, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{a[4]!r} touches {b[4]!r}"
    return root


def box(text: ET.Element) -> tuple[float, float, float, float, str]:
    """The place of a word, by the widths of a font that the charts know nothing of."""
    size = 14 if text.get("class") == "title" else 12
    description = text.text or ""
    wide = ImageFont.load_default(size).getlength(description)
    before = {"middle": 0.5, "end": 1.0}.get(text.get("text-anchor", ""), 0.0)
    start, base = float(text.get("x", "0")) - wide * before, float(text.get("y", "0"))
    return start, base - size * 0.72, start + wide, base + 2, description


def description(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def of_class(root: ET.Element, name: str, wanted: str) -> list[ET.Element]:
    """Elements of a name that have all wanted classes."""
    return [e for e in root.iter(name) if set(wanted.split()) <= set(e.get("class", "").split())]


def numbers(element: ET.Element, *keys: str) -> list[float]:
    return [float(element.get(key, "")) for key in keys]


def points(path: ET.Element) -> list[tuple[float, float]]:
    pairs = [pair.split() for pair in path.get("d", "").strip("MZ").split("L")]
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize(
    "svg",
    [
        charts.line([charts.Series("", [])], title="t"),
        charts.line([], title="t"),
        charts.line([charts.Series("", [NAN])], title="t", marks=[charts.Mark(1.0, 1.0, "m")]),
        charts.elbow([NAN], index=0, threshold=0, title="t", y_label="y"),
        charts.scatter([1, NAN], [NAN, 2], ["a", "b"], title="t"),
        charts.bars([], [], title="t"),
        charts.bars(["a"], [NAN], title="t"),
        charts.forest([], title="t"),
        charts.forest([charts.ForestRow("a", Estimate(NAN, NAN, NAN, 0))], title="t"),
        charts.heat_map(np.full((2, 3), NAN), title="t"),
        charts.heat_map(np.zeros((0, 3)), title="t"),
        charts.stability([], title="t"),
        charts.stability([[]], title="t"),
    ],
)
def test_no_data_is_said(svg: str) -> None:
    assert description(drawn(svg)) == ["t", "no data"]


@pytest.mark.parametrize("seed", range(8))
def test_all_charts_hold_any_numbers_and_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-7, 9)
    count = int(rng.integers(1, 40))

    def words(n: int) -> list[str]:
        alphabet = list("abcdefgHILMW 0123456789.-漢")
        return ["".join(rng.choice(alphabet, rng.integers(1, 45))).strip() or "x" for _ in range(n)]

    def holed(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(values.shape) < 0.1, rng.choice([NAN, math.inf]), values)

    values = [holed(rng.normal(0, scale, count)) for _ in range(3)]
    (title, x_label, y_label), names = words(3), [f"{w}{i}" for i, w in enumerate(words(count))]
    wide = {"width": int(rng.integers(320, 900))}
    both = {"title": title, "x_label": x_label, "y_label": y_label}
    ends = [charts.Mark(*map(float, rng.normal(0, scale, 2)), w) for w in words(3)]
    named = zip(words(3), values, strict=True)
    series = [charts.Series(name, v, low=v - scale, high=v) for name, v in named]
    drawn(charts.line(series, marks=ends, dots=True, **wide, **both))
    drawn(charts.line(series, key=True, **wide, **both))
    drawn(charts.line(series[:1], x_ticks=names, from_zero=True, **wide, **both))
    positive = np.abs(values[0])
    errors = [scale] * count
    drawn(charts.bars(names, positive, errors=errors, highlight=names[:2], title=title, **wide))
    drawn(charts.scatter(*values[:2], names, highlight=names[:6], note="rho = 1", **both))
    estimates = [Estimate(v, v - scale, v + scale, 3) for v in values[0]]
    rows = list(map(charts.ForestRow, names, estimates))
    drawn(charts.forest(rows, reference=scale, title=title, width=800))
    grid = holed(rng.normal(0, scale, tuple(rng.integers(1, 50, 2))))
    drawn(charts.heat_map(grid, marks=[(0, 0), (99, 99)], value_label=x_label, title=title))
    draws = [list(map(str, rng.permutation(names)[:5])) for _ in range(int(rng.integers(1, 30)))]
    drawn(charts.stability(draws, title=title))
    finite = positive[np.isfinite(positive)]
    if len(finite):
        cut = int(rng.integers(0, len(finite)))
        tau = np.sort(finite)[cut]
        drawn(charts.elbow(positive, index=cut, threshold=tau, title=title, y_label=y_label))


def test_ticks_are_round_few_and_inside() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        low = float(rng.normal() * 10.0 ** rng.integers(-6, 7))
        high = low + float(10.0 ** rng.uniform(-4, 6))
        most = int(rng.integers(2, 9))
        marks = ticks(low, high, most)
        assert len(marks) <= most + 1
        slack = (high - low) * 1e-6
        assert all(low - slack <= mark <= high + slack for mark in marks)
        steps = np.diff(marks)
        if len(steps):
            assert f"{steps[0]:.3e}".split("e")[0] in {"1.000", "2.000", "5.000"}
            assert max(steps) - min(steps) < 1e-3 * steps[0]
            assert len(set(tick_texts(marks))) == len(marks)
    assert ticks(0.2, 3.4, 9, whole=True) == [1.0, 2.0, 3.0]


def test_the_elbow_is_drawn_where_it_is() -> None:
    values = [0.9, 0.01, 0.05, 0.02, 0.03, 0.6, 0.04, 0.5, 0.05]
    root = drawn(charts.elbow(values, index=5, threshold=0.05, title="t", y_label="S_img"))
    curve = points(of_class(root, "path", "s c0")[0])
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)
    heights = np.array([y for _, y in curve])
    shares = (heights - heights[0]) / (heights[-1] - heights[0])
    assert shares == pytest.approx((np.sort(values) - 0.01) / 0.89, abs=1e-3)
    (dot,) = of_class(root, "circle", "c0")
    assert numbers(dot, "cx", "cy") == pytest.approx(curve[5], abs=0.02)
    lines = [numbers(line, "x1", "y1", "x2", "y2") for line in root.iter("line")]
    assert [*curve[0], *curve[-1]] in lines, "the chord"
    assert {"elbow: τ = 0.05", "chord"} <= set(description(root))
    assert any(text.startswith("5 of 9 heads reach τ") for text in description(root))
    flat = drawn(charts.elbow([1, 1, 1], index=0, threshold=1, title="flat", y_label="y"))
    assert "no elbow: all heads are kept" in description(flat)


def test_an_elbow_is_explained_by_its_curve() -> None:
    def said(*values: float) -> str:
        return elbow_words(np.array(values))

    assert "furthest below the chord; the heads" in said(0.9, 0.0, 0.1, 0.1, 0.2, 0.8)
    assert "no elbow" in said(0.1, 0.2, 0.3)
    high = said(0.0, 0.01, 0.5, 0.7, 0.8, 0.85, 0.9, 0.9, 0.95, 1.0)
    assert "above its chord" in high
    assert "cuts off 1 of 10 heads: here this criterion hardly narrows" in high


def test_bars_are_as_long_as_their_values() -> None:
    more = {"errors": [0.5, NAN, 1], "highlight": ["b"], "limit": 4}
    root = drawn(charts.bars(["a", "b", "c"], [2, np.float32(1), NAN], title="t", **more))
    first, second = of_class(root, "rect", "f")
    (start, wide), (_, half) = numbers(first, "x", "width"), numbers(second, "x", "width")
    assert wide == pytest.approx(2 * half, abs=0.1)
    assert [first.get("class"), second.get("class")] == ["f cm", "f c0"]
    whisker, *_ = of_class(root, "line", "s thin cq")
    assert sum(numbers(whisker, "x1", "x2")) / 2 == pytest.approx(start + wide, abs=0.1)
    assert {"2.00", "1.00", "n/a"} <= set(description(root))
    assert [word for word in description(root) if word in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("draw", "arguments", "more"),
    [
        (charts.bars, [["a"], [1, 2]], {}),
        (charts.bars, [["a"], [-1]], {}),
        (charts.bars, [["a"], [1]], {"errors": [1, 2]}),
        (charts.scatter, [[1], [1, 2], ["a"]], {}),
        (charts.scatter, [[1], [1], ["a", "b"]], {}),
        (charts.line, [[charts.Series("s", [1, 2], x=[1])]], {}),
        (charts.line, [[charts.Series("s", [1, 2], low=[1], high=[2, 3])]], {}),
    ],
)
def test_numbers_that_do_not_belong_together(draw: Any, arguments: Any, more: Any) -> None:
    with pytest.raises(InputError, match=r"equally long|begin at 0"):
        draw(*arguments, title="t", **more)


def test_a_line_breaks_where_nothing_was_measured() -> None:
    series = charts.Series("s", [1, 2, NAN, 3, NAN, 4, 5], low=[0] * 7, high=[6] * 7)
    root = drawn(charts.line([series], title="t"))
    assert [len(points(path)) for path in of_class(root, "path", "s")] == [2, 2]
    assert len(list(root.iter("circle"))) == 1, "a lone value is a dot"
    (band,) = of_class(root, "path", "band")
    assert len(points(band)) == 14
    controlled = [charts.Series("ours", [2, 3]), charts.Series("random", [1, 1], muted=True)]
    both = drawn(charts.line(controlled, title="t"))
    assert {"ours", "random"} <= set(description(both))
    assert len(of_class(both, "path", "cm dash")) == 1
    controlled.append(charts.Series("centre", [0, 1], muted=True))
    met = drawn(charts.line(controlled, title="t", key=True, y_label="share"))
    assert {"ours", "random", "centre"} <= set(description(met))
    for look in ("c0", "cm dash", "cm dotted"):  # as the line, so its name's sample
        assert (len(of_class(met, "path", look)), len(of_class(met, "line", look))) == (1, 1)


def test_the_scatter_shows_each_pair_and_names_the_chosen() -> None:
    note = "Spearman's ρ = 0.50"
    x, y = [0.1, 0.5, NAN, 0.9], [1, 3, 4, 2]
    root = drawn(charts.scatter(x, y, list("abcd"), highlight=["b"], note=note, title="t"))
    places = {str(d.findtext("title"))[0]: numbers(d, "cx", "cy") for d in root.iter("circle")}
    assert set(places) == {"a", "b", "d"}
    share = (places["b"][0] - places["a"][0]) / (places["d"][0] - places["a"][0])
    assert share == pytest.approx(0.5, abs=1e-2)
    assert places["b"][1] < places["d"][1] < places["a"][1]
    assert {"b", note} <= set(description(root))
    assert "a" not in description(root)


def test_intervals_lie_on_their_axis() -> None:
    rows = [
        charts.ForestRow("ours", Estimate(0.8, 0.7, 0.9, 5), highlight=True),
        charts.ForestRow("random", Estimate(0.2, 0.1, 0.4, 5), control=True),
        charts.ForestRow("one picture", Estimate(0.5, NAN, NAN, 1)),
    ]
    root = drawn(charts.forest(rows, title="t", low=0, high=1, reference=0.5))
    middle = [e for e in root.iter("text") if e.get("text-anchor") == "middle"]
    where = {e.text: float(e.get("x", "")) for e in middle}

    def places(*values: float) -> Any:
        axis = [where["0.0"] + value * (where["1.0"] - where["0.0"]) for value in values]
        return pytest.approx(axis, abs=0.1)

    assert [numbers(dot, "cx")[0] for dot in root.iter("circle")] == places(0.8, 0.2, 0.5)
    spans = [numbers(span, "x1", "x2") for span in of_class(root, "line", "s")]
    assert spans == [places(0.5, 0.5), places(0.7, 0.9), places(0.1, 0.4)]
    assert {"0.800 [0.700, 0.900]", "0.500"} <= set(description(root))
    signed = drawn(charts.forest([replace(rows[0], text="+0.8")], title="t"))
    assert "+0.8" in description(signed)
    far = [charts.ForestRow("x", Estimate(3.0, 2.9, 3.1, 9))]
    assert "3.0" in description(drawn(charts.forest(far, title="t", low=0, high=1))), (
        "the axis grows"
    )


def test_the_heat_map_has_a_cell_per_head() -> None:
    matrix = np.array([[0.0, 1.0, NAN], [0.25, 0.5, 0.75]])
    root = drawn(charts.heat_map(matrix, title="t", marks=[(1, 2), (7, 7), (-1, 0)]))
    cells = {c.findtext("title"): c for c in root.iter("rect") if c.find("title") is not None}
    assert set(cells) == {"L0H0: 0", "L0H1: 1", "L1H0: 0.25", "L1H1: 0.5", "L1H2: 0.75"}
    empty = [g.findtext("title") for g in root.iter("g") if g.find("title") is not None]
    assert empty == ["L0H2: no data"]
    assert cells["L0H0: 0"].get("fill") == "#440154"
    assert cells["L0H1: 1"].get("fill") == "#fde725"
    (outline,) = of_class(root, "rect", "outline")
    assert [outline.get(k) for k in "xy"] == [cells["L1H2: 0.75"].get(k) for k in "xy"]
    assert "L1H2" in description(root)


def test_colours_grow_lighter_with_the_value() -> None:
    colours = [colour_at(i / 200) for i in range(201)]
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    assert (np.diff(rgb**2.2 @ [0.2126, 0.7152, 0.0722]) > 0).all()
    assert colour_at(-3.0) == colour_at(0.0)
    assert colour_at(9.0) == colour_at(1.0)


def test_stability_counts_the_draws_of_each_name() -> None:
    draws = ["ab", "bc", "ba"]
    root = drawn(charts.stability(list(map(list, draws)), title="t"))
    assert [word for word in description(root) if word in "abc"] == ["b", "a", "c"]
    assert [word for word in description(root) if " of " in word] == ["3 of 3", "2 of 3", "1 of 3"]
    tips = [str(dot.findtext("title")) for dot in root.iter("circle")]
    assert sorted(tips) == sorted(
        f"{draw[i]}: rank {i + 1} in draw {n}" for n, draw in enumerate(draws, 1) for i in (0, 1)
    )
    assert len(of_class(root, "circle", "c0")) == 3, "only b is in all of them"
