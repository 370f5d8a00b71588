"""`vg-engine discover`, on an adapter whose head L2H1 points at the cell that a sentence names."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from vg_engine.cli.main import app
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


def discover(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["discover", *arguments])


def line(picture: int, row: int, column: int, **more: Any) -> dict[str, Any]:
    step = SIDE // GRID
    box = [column * step, row * step, (column + 1) * step, (row + 1) * step]
    base = {"image": f"{picture}.png", "text": f"{row},{column}", "box": box}
    return base | {"id": f"{picture}-{row}-{column}"} | more


def write(lines: list[dict[str, Any]]) -> None:
    Path("data.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures with two sentences each."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    write([line(n, r, c) for n in range(10) for r, c in ((n % 6, 2), (5 - n % 6, 4))])
    return tmp_path


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_the_head_that_points(mode: str) -> None:
    neutral = ("--neutral", "0,0") if mode == "contrastive" else ()
    # L2H1 gives .935 of its attention to the picture, the flat ones .857, each in one piece.
    done = discover(*CELL, "--mode", mode, "--k", "1", "--draws", "3", *neutral)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("L2H1  "), done.stdout


@pytest.mark.usefixtures("data")
def test_what_comes_out_states_where_it_comes_from() -> None:
    done = discover(*CELL, "--samples", "8", "--draws", "3", "--seed", "7", "--name", "cells-best")
    assert done.exit_code == 0, done.output
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
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    options = (*CELL, "--batch-size", "3", "--mode", "paper", "--mode", "consensus")
    assert discover(*options).exit_code == 0
    out = tmp_path / "found"
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    journal = whole["observations.jsonl"]
    ends = [match.end() for match in re.finditer(rb"\n", journal)]
    for cut in [0, 5, ends[0], ends[0] + 30, ends[2] - 40, ends[3], ends[-2] + 1]:
        for path in out.iterdir():
            path.unlink()
        (out / "observations.jsonl").write_bytes(journal[:cut])
        done = discover(*options)
        assert done.exit_code == 0, done.output
        again = {path.name: path.read_bytes() for path in out.iterdir()}
        assert again == whole, f"cut after {cut} bytes"


@pytest.mark.usefixtures("data")
def test_another_mode_over_the_same_journal_looks_at_nothing_anew() -> None:
    assert discover(*CELL, "--mode", "paper").exit_code == 0
    before = Path("found/observations.jsonl").read_bytes()
    assert discover(*CELL, "--mode", "supervised", "--k", "2").exit_code == 0
    assert Path("found/observations.jsonl").read_bytes() == before
    done = discover(*CELL, "--mode", "sensitivity")
    assert done.exit_code == 2
    assert "columns" in done.stderr
    assert "--out" in done.stderr
    everything = [word for mode in MODES for word in ("--mode", mode)]
    options = (*CELL, "--out", "all", "--neutral", "0,0")
    assert discover(*options, *everything).exit_code == 0
    before = Path("all/observations.jsonl").read_bytes()
    assert discover(*options, "--mode", "sensitivity").exit_code == 0, "less than it holds"
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
def test_a_folder_of_other_settings_is_refused(change: tuple[str, ...], word: str) -> None:
    assert discover(*CELL).exit_code == 0
    done = discover(*CELL, *change)
    assert done.exit_code == 2
    assert word in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.usefixtures("data")
def test_what_cannot_be_used_is_counted_and_shown() -> None:
    lines = [line(n, n % 6, 2) for n in range(10)]
    lines[2]["image"] = "lost.png"
    lines[3]["text"] = "broken"  # fails in the model, with its whole batch
    lines[4]["text"] = " "
    lines[5]["box"] = [10, 10, 80, 20]  # the picture is 60 wide
    lines[6]["id"] = lines[0]["id"]
    Path("7.png").write_bytes(Path("7.png").read_bytes()[:300])
    write(lines)
    done = discover(*CELL, "--batch-size", "4", "--k", "1")
    assert done.exit_code == 0, done.output
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
    assert discover(*CELL, "--batch-size", "4", "--k", "1").exit_code == 0
    assert json.loads(Path("found/discovery.json").read_text()) == tables

    strict = discover(*CELL, "--out", "other", "--strict")
    assert strict.exit_code == 2
    assert "--strict" in strict.stderr


@pytest.mark.usefixtures("data")
def test_mistakes_are_one_line_that_says_what_to_do() -> None:
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
        done = discover(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in done.output


@pytest.mark.usefixtures("data")
def test_labels_are_asked_for_only_by_modes_that_need_them() -> None:
    write([{k: v for k, v in line(n, n % 6, 2).items() if k != "box"} for n in range(10)])
    done = discover(*CELL, "--mode", "supervised")
    assert done.exit_code == 2
    assert "label-free" in done.stderr
    assert discover(*CELL, "--mode", "paper").exit_code == 0
    done = discover(*CELL, "--mode", "sensitivity", "--out", "pairs")
    assert done.exit_code == 2
    assert "two sentences" in done.stderr


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
def test_a_stranger_brings_a_mode_and_a_data_set(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("vg_theirs")
    exec(THEIRS, module.__dict__)
    monkeypatch.setitem(sys.modules, "vg_theirs", module)
    points = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
    points.write_text(
        points.read_text() + "[vg_engine.rules]\ndeepest = vg_theirs:Deepest\n"
        "[vg_engine.datasets]\nmade = vg_theirs:cells\n"
    )
    done = discover(*CELL[:4], "--data", "made?n=5", "--mode", "deepest", "--out", "theirs")
    assert done.exit_code == 0, done.output
    stated = yaml.safe_load(Path("theirs/cells-deepest.yaml").read_text())
    assert [one["head"] for one in stated["heads"]] == ["L3H1", "L3H0", "L2H1"]
    assert stated["n"] == 5
