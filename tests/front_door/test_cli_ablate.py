"""`vg-engine ablate`: stopped, asked again, with strangers' rules, with bad data and options."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from vg_engine.cli.main import app
from vg_engine.core.contract.inputs import AttentionRequest, AttentionRows, PreparedInputs

SIDE, GRID = 60, 6
STEP = SIDE // GRID
CELL = ("--adapter", "cell", "--model", "cells", "--out", "out")
BOTH = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:second.jsonl")
QUICK = ("--draws", "2", "--resamples", "20")


def ablate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ablate", *arguments])


def numbers(folder: str = "out") -> Any:
    return json.loads(Path(folder, "ablation.json").read_text())


def rows(table: str, folder: str = "out") -> dict[str, Any]:
    return {row["label"]: row for row in numbers(folder)["tables"][table]["rows"]}


def line(picture: str, row: int, column: int, **more: Any) -> dict[str, Any]:
    box = [column * STEP, row * STEP, min(column + 2, GRID) * STEP, min(row + 2, GRID) * STEP]
    base = {"image": f"{picture}.png", "text": f"{row},{column}", "box": box}
    return base | {"id": f"{picture}-{row}-{column}"} | more


def write(name: str, lines: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(f"{json.dumps(one)}\n" for one in lines))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets of eight and nine pictures, two sentences each; the second has masks."""
    monkeypatch.chdir(tmp_path)
    adapter: Any = sys.modules["vg_cells"].CellAdapter
    extract = adapter.vg_extract_attention

    def attended(self: object, inputs: PreparedInputs, request: AttentionRequest) -> Any:
        queries = [replace(q, expression=cell_of(q.expression)) for q in inputs.queries]
        return extract(self, replace(inputs, queries=tuple(queries)), request)

    monkeypatch.setattr(adapter, "vg_extract_attention", attended)
    rng = np.random.default_rng(0)
    for name in [*(f"a{n}" for n in range(8)), *(f"b{n}" for n in range(9))]:
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    write("first.jsonl", [line(f"a{n}", r, c) for n in range(8) for r, c in ((n % 6, 2), (3, 4))])
    second = []
    for n in range(9):
        for r, c in ((n % 5, 1), (4, n % 4)):
            left, top, right, bottom = line("", r, c)["box"]
            polygon = [[left, top, right, top, right, bottom, left, bottom]]
            second.append(line(f"b{n}", r, c, mask=polygon))
    write("second.jsonl", second)
    return tmp_path


def cell_of(text: str) -> str:
    """The neutral prompt names no cell."""
    return "0,0" if text == "describe the image" else text


def attend(_adapter: object, inputs: PreparedInputs, request: AttentionRequest) -> AttentionRows:
    """Every head points at the cell, some more than others, over noise of its own."""
    answers = []
    for query in inputs.queries:
        row, column = map(int, cell_of(query.expression).split(","))
        values = []
        for head in request.heads:
            noise = np.random.default_rng([head.layer, head.head, row, column])
            one = noise.random(42) ** 3 / 60
            one[2 + row * GRID + column] += 0.01 * (1 + (head.layer * 5 + head.head * 3) % 7)
            values.append(one[None])
        answers.append(torch.from_numpy(np.array(values)).float())
    return AttentionRows(request.heads, tuple(answers))


