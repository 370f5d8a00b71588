"""`vg-engine ablate`: stopped, asked again, with strangers' rules, with bad data and options."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import commands
import pytest

pytestmark = pytest.mark.usefixtures("noisy")


def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(shell, tmp_path) -> None:
    options = ("--batch-size", "3", "--tables", "k,per_sample,spearman")
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
        first.write_bytes(whole[first])
        journal.write_bytes(whole[journal][:cut])
        shell.ablate(*options)
        again = {path: path.read_bytes() for path in kept}
        assert again == whole, f"{journal.name} cut after {cut} bytes"


def test_what_comes_out(shell, monkeypatch) -> None:
    done = shell.ablate("--limit", "7", "--json")
    found = shell.numbers()
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == found
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

    def never(self, inputs, request):
        raise AssertionError("a second look asks the model nothing")

    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", never)
    told = shell.ablate("--limit", "7")
    for table in found["tables"].values():
        assert table["title"] in told.stdout
    assert "default" in told.stdout
    assert told.stdout.splitlines()[-1] == "out/report.html"
    commands.whole_at_any_width(monkeypatch, partial(shell.ablate, "--limit", "7"))
    assert shell.ablate("--limit", "7").stdout == told.stdout
    assert shell.numbers() == found


def test_only_the_tables_that_were_asked_for_and_no_folder_of_other_work(shell) -> None:
    shell.ablate("--tables", "sigma, k")
    assert set(shell.numbers()["tables"]) == {"sigma", "k"}
    assert shell.numbers()["spearman"] == {}
    header = json.loads(Path("out/calibration/observations.jsonl").read_text().splitlines()[0])
    assert "contrast" not in header["settings"]["columns"], "nobody asked for other rules"
    asked = ("--tables", "sigma,k")
    readings = Path("out/readings.jsonl").read_bytes()
    shell.ablate(*asked, "--resamples", "30", "--strict")
    assert Path("out/readings.jsonl").read_bytes() == readings
    for change, words in {
        ("--tables", "k"): ("readings", "--out"),
        (*asked, "--seed", "1"): ("seed",),
        (*asked, "--limit", "3"): ("limit",),
    }.items():
        done = shell.ablate(*change, code=2)
        assert all(word in done.stderr for word in words), done.stderr


def test_rules_that_the_data_does_not_permit_are_left_out_and_named(shell) -> None:
    bare = [{"id": f"{n}", "image": f"a{n}.png", "text": f"{n % 6},2"} for n in range(8)]
    shell.write(bare, "first.jsonl")
    done = shell.ablate()
    alone = {"S_img alone", "entropy alone", "contrastive", "mean of all heads"}
    assert set(shell.rows("criteria")) == {*alone, "both, per sentence", "both, fixed heads"}
    notes = " / ".join(shell.numbers()["notes"])
    for words in (
        "no random heads: the default heads are all heads of their layers",
        "rule supervised left out: it needs true boxes",
        "rule sensitivity left out: it compares sentences about one picture",
        "table spearman left out",
    ):
        assert words in notes
        assert words in done.stderr
    for rule, words in {"supervised": "true boxes", "consensus": "no such pairs"}.items():
        done = shell.ablate("--rule", rule, "--out", rule, code=2)
        assert words in done.stderr
        assert "--calibration" in done.stderr


def test_another_rule_may_be_the_default(shell) -> None:
    done = shell.ablate("--rule", "supervised")
    assert shell.rows("criteria")["supervised"]["default"]
    assert not shell.rows("criteria")["both, fixed heads"]["default"]
    assert "per_sample" not in shell.numbers()["tables"]
    assert "counts no votes" in done.stderr
    shell.ablate("--rule", "paper:per_sample=2", "--out", "two")
    assert [n for n, row in shell.rows("per_sample", "two").items() if row["default"]] == ["2"]
    assert shell.rows("criteria", "two")["paper:per_sample=2"]["default"]


THEIRS = """
from vg_engine.core.errors import HeadsError

class Clueless(Deepest):
    def score(self, seen):
        raise HeadsError("nothing can be told of these heads")

class Odd(Deepest):
    needs = ("smell",)
