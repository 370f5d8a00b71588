"""Tables on narrow terminals; those of the studies stand in the studies' own tests."""

from functools import partial

import commands
import pytest

from vg_engine.cli import tables

LONG = "mean of 3 draws, seed 0; Acc@0.5 from 0.525 to 0.550"


@pytest.mark.parametrize(
    "words",
    [
        ("heads",),
        ("heads", "show", "embedded-paper"),
        ("heads", "compare", "embedded", "embedded-paper", "L4H4,L3H1"),
        ("adapters",),
    ],
)
def test_lists_stand_whole_at_any_width(words, monkeypatch):
    commands.whole_at_any_width(monkeypatch, partial(commands.call, *words))


def laid_out(width, rows, titles=("", "A", "B"), **more):
    return [line.plain.rstrip() for line in tables.lines(titles, rows, width, **more)]


def test_columns_then_intervals_below_then_value_by_value():
    rows = [
        tables.Row("random: 16 heads", ["0.975 [0.925, 1.000]", "n/a"], LONG),
        tables.Row("best", ["0.9 [0.8, 1.0]", "0.100"]),
    ]
    assert laid_out(999, rows) == [
        "                                     A      B",
        f"random: 16 heads  0.975 [0.925, 1.000]    n/a  {LONG}",
        "best                    0.9 [0.8, 1.0]  0.100",
    ]
    told = ["  mean of 3 draws, seed 0; Acc@0.5 from 0.525", "  to 0.550"]
    assert laid_out(45, rows)[1:] == [
        "random: 16 heads  0.975 [0.925, 1.000]    n/a",
        *told,
        "best                    0.9 [0.8, 1.0]  0.100",
    ]
    assert laid_out(44, rows[1:] + rows[:1])[:4] == [
        "             A      B",
        "best",
        "           0.9  0.100",
        "    [0.8, 1.0]",
    ]
    assert laid_out(20, rows[1:], ("k", "A", "Acc@0.5 - default")) == [
        "k: best",
        "  A",
        "    0.9 [0.8, 1.0]",
        "  Acc@0.5 - default",
        "    0.100",
    ]


def test_a_table_of_words_lists_them_below_each_name():
    rows = [tables.Row("same", ["vg-one"], "zebra, zebra_with_stripes")]
    titles = ("name", "from", "types")
    assert laid_out(25, rows, titles, numbers=False) == [
        "name  from    types",
        "same  vg-one",
        "  zebra,",
        "  zebra_with_stripes",
    ]
    assert laid_out(11, rows, titles, numbers=False)[:3] == ["name: same", "  from", "    vg-one"]
