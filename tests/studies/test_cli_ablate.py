"""`vg-engine ablate`: stopped, asked again, with strangers' rules, with bad data and options."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

SIDE, GRID = 60, 6
STEP = SIDE // GRID
CELL = ("--adapter", "cell", "--model", "cells", "--out", "out")
BOTH = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:second.jsonl")
QUICK = ("--draws", "2", "--resamples", "20")


@pytest.mark.usefixtures("noisy")
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(shell: Any, tmp_path: Path) -> None:
    options = (*CELL, *BOTH, *QUICK, "--batch-size", "3", "--tables", "k,per_sample,spearman")
    shell.ablate(*options)
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
        shell.ablate(*options)
        again = {path: path.read_bytes() for path in kept}
        assert again == whole, f"{journal.name} cut after {cut} bytes"


@pytest.mark.usefixtures("noisy")
def test_a_second_look_asks_the_model_nothing(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (*CELL, *BOTH, *QUICK)
    first = shell.ablate(*options)

    def never(self: object, inputs: Any, request: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", never)
    again = shell.ablate(*options)
    assert again.stdout == first.stdout


@pytest.mark.usefixtures("noisy")
def test_what_comes_out(shell: Any) -> None:
    done = shell.ablate(*CELL, *BOTH, *QUICK, "--limit", "7", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == shell.numbers()
    found = shell.numbers()
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

    told = shell.ablate(*CELL, *BOTH, *QUICK, "--limit", "7")
    for table in found["tables"].values():
        assert table["title"] in told.stdout
    assert "default" in told.stdout
    assert told.stdout.splitlines()[-1] == "out/report.html"


@pytest.mark.usefixtures("noisy")
def test_only_the_tables_that_were_asked_for(shell: Any) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma, k")
    assert set(shell.numbers()["tables"]) == {"sigma", "k"}
    assert shell.numbers()["spearman"] == {}
    header = json.loads(Path("out/calibration/observations.jsonl").read_text().splitlines()[0])
    assert "contrast" not in header["settings"]["columns"], "nobody asked for other rules"
    more = shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k", code=2)
    assert "readings" in more.stderr
    assert "--out" in more.stderr


@pytest.mark.usefixtures("noisy")
def test_rules_that_the_data_does_not_permit_are_left_out_and_named(shell: Any) -> None:
    bare = [{"id": f"{n}", "image": f"a{n}.png", "text": f"{n % 6},2"} for n in range(8)]
    shell.write(bare, "first.jsonl")
    done = shell.ablate(*CELL, *BOTH, *QUICK)
    assert set(shell.rows("criteria")) == {
        "S_img alone",
        "entropy alone",
        "both, per sentence",
        "both, fixed heads",
        "contrastive",
        "mean of all heads",
    }
    notes = " / ".join(shell.numbers()["notes"])
    for words in (
        "no random heads: the default heads are all heads of their layers",
        "rule supervised left out: it needs true boxes",
        "rule sensitivity left out: it compares sentences about one picture",
        "table spearman left out",
    ):
        assert words in notes
        assert words in done.stderr
    for mode, words in {"supervised": "true boxes", "consensus": "no such pairs"}.items():
        done = shell.ablate(*CELL, *BOTH, "--mode", mode, "--out", mode, code=2)
        assert words in done.stderr
        assert "--calibration" in done.stderr


@pytest.mark.usefixtures("noisy")
def test_another_rule_may_be_the_default(shell: Any) -> None:
    done = shell.ablate(*CELL, *BOTH, *QUICK, "--mode", "supervised")
    assert shell.rows("criteria")["supervised"]["default"]
    assert not shell.rows("criteria")["both, fixed heads"]["default"]
    assert "per_sample" not in shell.numbers()["tables"]
    assert "counts no votes" in done.stderr
    done = shell.ablate(*CELL, *BOTH, *QUICK, "--mode", "paper:per_sample=2", "--out", "two")
    assert [n for n, row in shell.rows("per_sample", "two").items() if row["default"]] == ["2"]
    assert shell.rows("criteria", "two")["paper:per_sample=2"]["default"]


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
def test_strangers_rules_stand_in_the_table_unless_they_fail(shell: Any, bring: Any) -> None:
    bring(
        THEIRS,
        [
            "[vg_engine.rules]",
            *("deepest = vg_theirs:Deepest", "clueless = vg_theirs:Clueless"),
            *("odd = vg_theirs:Odd", "broken = vg_nowhere:Rule"),
            *("[vg_engine.regions]", "lost = vg_nowhere:region"),
        ],
    )
    shell.ablate(*CELL, *BOTH, *QUICK)
    found = shell.rows("criteria")
    assert found["deepest"]["heads"] == ["L3H1", "L3H0", "L2H1"]
    assert not {"clueless", "odd", "broken"} & set(found)
    assert "lost" not in shell.rows("region")
    notes = " / ".join(shell.numbers()["notes"])
    for words in (
        "rule clueless left out: nothing can be told",
        "rule odd left out: no statistic is called smell",
        "rule broken left out",
        "region lost left out",
    ):
        assert words in notes


@pytest.mark.usefixtures("two_sets")
def test_what_cannot_be_used_is_counted_and_shown(shell: Any) -> None:
    lines = [shell.line(f"b{n}", n % 5, 1, 2) for n in range(9)]
    lines[2]["image"] = "lost.png"
    lines[3]["text"] = "broken"  # fails in the model, with its whole batch
    lines[4]["text"] = " "
    lines[5]["box"] = [10, 10, 80, 20]  # the picture is 60 wide
    del lines[6]["box"]
    Path("b7.png").write_bytes(Path("b7.png").read_bytes()[:300])
    shell.write(lines, "second.jsonl")
    done = shell.ablate(*CELL, *BOTH, *QUICK, "--batch-size", "4")
    found = shell.numbers()
    assert found["n"] == 3
    assert found["faults"]["count"] == len(found["faults"]["first"]) == 6
    told = " / ".join(one["error"] for one in found["faults"]["first"])
    for words in ("lost.png", "36 image tokens", "no expression", "outside its picture", "no true"):
        assert words in told
    assert "6 records could not be used" in done.stderr
    assert "6 records of the data could not be used" in Path("out/report.html").read_text()
    before = found
    shell.ablate(*CELL, *BOTH, *QUICK, "--batch-size", "4")
    assert shell.numbers() == before
    strict = shell.ablate(*CELL, *BOTH, *QUICK, "--out", "other", "--strict", code=2)
    assert "--strict" in strict.stderr


@pytest.mark.usefixtures("two_sets")
def test_mistakes_are_one_line_that_says_what_to_do(shell: Any) -> None:
    shell.write([{"image": "b0.png", "text": "1,1"}], "bare.jsonl")
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
        done = shell.ablate(*arguments, "--draws", "1", code=2)
        assert words in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in done.output


@pytest.mark.usefixtures("noisy")
def test_a_folder_of_other_work_is_refused(shell: Any) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k")
    for change, word in ((("--seed", "1"), "seed"), (("--limit", "3"), "limit")):
        done = shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k", *change, code=2)
        assert word in done.stderr
        assert done.stderr.count("error:") == 1


def test_the_embedded_model_from_end_to_end(shell: Any) -> None:
    few = ("--calibration", "scenes?split=calibration&n=24", "--draws", "1", "--limit", "24")
    few = (*few, "--resamples", "100", "--out", "out")
    done = shell.ablate(*few)
    assert "warning" not in done.stderr, "both draws call their pictures alike; they are others"
    found = shell.numbers()
    assert found["data"] == "scenes?split=calibration&draw=1&n=600"
    assert found["n"] == 24
    assert found["pictures"] == 12
    assert list(found["metrics"]) == ["acc@0.5", "miou", "pointing", "ciou"]
    pointing = {
        label: row["scores"]["pointing"]["value"] for label, row in shell.rows("criteria").items()
    }
    assert pointing["both, fixed heads"] > pointing["random heads"] + 0.1
    again = shell.ablate(*few)
    assert again.stdout == done.stdout
    assert shell.numbers() == found