@pytest.fixture
def noisy(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", attend)
    return data


@pytest.mark.usefixtures("noisy")
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    options = (*CELL, *BOTH, *QUICK, "--batch-size", "3", "--tables", "k,per_sample,spearman")
    assert ablate(*options).exit_code == 0
    out = tmp_path / "out"
    kept = [path for path in out.rglob("*") if path.is_file()]
    whole = {path: path.read_bytes() for path in kept}
    first, second = out / "calibration/observations.jsonl", out / "readings.jsonl"
    ends = {path: [m.end() for m in re.finditer(rb"\n", whole[path])] for path in (first, second)}
    cuts = [(first, at) for at in (0, 7, ends[first][0], ends[first][1] + 20, ends[first][-2])]
    cuts += [(second, at) for at in (0, 9, ends[second][0], ends[second][2] - 5)]
    cuts += [(second, ends[second][-2] + 1), (second, ends[second][-1])]
    for journal, cut in cuts:
        for path in kept:
            path.unlink()
        first.write_bytes(whole[first][:cut] if journal is first else whole[first])
        if journal is second:
            second.write_bytes(whole[second][:cut])
        done = ablate(*options)
        assert done.exit_code == 0, done.output
        again = {path: path.read_bytes() for path in kept}
        assert again == whole, f"{journal.name} cut after {cut} bytes"


@pytest.mark.usefixtures("noisy")
def test_a_second_look_asks_the_model_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    options = (*CELL, *BOTH, *QUICK)
    first = ablate(*options)
    assert first.exit_code == 0, first.output

    def never(self: object, inputs: Any, request: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", never)
    again = ablate(*options)
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout


@pytest.mark.usefixtures("noisy")
def test_what_comes_out() -> None:
    done = ablate(*CELL, *BOTH, *QUICK, "--limit", "7", "--json")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == numbers()
    found = numbers()
    header = Path("out/calibration/observations.jsonl").read_text().splitlines()
    drawn = {place for one in header[1:] for place in json.loads(one)["samples"]}
    assert found["n"] == 7
    assert list(found["tables"]) == ["k", "criteria", "sigma", "kernel", "per_sample", "region"]
    assert found["calibration"]["data"] == "jsonl:first.jsonl"
    assert found["calibration"]["measured"] == len(drawn)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["readings_per_sample"] == len(found["settings"]["readings"])
    html = Path("out/report.html").read_text()
    assert html.count("<svg") == 7
    for title in ("How many heads", "Smoothing: sigma", "Votes per sentence", "follow the truth"):
        assert title in html
    assert not re.search(r"(?:src|href)=[\"']?https?:|url\(\s*[\"']?https?:", html)

    told = ablate(*CELL, *BOTH, *QUICK, "--limit", "7")
    for table in found["tables"].values():
        assert table["title"] in told.stdout
    assert "default" in told.stdout
    assert told.stdout.splitlines()[-1] == "out/report.html"


@pytest.mark.usefixtures("noisy")
def test_only_the_tables_that_were_asked_for() -> None:
    done = ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma, k")
    assert done.exit_code == 0, done.output
    assert set(numbers()["tables"]) == {"sigma", "k"}
    assert numbers()["spearman"] == {}
    header = json.loads(Path("out/calibration/observations.jsonl").read_text().splitlines()[0])
    assert "contrast" not in header["settings"]["columns"], "nobody asked for other rules"
    more = ablate(*CELL, *BOTH, *QUICK, "--tables", "k")
    assert more.exit_code == 2
    assert "readings" in more.stderr
    assert "--out" in more.stderr


@pytest.mark.usefixtures("noisy")
def test_rules_that_the_data_does_not_permit_are_left_out_and_named() -> None:
    bare = [{"id": f"{n}", "image": f"a{n}.png", "text": f"{n % 6},2"} for n in range(8)]
    write("first.jsonl", bare)
    done = ablate(*CELL, *BOTH, *QUICK)
    assert done.exit_code == 0, done.output
    assert set(rows("criteria")) == {
        "S_img alone",
        "entropy alone",
        "both, per sentence",
        "both, fixed heads",
        "contrastive",
        "mean of all heads",
    }
    notes = " / ".join(numbers()["notes"])
    for words in (
        "no random heads: the default heads are all heads of their layers",
        "rule supervised left out: it needs true boxes",
        "rule sensitivity left out: it compares sentences about one picture",
        "table spearman left out",
    ):
        assert words in notes
        assert words in done.stderr
    for mode, words in {"supervised": "true boxes", "consensus": "no such pairs"}.items():
        done = ablate(*CELL, *BOTH, "--mode", mode, "--out", mode)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "--calibration" in done.stderr


@pytest.mark.usefixtures("noisy")
def test_another_rule_may_be_the_default() -> None:
    done = ablate(*CELL, *BOTH, *QUICK, "--mode", "supervised")
    assert done.exit_code == 0, done.output
    assert rows("criteria")["supervised"]["default"]
    assert not rows("criteria")["both, fixed heads"]["default"]
    assert "per_sample" not in numbers()["tables"]
    assert "counts no votes" in done.stderr
    done = ablate(*CELL, *BOTH, *QUICK, "--mode", "paper:per_sample=2", "--out", "two")
    assert done.exit_code == 0, done.output
    assert [n for n, row in rows("per_sample", "two").items() if row["default"]] == ["2"]
    assert rows("criteria", "two")["paper:per_sample=2"]["default"]


THEIRS = """
from dataclasses import dataclass
from vg_engine.core.errors import HeadsError
from vg_engine.core.selection.ranking import Scores
import numpy as np

@dataclass(frozen=True)
class Deepest:
    needs = ("image_attention",)

    def score(self, seen):
        means = seen.means("image_attention")["image_attention"]
        depth = [float(head.layer) + head.head / 10 for head in seen.heads]
        return Scores(np.broadcast_to(depth, means.shape))

@dataclass(frozen=True)
class Clueless(Deepest):
    def score(self, seen):
        raise HeadsError("nothing can be told of these heads")

@dataclass(frozen=True)
class Odd(Deepest):
    needs = ("smell",)
"""


@pytest.mark.usefixtures("noisy")
def test_strangers_rules_stand_in_the_table_unless_they_fail(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("vg_theirs")
    exec(THEIRS, module.__dict__)
    monkeypatch.setitem(sys.modules, "vg_theirs", module)
    points = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
    points.write_text(
        points.read_text() + "[vg_engine.rules]\ndeepest = vg_theirs:Deepest\n"
        "clueless = vg_theirs:Clueless\nodd = vg_theirs:Odd\nbroken = vg_nowhere:Rule\n"
        "[vg_engine.regions]\nlost = vg_nowhere:region\n"
    )
    done = ablate(*CELL, *BOTH, *QUICK)
    assert done.exit_code == 0, done.output
    found = rows("criteria")
    assert found["deepest"]["heads"] == ["L3H1", "L3H0", "L2H1"]
    assert not {"clueless", "odd", "broken"} & set(found)
    assert "lost" not in rows("region")
    notes = " / ".join(numbers()["notes"])
    for words in (
        "rule clueless left out: nothing can be told",
        "rule odd left out: nobody measures smell",
        "rule broken left out",
        "region lost left out",
    ):
        assert words in notes


@pytest.mark.usefixtures("data")
def test_what_cannot_be_used_is_counted_and_shown() -> None:
    lines = [line(f"b{n}", n % 5, 1) for n in range(9)]
    lines[2]["image"] = "lost.png"
    lines[3]["text"] = "broken"  # fails in the model, with its whole batch
    lines[4]["text"] = " "
    lines[5]["box"] = [10, 10, 80, 20]  # the picture is 60 wide
    del lines[6]["box"]
    Path("b7.png").write_bytes(Path("b7.png").read_bytes()[:300])
    write("second.jsonl", lines)
    done = ablate(*CELL, *BOTH, *QUICK, "--batch-size", "4")
    assert done.exit_code == 0, done.output
    found = numbers()
    assert found["n"] == 3
    assert found["faults"]["count"] == len(found["faults"]["first"]) == 6
    told = " / ".join(one["error"] for one in found["faults"]["first"])
    for words in ("lost.png", "36 image tokens", "no expression", "outside its picture", "no true"):
        assert words in told
    assert "6 records could not be used" in done.stderr
    assert "6 records of the data could not be used" in Path("out/report.html").read_text()
    before = found
    assert ablate(*CELL, *BOTH, *QUICK, "--batch-size", "4").exit_code == 0
    assert numbers() == before
    strict = ablate(*CELL, *BOTH, *QUICK, "--out", "other", "--strict")
    assert strict.exit_code == 2
    assert "--strict" in strict.stderr


@pytest.mark.usefixtures("data")
def test_mistakes_are_one_line_that_says_what_to_do() -> None:
    write("bare.jsonl", [{"image": "b0.png", "text": "1,1"}])
    Path("file").write_text("")
    for arguments, words in {
        (*CELL, *BOTH, "--tables", "sigmas"): "did you mean sigma",
        (*CELL, *BOTH, "--tables", ","): "at least one table",
        (*CELL, *BOTH, "--mode", "papr"): "did you mean paper",
        (*CELL, *BOTH, "--mode", "paper:votes=3"): "votes",
        (*CELL, *BOTH, "--region", "papr"): "did you mean paper",
        (*CELL, "--data", "jsonl:second.jsonl"): "--calibration",
        (*CELL, "--calibration", "jsonl:first.jsonl"): "--data",
        (*CELL, *BOTH[:2], "--data", "jsnl:second.jsonl"): "did you mean jsonl",
        (*CELL, *BOTH[:2], "--data", "jsonl:none.jsonl"): "none.jsonl",
        (*CELL, *BOTH[:2], "--data", "jsonl:bare.jsonl"): "nothing to score against",
        (*CELL, *BOTH, "--out", "file/x"): "cannot be written",
        (*CELL, *BOTH, "--limit", "0"): "limit",
        (*CELL, *BOTH, "--resamples", "0"): "resamples",
    }.items():
        done = ablate(*arguments, "--draws", "1")
        assert done.exit_code == 2, arguments
        assert words in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in done.output


@pytest.mark.usefixtures("noisy")
def test_a_folder_of_other_work_is_refused() -> None:
    assert ablate(*CELL, *BOTH, *QUICK, "--tables", "k").exit_code == 0
    for change, word in ((("--seed", "1"), "seed"), (("--limit", "3"), "limit")):
        done = ablate(*CELL, *BOTH, *QUICK, "--tables", "k", *change)
        assert done.exit_code == 2
        assert word in done.stderr
        assert done.stderr.count("error:") == 1


def test_the_embedded_model_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("--calibration", "scenes?split=calibration&n=24", "--draws", "1", "--limit", "24")
    few = (*few, "--resamples", "100", "--out", "out")
    done = ablate(*few)
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr, "both draws call their pictures alike; they are others"
    found = numbers()
    assert found["data"] == "scenes?split=calibration&draw=1&n=600"
    assert found["n"] == 24
    assert found["pictures"] == 12
    assert list(found["metrics"]) == ["acc@0.5", "miou", "pointing", "ciou"]
    pointing = {
        label: row["scores"]["pointing"]["value"] for label, row in rows("criteria").items()
    }
    assert pointing["both, fixed heads"] > pointing["random heads"] + 0.1
    again = ablate(*few)
    assert again.stdout == done.stdout
    assert numbers() == found
