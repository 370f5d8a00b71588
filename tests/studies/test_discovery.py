"""`vg-engine discover`, on an adapter whose head L2H1 points at the cell that a sentence names."""

import re
from functools import partial
from pathlib import Path

import commands
import pytest

from vg_engine.registry.schema import read_head_set

RULES = (
    *("paper", "paper+sensitivity", "sensitivity", "consensus"),
    *("contrastive", "supervised", "attention_only", "entropy_only"),
)
pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def data(shell):
    """Ten pictures with two sentences each."""
    shell.pictures(range(10))
    shell.write([shell.line(n, r, c) for n in range(10) for r, c in ((n % 6, 2), (5 - n % 6, 4))])


@pytest.mark.parametrize("rule", RULES)
def test_every_mode_finds_the_head_that_points(shell, rule) -> None:
    neutral = ("--neutral", "0,0") if rule == "contrastive" else ()
    # L2H1 gives .935 of its attention to the picture, the flat ones .857, each in one piece.
    done = shell.discover("--rule", rule, "--k", "1", "--draws", "3", *neutral)
    assert done.stdout.startswith("L2H1  "), done.stdout


def test_what_comes_out_states_where_it_comes_from(shell, monkeypatch) -> None:
    words = ("--samples", "8", "--draws", "3", "--seed", "7", "--name", "cells-best")
    commands.whole_at_any_width(monkeypatch, partial(shell.discover, *words))
    found = read_head_set(Path("found/cells-best.yaml"))
    stated = found.provenance
    assert (str(found.heads[0]), found.frequency[0]) == ("L2H1", 1.0)
    assert (found.rule, found.layers, found.heads_per_layer) == ("paper", 4, 2)
    numbers = {"samples": 8, "draws": 3, "seed": 7, "per_sample": 10}
    assert {name: stated[name] for name in numbers} == numbers
    assert stated["data"] == "jsonl:data.jsonl"
    prompt = {"form": "bare", "template": "{expression}", "query_row": "expression_last"}
    assert stated["prompt"] == prompt
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(stated["date"]))
    tables = shell.discovery()
    assert tables["samples"]["per_draw"] == [8, 8, 8]
    assert tables["samples"]["in_data"] == 20
    assert len(tables["rules"]["paper"]["thresholds"]) == 3
    assert len(tables["rules"]["paper"]["criterion"]) == len(tables["heads"]) == 8
    assert tables["faults"] == {"count": 0, "first": []}
    assert tables["means"]["hit"][tables["heads"].index("L2H1")] == 1.0
    html = Path("found/report.html").read_text()
    assert "Localization heads of cells" in html
    assert "Spearman" in html
    assert not re.search(r"(?:src|href)=[\"']?https?:|url\(\s*[\"']?https?:", html)


def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(shell, tmp_path) -> None:
    options = ("--batch-size", "3", "--rule", "paper", "--rule", "consensus")
    shell.discover(*options)
    out = tmp_path / "found"
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    journal = whole["observations.jsonl"]
    ends = [match.end() for match in re.finditer(rb"\n", journal)]
    for cut in [0, 5, ends[0], ends[0] + 30, ends[2] - 40, ends[3], ends[-2] + 1]:
        for path in out.iterdir():
            path.unlink()
        (out / "observations.jsonl").write_bytes(journal[:cut])
        shell.discover(*options)
        again = {path.name: path.read_bytes() for path in out.iterdir()}
        assert again == whole, f"cut after {cut} bytes"


def test_another_mode_over_the_same_journal_looks_at_nothing_anew(shell) -> None:
    shell.discover("--rule", "paper")
    before = Path("found/observations.jsonl").read_bytes()
    shell.discover("--rule", "supervised", "--k", "2")
    assert Path("found/observations.jsonl").read_bytes() == before
    for change, words in {
        ("--rule", "sensitivity"): ("columns", "--out"),
        ("--seed", "1"): ("seed",),
        ("--prompt", "chat"): ("prompt form",),
        ("--cut", "2"): ("criteria cut",),
    }.items():
        done = shell.discover(*change, code=2)
        assert all(word in done.stderr for word in words), done.stderr
    everything = [word for rule in RULES for word in ("--rule", rule)]
    shell.discover("--out", "all", "--neutral", "0,0", *everything)
    before = Path("all/observations.jsonl").read_bytes()
    shell.discover("--out", "all", "--neutral", "0,0", "--rule", "sensitivity")
    assert Path("all/observations.jsonl").read_bytes() == before


def test_mistakes_are_one_line_that_says_what_to_do(shell) -> None:
    for arguments, words in {
        ("--rule", "papr"): "did you mean paper",
        ("--rule", "paper:per_smaple=3"): "per_sample",
        ("--rule", "paper:per_sample=0"): "at least 1",
        ("--data", "jsnl:data.jsonl"): "did you mean jsonl",
        ("--data", "data.jsonl"): "jsonl:data.jsonl",
        ("--data", "jsonl:none.jsonl"): "none.jsonl",
        ("--weighting", "weight"): "area or mass",
        ("--connectivity", "6"): "4 or 8",
        ("--name", "Not A Name"): "lower-case",
        ("--out", "data.jsonl/x"): "cannot be written",
    }.items():
        done = shell.discover(*arguments, code=2)
        assert words in done.stderr, done.stderr
    assert "--data" in shell("discover", *shell.cell, code=2).stderr


def test_labels_are_asked_for_only_by_modes_that_need_them(shell) -> None:
    lines = [shell.line(n, n % 6, 2) for n in range(10)]
    for line in lines:
        del line["box"]
    shell.write(lines)
    assert "label-free" in shell.discover("--rule", "supervised", code=2).stderr
    shell.discover("--rule", "paper")
    done = shell.discover("--rule", "sensitivity", "--out", "pairs", code=2)
    assert "two expressions" in done.stderr


THEIRS = """
from vg_engine.core.evaluation.samples import DataSet, Sample

def cells(path, *, n=4):
    grey = np.zeros((60, 60, 3), np.uint8)
    make = lambda: (Sample(str(i), str(i), grey, f"{i},{i}") for i in range(n))
    return DataSet("cells", make, revision=f"{n}")
"""


def test_a_stranger_brings_a_mode_and_a_data_set(shell, bring) -> None:
    points = ("[vg_engine.rules]", "deepest = vg_theirs:Deepest")
    bring(THEIRS, *points, "[vg_engine.datasets]", "made = vg_theirs:cells")
    shell.discover("--data", "made?n=5", "--rule", "deepest", "--out", "theirs")
    found = read_head_set(Path("theirs/cells-deepest.yaml"))
    assert list(map(str, found.heads)) == ["L3H1", "L3H0", "L2H1"]
    assert found.provenance["n"] == 5
