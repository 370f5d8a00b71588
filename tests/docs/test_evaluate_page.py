"""docs/evaluate.md and docs/metrics.md: commands run, tables and files are what the code makes."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from vg_engine.core.contract.model import FIRST_LAYER
from vg_engine.core.contract.prompt import QUERY_ROWS
from vg_engine.core.evaluation.outcomes import METRICS
from vg_engine.studies.ablate import ablation, calibration
from vg_engine.studies.ablate import tables as planned
from vg_engine.studies.evaluate import best_head, entries, tables

# Another value for each option that a run over the same folder may or may not change.
FREE = "--resamples 9, --strict, --max-pixels 1000000, --json"
REFUSED = (
    "--data jsonl:other.jsonl, --limit 3, --heads L3H0, --random-draws 2, --no-oracle, --seed 1, "
    "--region otsu, --query-row prompt_last, --batch-size 3"
)


@pytest.fixture
def guide(page):
    return page("evaluate.md")


@pytest.fixture
def keys(guide):
    """The names that stand in the first column of a table."""
    return lambda table: {key for row in guide.table(table) for key in guide.quoted(row[0])}


@pytest.fixture
def asked(six, cells):
    """A run that takes no time, on six pictures with two sentences each."""
    more = ("--heads", "L2H1", "--heads", "auto", "--resamples", "20")
    return ("eval", *cells, "--data", "jsonl:data.jsonl", "--out", "out", *more)


def test_its_commands_run(guide, world, call, keys) -> None:
    for command in guide.commands:
        if command[0] == "ablate" and "--calibration" not in command:
            command += ["--calibration", "scenes?split=calibration&n=8"]
        if "--limit" in command:
            command += ["--limit", "4"]  # the last one counts
        if command[0] != "discover":
            command += ["--resamples", "50"]
        assert call(*command).stdout.strip(), command
    tables = {"exam": "files", "compared": "comparison files", "ablate": "ablate files"}
    for folder, name in tables.items():
        assert {path.name for path in Path("out", folder).iterdir()} == keys(name)


def test_files_hold_the_keys_that_are_told(guide, asked, call, keys) -> None:
    done = call(*asked, "--json")
    kept = json.loads(Path("out/eval.json").read_text())
    assert json.loads(done.stdout) == kept
    rows = guide.table("eval.json")
    inner = {key: set(guide.quoted(row[1])) for row in rows for key in guide.quoted(row[0])}
    assert set(inner) == set(kept)
    assert inner["table"] == {*kept["table"][0], *kept["table"][0]["scores"]["pointing"]}
    assert inner["against_first"] == set(kept["against_first"][0]["differences"]["pointing"])
    assert inner["faults"] == set(kept["faults"])
    record = json.loads(Path("out/records.jsonl").read_text().splitlines()[1])
    assert keys("records.jsonl") == set(record)
    assert keys("answer") == set(record["answers"]["L2H1"])
    for name in (entries.SINGLE, "random: 1 head of layer 2"):
        answer = record["answers"][name]
        assert set(answer) == {"hit", "iou", "inter", "union", "f1"}
        assert set(answer["hit"]) <= set("10-")


def test_every_row_is_told(guide, asked, call) -> None:
    call(*asked, "--postprocess", "sure")
    kept = json.loads(Path("out/eval.json").read_text())
    names = [guide.quoted(row[0])[0] for row in guide.table("entries")]
    found = {}
    for row in kept["table"]:
        fitting = []
        for name in names:
            pattern = re.escape(name).replace("NAME", "L2H1").replace(re.escape("..."), ".+")
            fitting += [name] if re.fullmatch(pattern, row["name"]) else []
        (told,) = fitting
        found.setdefault(told, set()).add(row["kind"])
    assert set(found) == set(names)
    assert set().union(*found.values()) == set(get_args(entries.Kind))


def test_the_numbers_in_its_sentences_are_the_codes(guide, taken) -> None:
    text = " ".join(guide.text.split())
    for sentence in (
        f"With more than {best_head.FEW} heads",
        f"on the first {best_head.FIRST} samples, the best {best_head.LEFT} on the rest",
        f"the mean of {taken('eval')['--random-draws']} draws",
        f"95 % of {int(taken('eval')['--resamples']):,} resamples",
        f"more than {100 * entries._MANY_SHARED:.0f} % of its layers' heads",
        f"all heads from layer {FIRST_LAYER} on",
        "half of each side",
    ):
        assert sentence in text, sentence
    assert entries.CENTRE_SHARE == 0.5


def test_the_metrics_stand_with_their_names(guide, page) -> None:
    names = [one.name for one in METRICS]
    (listed,) = re.findall(r"The metrics are (.+?)\.\s+The terminal", guide.text, re.DOTALL)
    assert guide.quoted(listed) == names
    accuracies = {name for name in names if name.startswith("acc@")}
    assert set(names) - set(tables.SHORT) == accuracies - {"acc@0.5"}, "what a terminal leaves out"
    (block,) = re.findall(r"(?ms)^(\| name \| title .+?\n)\n", page("metrics.md").text)
    titles = {name: row[1] for row in guide.rows(block)[1:] for name in guide.quoted(row[0])}
    titles |= {
        name: titles[name].replace("Acc@t", f"Acc@{name.removeprefix('acc@')}") for name in titles
    }
    assert titles == {one.name: one.title for one in METRICS}


def test_the_tables_of_ablate_are_the_codes(guide) -> None:
    rows = guide.table("tables")
    description = {guide.quoted(row[0])[0]: row[1] for row in rows}
    assert list(description) == [*ablation.TABLES, *ablation.DEARER]
    chosen = [row[2].partition(":")[0] for row in rows]
    assert chosen == ["yes"] * len(ablation.TABLES) + ["no"] * len(ablation.DEARER)
    listed = {"k": planned.COUNTS, "sigma": planned.SIGMAS, "kernel": planned.KERNELS}
    for name, values in listed.items():
        assert ", ".join(f"{value:g}" for value in values) in description[name]
    assert f"{calibration.VOTES[0]} to {calibration.VOTES[-1]} votes" in description["per_sample"]
    assert guide.quoted(description["entropy"]) == list(calibration.ENTROPIES)
    assert guide.quoted(description["query_row"]) == list(QUERY_ROWS[:-1])


def test_what_may_be_changed_in_the_same_folder(guide, asked, call) -> None:
    free, refused = ([one.split() for one in text.split(", ")] for text in (FREE, REFUSED))
    (told,) = re.findall(r"In the same folder `eval` takes another (.+?);", guide.text, re.DOTALL)
    assert set(guide.quoted(told)) == {change[0] for change in free}
    call(*asked)
    records = Path("out/records.jsonl").read_bytes()
    for change in (*free, *refused):
        done = call(*asked, *change, code=2 if change in refused else 0)
        assert change in free or "choose another folder with --out" in done.stderr, change
        assert Path("out/records.jsonl").read_bytes() == records


def test_its_python_blocks_run_as_they_stand(guide, world, capsys) -> None:
    guide.run(0)
    assert capsys.readouterr().out.startswith("0 pictures stand in both")
    guide.run(1)
    shown = capsys.readouterr().out
    assert shown.startswith("| n = 10 |")
    assert "| embedded-paper |" in shown
    assert Path("out/python/eval.json").is_file()
    assert Path("out/python-compared/comparison.html").is_file()
    guide.run(2)
    assert capsys.readouterr().out.startswith("1 ")
    assert {path.name for path in Path("out/ablated").iterdir()} == {"ablation.json", "report.html"}
