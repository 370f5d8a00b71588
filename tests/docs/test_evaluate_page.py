"""docs/evaluate.md and docs/metrics.md: commands run, tables and files are what the code makes."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from typer.testing import Result

from vg_engine.core.contract.model import FIRST_LAYER
from vg_engine.core.contract.prompt import QUERY_ROWS
from vg_engine.core.evaluation.outcomes import METRICS
from vg_engine.studies.ablate import ablation, calibration
from vg_engine.studies.ablate import tables as planned
from vg_engine.studies.evaluate import best_head, entries, tables

Call = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]
# Another value for each option that a run over the same folder may or may not change.
FREE = {"--resamples": "9", "--strict": "", "--max-pixels": "1000000", "--json": ""}
REFUSED = {
    "--data": "jsonl:other.jsonl",
    "--limit": "3",
    "--heads": "L3H0",
    "--random-draws": "2",
    "--no-oracle": "",
    "--seed": "1",
    "--region": "otsu",
    "--query-row": "prompt_last",
    "--batch-size": "3",
}


@pytest.fixture
def guide(page: Any) -> Any:
    return page("evaluate.md")


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def told_keys(rows: list[list[str]]) -> set[str]:
    return {key for row in rows for key in quoted(row[0])}


def small(command: list[str]) -> list[str]:
    """On few sentences, where nothing else says so."""
    more: list[str] = []
    if command[0] == "ablate" and "--calibration" not in command:
        more += ["--calibration", "scenes?split=calibration&n=8"]
    if "--limit" in command:
        more += ["--limit", "4"]  # the last one counts
    return [*command, *more, *(["--resamples", "50"] if command[0] != "discover" else [])]


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: tuple[str, ...], install: Any
) -> tuple[str, ...]:
    """A run that takes no time, on six pictures with two sentences each."""
    monkeypatch.chdir(tmp_path)
    theirs = runpy.run_path(str(ROOT / "tests/front_door/conftest.py"))
    install("vg_sure", {"Sure": theirs["Sure"]}, {"vg_engine.plugins": {"sure": "vg_sure:Sure"}})
    for name in ("data", "other"):
        lines = []
        for number in range(6):
            Image.new("RGB", (60, 60), (number, 0, len(name))).save(f"{name}{number}.png")
            for row, column in ((number, 2), (5 - number, 4)):
                box = [10 * column, 10 * row, 10 * column + 10, 10 * row + 10]
                mask = [[box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]]
                line = {"image": f"{name}{number}.png", "text": f"{row},{column}", "box": box}
                lines.append(line | {"mask": mask, "groups": {"row": str(row)}})
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    more = ("--heads", "L2H1", "--heads", "auto", "--resamples", "20")
    return ("eval", *cells, "--data", "jsonl:data.jsonl", "--out", "out", *more)


def test_its_commands_run(guide: Any, world: Path, call: Call) -> None:
    for command in guide.commands:
        done = call(*small(command))
        assert done.stdout.strip(), command
    for folder, name in (("exam", "files"), ("compared", "comparison files"), ("ablate", "ablate")):
        told = told_keys(guide.table(name if "files" in name else f"{name} files"))
        assert {path.name for path in Path("out", folder).iterdir()} == told


@pytest.mark.parametrize("name", ["eval", "ablate"])
def test_every_option_stands_with_its_default(guide: Any, taken: Any, name: str) -> None:
    told = {", ".join(quoted(row[0])): row[1] for row in guide.table(f"options {name}")}
    assert told == taken(name)


def test_no_option_is_made_up(guide: Any, taken: Any) -> None:
    every = [*taken("discover"), *taken("eval"), *taken("ablate")]
    known = {name for names in every for name in names.split(", ")}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", guide.text)) <= known


def test_what_it_links_to_exists(guide: Any) -> None:
    guide.check_links()


def test_files_hold_the_keys_that_are_told(guide: Any, asked: tuple[str, ...], call: Call) -> None:
    done = call(*asked, "--json")
    kept = json.loads(Path("out/eval.json").read_text())
    assert json.loads(done.stdout) == kept
    rows = guide.table("eval.json")
    assert told_keys(rows) == set(kept)
    inner = {key: quoted(row[1]) for row in rows for key in quoted(row[0])}
    score = kept["table"][0]["scores"]["pointing"]
    assert set(inner["table"]) == set(kept["table"][0]) | set(score)
    assert set(inner["against_first"]) == set(kept["against_first"][0]["differences"]["pointing"])
    assert set(inner["faults"]) == set(kept["faults"])
    record = json.loads(Path("out/records.jsonl").read_text().splitlines()[1])
    assert told_keys(guide.table("records.jsonl")) == set(record)
    answer = guide.table("answer")
    one, *several = (record["answers"][name] for name in ("L2H1", SINGLE, RANDOM))
    assert told_keys(answer) == set(one)
    for kept_answer in several:
        assert set(kept_answer) == {"hit", "iou", "inter", "union", "f1"}
        assert set(kept_answer["hit"]) <= set("10-")


RANDOM, SINGLE = "random: 1 head of layer 2", entries.SINGLE


def test_every_row_is_told(guide: Any, asked: tuple[str, ...], call: Call) -> None:
    call(*asked, "--postprocess", "sure")
    kept = json.loads(Path("out/eval.json").read_text())
    patterns = {
        quoted(row[0])[0]: re.escape(quoted(row[0])[0])
        .replace("NAME", "L2H1")
        .replace(re.escape("..."), ".+")
        for row in guide.table("entries")
    }
    found: dict[str, set[str]] = {}
    for row in kept["table"]:
        (pattern,) = (key for key, one in patterns.items() if re.fullmatch(one, row["name"]))
        found.setdefault(pattern, set()).add(row["kind"])
    assert set(found) == set(patterns)
    assert {kind for kinds in found.values() for kind in kinds} == set(get_args(entries.Kind))


def test_the_numbers_in_its_sentences_are_the_codes(guide: Any, taken: Any) -> None:
    text = " ".join(guide.text.split())
    for sentence in (
        f"With more than {best_head.FEW} heads",
        f"on the first {best_head.FIRST} samples, the best {best_head.LEFT} on the rest",
        f"the mean of {taken('eval')['--random-draws']} draws",
        f"95 % of {int(taken('eval')['--resamples']):,} resamples",
        f"more than {100 * entries._MANY_SHARED:.0f} % of its layers' heads",
        f"all heads from layer {FIRST_LAYER} on",
    ):
        assert sentence in text, sentence
    assert entries.CENTRE_SHARE == 0.5
    assert "half of each side" in text


def test_the_metrics_stand_with_their_names(guide: Any, page: Any) -> None:
    names = [one.name for one in METRICS]
    (listed,) = re.findall(r"The metrics are (.+?)\.\s+The terminal", guide.text, re.DOTALL)
    assert quoted(listed) == names
    accuracies = {name for name in names if name.startswith("acc@")}
    assert set(names) - set(tables.SHORT) == accuracies - {"acc@0.5"}, "what a terminal leaves out"
    titles: dict[str, str] = {}
    block = re.search(
        r"^\| name \| title .+?\n\n", page("metrics.md").text, re.MULTILINE | re.DOTALL
    )
    assert block is not None
    for row in guide.rows(block[0])[1:]:
        title = row[1]
        for name in quoted(row[0]):
            titles[name] = title.replace("Acc@t", f"Acc@{name.removeprefix('acc@')}")
    assert titles == {one.name: one.title for one in METRICS}


def test_the_tables_of_ablate_are_the_codes(guide: Any) -> None:
    rows = guide.table("tables")
    assert [quoted(row[0])[0] for row in rows] == [*ablation.TABLES, *ablation.DEARER]
    assert [row[2].partition(":")[0] for row in rows] == ["yes"] * len(ablation.TABLES) + [
        "no"
    ] * len(ablation.DEARER)
    said = {quoted(row[0])[0]: row[1] for row in rows}
    listed = {
        "k": planned.COUNTS,
        "sigma": planned.SIGMAS,
        "kernel": planned.KERNELS,
    }
    for name, values in listed.items():
        assert ", ".join(f"{value:g}" for value in values) in said[name]
    assert f"{calibration.VOTES[0]} to {calibration.VOTES[-1]} votes" in said["per_sample"]
    assert quoted(said["entropy"]) == list(calibration.ENTROPIES)
    assert quoted(said["query_row"]) == list(QUERY_ROWS[:-1])


def changes(options: Mapping[str, str]) -> list[list[str]]:
    return [[name, value] if value else [name] for name, value in options.items()]


def test_what_may_be_changed_in_the_same_folder(
    guide: Any, asked: tuple[str, ...], call: Call
) -> None:
    (told,) = re.findall(r"In the same folder `eval` takes another (.+?);", guide.text, re.DOTALL)
    assert set(quoted(told)) == set(FREE)
    call(*asked)
    records = Path("out/records.jsonl").read_bytes()
    for change in changes(FREE):
        call(*asked, *change)
        assert Path("out/records.jsonl").read_bytes() == records
    for change in changes(REFUSED):
        done = call(*asked, *change, code=2)
        assert "choose another folder with --out" in done.stderr, change
        assert Path("out/records.jsonl").read_bytes() == records


def test_ablate_takes_another_out_for_other_tables(
    asked: tuple[str, ...], cells: tuple[str, ...], call: Call
) -> None:
    both = ("--calibration", "jsonl:data.jsonl", "--data", "jsonl:other.jsonl", "--draws", "2")
    quick = ("--tables", "k,spearman", "--resamples", "20")
    begun = ("ablate", *cells, *both, *quick, "--out", "ablated")
    call(*begun)
    readings = Path("ablated/readings.jsonl").read_bytes()
    call(*begun, "--resamples", "30", "--strict")
    assert Path("ablated/readings.jsonl").read_bytes() == readings
    assert "--out" in call(*begun, "--tables", "k", code=2).stderr
    flattered = call(*begun[:-2], "--out", "same", "--data", "jsonl:data.jsonl")
    assert re.search(r"warning: heads were chosen on \d of the 6 scored", flattered.stderr)


def test_eval_notes_a_set_that_was_found_on_the_scored_data(
    asked: tuple[str, ...], cells: tuple[str, ...], call: Call
) -> None:
    for name in ("data", "other"):
        call("discover", *cells, "--data", f"jsonl:{name}.jsonl", "--name", name, "--out", name)
        kept = json.loads(call(*asked[:7], "--heads", f"{name}/{name}.yaml", "--json").stdout)
        told = [note for note in kept["notes"] if "found on these very samples" in note]
        assert [note.split()[0] for note in told] == ([name] if name == "data" else [])


def test_pictures_that_two_data_sets_share_are_counted(
    guide: Any, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide.run(0)
    assert capsys.readouterr().out.startswith("0 pictures stand in both")


def test_from_python_as_it_stands(
    guide: Any, world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide.run(1)
    shown = capsys.readouterr().out
    assert shown.startswith("| n = 10 |")
    assert "| embedded-paper |" in shown
    assert Path("out/python/eval.json").is_file()
    assert Path("out/python-compared/comparison.html").is_file()


def test_ablate_from_python_as_it_stands(
    guide: Any, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide.run(2)
    assert capsys.readouterr().out.startswith("1 ")
    assert {path.name for path in Path("out/ablated").iterdir()} == {"ablation.json", "report.html"}
