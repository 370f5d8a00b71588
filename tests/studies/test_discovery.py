"""`vg-engine discover`, on an adapter whose head L2H1 points at the cell that a sentence names."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vg_engine.registry.schema import read_head_set

CELL = ("--adapter", "cell", "--model", "cells", "--data", "jsonl:data.jsonl", "--out", "found")
SIDE, GRID = 60, 6
MODES = (
    "paper",
    "paper+sensitivity",
    "sensitivity",
    "consensus",
    "contrastive",
    "supervised",
    "attention_only",
    "entropy_only",
)


@pytest.fixture
def data(shell: Any) -> None:
    """Ten pictures with two sentences each."""
    shell.pictures(range(10))
    shell.write([shell.line(n, r, c) for n in range(10) for r, c in ((n % 6, 2), (5 - n % 6, 4))])


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_the_head_that_points(shell: Any, mode: str) -> None:
    neutral = ("--neutral", "0,0") if mode == "contrastive" else ()
    # L2H1 gives .935 of its attention to the picture, the flat ones .857, each in one piece.
    done = shell.discover(*CELL, "--mode", mode, "--k", "1", "--draws", "3", *neutral)
    assert done.stdout.startswith("L2H1  "), done.stdout


@pytest.mark.usefixtures("data")
def test_what_comes_out_states_where_it_comes_from(shell: Any) -> None:
    shell.discover(*CELL, "--samples", "8", "--draws", "3", "--seed", "7", "--name", "cells-best")
    found = read_head_set(Path("found/cells-best.yaml"))
    stated = found.provenance
    assert str(found.heads[0]) == "L2H1"
    assert found.frequency[0] == 1.0
    assert (found.mode, found.layers, found.heads_per_layer) == ("paper", 4, 2)
    assert (stated["samples"], stated["draws"], stated["seed"], stated["per_sample"]) == (
        8,
        3,
        7,
        10,
    )
    assert stated["data"] == "jsonl:data.jsonl"
    assert stated["prompt"] == {
        "form": "bare",
        "template": "{expression}",
        "query_row": "expression_last",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(stated["date"]))
    tables = json.loads(Path("found/discovery.json").read_text())
    assert tables["samples"]["per_draw"] == [8, 8, 8]
    assert tables["samples"]["in_data"] == 20
    assert len(tables["modes"]["paper"]["thresholds"]) == 3
    assert len(tables["modes"]["paper"]["criterion"]) == len(tables["heads"]) == 8
    assert tables["faults"] == {"count": 0, "first": []}
    pointing = tables["means"]["hit"][tables["heads"].index("L2H1")]
    assert pointing == 1.0
    html = Path("found/report.html").read_text()
    assert "Localization heads of cells" in html
    assert "Spearman" in html
    assert not re.search(r"(?:src|href)=[\"']?https?:|url\(\s*[\"']?https?:", html)


@pytest.mark.usefixtures("data")
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(shell: Any, tmp_path: Path) -> None:
    options = (*CELL, "--batch-size", "3", "--mode", "paper", "--mode", "consensus")
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


@pytest.mark.usefixtures("data")
def test_another_mode_over_the_same_journal_looks_at_nothing_anew(shell: Any) -> None:
    shell.discover(*CELL, "--mode", "paper")
    before = Path("found/observations.jsonl").read_bytes()
    shell.discover(*CELL, "--mode", "supervised", "--k", "2")
    assert Path("found/observations.jsonl").read_bytes() == before
    done = shell.discover(*CELL, "--mode", "sensitivity", code=2)
    assert "columns" in done.stderr
    assert "--out" in done.stderr
    everything = [word for mode in MODES for word in ("--mode", mode)]
    options = (*CELL, "--out", "all", "--neutral", "0,0")
    shell.discover(*options, *everything)
    before = Path("all/observations.jsonl").read_bytes()
    shell.discover(*options, "--mode", "sensitivity")
    assert Path("all/observations.jsonl").read_bytes() == before


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("--seed", "1"), "seed"),
        (("--prompt", "chat"), "prompt.form"),
        (("--cut", "2"), "criteria.cut"),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    shell: Any, change: tuple[str, ...], word: str
) -> None:
    shell.discover(*CELL)
    done = shell.discover(*CELL, *change, code=2)
    assert word in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.usefixtures("data")
def test_what_cannot_be_used_is_counted_and_shown(shell: Any) -> None:
    lines = [shell.line(n, n % 6, 2) for n in range(10)]
    lines[2]["image"] = "lost.png"
    lines[3]["text"] = "broken"  # fails in the model, with its whole batch
    lines[4]["text"] = " "
    lines[5]["box"] = [10, 10, 80, 20]  # the picture is 60 wide
    lines[6]["id"] = lines[0]["id"]
    Path("7.png").write_bytes(Path("7.png").read_bytes()[:300])
    shell.write(lines)
    done = shell.discover(*CELL, "--batch-size", "4", "--k", "1")
    assert "6 records could not be used" in done.stderr
    tables = json.loads(Path("found/discovery.json").read_text())
    faults = {one["id"]: one["error"] for one in tables["faults"]["first"]}
    assert tables["faults"]["count"] == len(tables["faults"]["first"]) == 6
    assert tables["samples"]["measured"] == 4
    told = " / ".join(faults.values())
    for words in ("lost.png", "36 image tokens", "no expression", "outside its picture", "earlier"):
        assert words in told
    assert "What could not be used" in Path("found/report.html").read_text()
    # Going on counts nothing twice.
    shell.discover(*CELL, "--batch-size", "4", "--k", "1")
    assert json.loads(Path("found/discovery.json").read_text()) == tables

    strict = shell.discover(*CELL, "--out", "other", "--strict", code=2)
    assert "--strict" in strict.stderr


@pytest.mark.usefixtures("data")
def test_mistakes_are_one_line_that_says_what_to_do(shell: Any) -> None:
    for arguments, words in {
        (*CELL, "--mode", "papr"): "did you mean paper",
        (*CELL, "--mode", "paper:per_smaple=3"): "per_sample",
        (*CELL, "--mode", "paper:per_sample=0"): "at least 1",
        (*CELL, "--data", "jsnl:data.jsonl"): "did you mean jsonl",
        (*CELL, "--data", "data.jsonl"): "jsonl:data.jsonl",
        (*CELL, "--data", "jsonl:none.jsonl"): "none.jsonl",
        (*CELL, "--weighting", "weight"): "area or mass",
        (*CELL, "--connectivity", "6"): "4 or 8",
        (*CELL, "--name", "Not A Name"): "lower-case",
        ("--adapter", "cell", "--model", "cells"): "--data",
        (*CELL, "--out", "data.jsonl/x"): "cannot be written",
    }.items():
        done = shell.discover(*arguments, code=2)
        assert words in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in done.output


@pytest.mark.usefixtures("data")
def test_labels_are_asked_for_only_by_modes_that_need_them(shell: Any) -> None:
    shell.write(
        [{k: v for k, v in shell.line(n, n % 6, 2).items() if k != "box"} for n in range(10)]
    )
    done = shell.discover(*CELL, "--mode", "supervised", code=2)
    assert "label-free" in done.stderr
    shell.discover(*CELL, "--mode", "paper")
    done = shell.discover(*CELL, "--mode", "sensitivity", "--out", "pairs", code=2)
    assert "two expressions" in done.stderr


THEIRS = """
from dataclasses import dataclass
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.core.selection.ranking import Scores
import numpy as np

@dataclass(frozen=True)
class Deepest:
    least: int = 0
    needs = ("image_attention",)

    def score(self, seen):
        means = seen.means("image_attention")["image_attention"]
        depth = [float(head.layer) + head.head / 10 for head in seen.heads]
        return Scores(np.broadcast_to(depth, means.shape))

def cells(path, *, n=4):
    grey = np.zeros((60, 60, 3), np.uint8)
    make = lambda: (Sample(str(i), str(i), grey, f"{i},{i}") for i in range(n))
    return DataSet("cells", make, revision=f"{n}")
"""


@pytest.mark.usefixtures("data")
def test_a_stranger_brings_a_mode_and_a_data_set(shell: Any, bring: Any) -> None:
    points = ["[vg_engine.rules]", "deepest = vg_theirs:Deepest"]
    bring(THEIRS, [*points, "[vg_engine.datasets]", "made = vg_theirs:cells"])
    shell.discover(*CELL[:4], "--data", "made?n=5", "--mode", "deepest", "--out", "theirs")
    stated = yaml.safe_load(Path("theirs/cells-deepest.yaml").read_text())
    assert [one["head"] for one in stated["heads"]] == ["L3H1", "L3H0", "L2H1"]
    assert stated["n"] == 5