"""


def test_strangers_rules_stand_in_the_table_unless_they_fail(shell, bring) -> None:
    rules = ("deepest = vg_theirs:Deepest", "clueless = vg_theirs:Clueless", "odd = vg_theirs:Odd")
    lost = ("broken = vg_nowhere:Rule", "[vg_engine.regions]", "lost = vg_nowhere:region")
    bring(THEIRS, "[vg_engine.rules]", *rules, *lost)
    shell.ablate()
    found = shell.rows("criteria")
    assert found["deepest"]["heads"] == ["L3H1", "L3H0", "L2H1"]
    assert not {"clueless", "odd", "broken"} & set(found)
    assert "lost" not in shell.rows("region")
    notes = " / ".join(shell.numbers()["notes"])
    for words in ("clueless left out: nothing can", "odd left out: no statistic is called smell"):
        assert f"rule {words}" in notes
    for words in ("rule broken left out", "region lost left out"):
        assert words in notes


@pytest.mark.parametrize(
    ("work", "name"), [("discover", "discovery.json"), ("ablate", "ablation.json")]
)
def test_what_cannot_be_used_is_counted_and_shown(shell, work, name) -> None:
    lines = [shell.line(f"b{n}", n % 5, 1, 2) for n in range(9)]
    lines[2]["image"] = "lost.png"
    lines[3]["text"] = "broken"  # fails in the model, with its whole batch
    lines[4]["text"] = " "
    lines[5]["box"] = [10, 10, 80, 20]  # the picture is 60 wide
    del lines[6]["box"]
    Path("b7.png").write_bytes(Path("b7.png").read_bytes()[:300])
    lines[8]["id"] = lines[0]["id"]
    shell.write(lines, "second.jsonl")
    words = ["lost.png", "36 image tokens", "no expression", "outside its picture", "earlier"]
    words += ["no true"] if work == "ablate" else []
    typed = getattr(shell, work)
    asked = ("--data", "jsonl:second.jsonl", "--batch-size", "4", "--out", "out")
    done = typed(*asked)
    found = shell.numbers("out", name)
    count = len(words) + 1
    assert found["faults"]["count"] == len(found["faults"]["first"]) == count
    assert (found["n"] if work == "ablate" else found["samples"]["measured"]) == 9 - count
    told = " / ".join(one["error"] for one in found["faults"]["first"])
    assert [one for one in words if one not in told] == []
    assert f"{count} records could not be used" in done.stderr
    title = {"ablate": f"{count} records of the data could not", "discover": "What could not"}
    assert f"{title[work]} be used" in Path("out/report.html").read_text()
    # Going on counts nothing twice.
    typed(*asked)
    assert shell.numbers("out", name) == found
    assert "--strict" in typed(*asked, "--out", "other", "--strict", code=2).stderr


def test_mistakes_are_one_line_that_says_what_to_do(shell) -> None:
    shell.write([{"image": "b0.png", "text": "1,1"}], "bare.jsonl")
    Path("file").write_text("")
    for arguments, words in {
        ("--tables", "sigmas"): "did you mean sigma",
        ("--tables", ","): "at least one table",
        ("--rule", "papr"): "did you mean paper",
        ("--rule", "paper:votes=3"): "votes",
        ("--region", "papr"): "did you mean paper",
        ("--data", "jsnl:second.jsonl"): "did you mean jsonl",
        ("--data", "jsonl:none.jsonl"): "none.jsonl",
        ("--data", "jsonl:bare.jsonl"): "nothing to score against",
        ("--out", "file/x"): "cannot be written",
        ("--limit", "0"): "limit",
        ("--resamples", "0"): "resamples",
    }.items():
        assert words in shell.ablate(*arguments, "--draws", "1", code=2).stderr
    assert not list(Path("out").glob("calibration/*")), "nothing was looked at in vain"
    for given, missing in ((shell.both[2:], "--calibration"), (shell.both[:2], "--data")):
        done = shell("ablate", *shell.cell, "--out", "out", *given, "--draws", "1", code=2)
        assert missing in done.stderr


def test_the_embedded_model_from_end_to_end(shell) -> None:
    few = ("--calibration", "scenes?split=calibration&n=24", "--draws", "1", "--limit", "24")
    few = ("ablate", *few, "--resamples", "100", "--out", "out")
    done = shell(*few)
    assert "warning" not in done.stderr, "both draws call their pictures alike; they are others"
    found = shell.numbers()
    assert found["data"] == "scenes?split=calibration&draw=1&n=600"
    assert (found["n"], found["pictures"]) == (24, 12)
    assert list(found["metrics"]) == ["acc@0.5", "miou", "pointing", "ciou"]
    rows = shell.rows("criteria")
    chosen, drawn = (rows[name]["scores"] for name in ("both, fixed heads", "random heads"))
    assert chosen["pointing"]["value"] > drawn["pointing"]["value"] + 0.1
    assert shell(*few).stdout == done.stdout
    assert shell.numbers() == found
