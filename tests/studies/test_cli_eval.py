"""`vg-engine eval`: on the embedded model, on cells, and killed at any moment."""

import itertools
import json
from functools import partial
from pathlib import Path

import commands
import numpy as np
import pytest

from vg_engine import load
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.evaluation.samples import Sample
from vg_engine.plugins.datasets.names import open_data

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1", "--data", "jsonl:data.jsonl")
QUICK = (*CELL, "--resamples", "20")


@pytest.fixture
def ask(shell):
    """Types eval where there are four sentences about three pictures, and one lost picture."""
    shell.pictures(range(3))
    cells = enumerate([(1, 2), (3, 3), (0, 5), (4, 4)])
    lines = [shell.line(number % 3, *cell) for number, cell in cells]
    shell.write([*lines, shell.line("none", 0, 0, id="lost")])
    return lambda *words, code=0: shell("eval", *words, code=code)


def test_the_embedded_model_is_scored_as_it_answers(shell) -> None:
    """Every row against an engine of its own that grounds the same sentences."""
    shell(
        "eval", "--limit", "6", "--out", "out", "--resamples", "50", "--random-draws", "3",
        "--heads", "embedded", "--heads", "L4H4,L3H1", "--heads", "auto",
    )  # fmt: skip
    kept = shell.records("out")
    records_of_data = itertools.islice(open_data("scenes?split=exam"), 6)
    samples = [one for one in records_of_data if isinstance(one, Sample)]
    assert [one["id"] for one in kept] == [sample.id for sample in samples]
    rows = ["embedded", "L4H4,L3H1", "auto"]
    for heads in rows:
        # A list of heads carries no prompt of its own: it is asked as the first row is.
        with load(heads=heads) as engine:
            answers = engine.ground_many([(sample.open(), sample.text) for sample in samples])
            for sample, record, given in zip(samples, kept, answers, strict=True):
                told = record["answers"][heads]
                assert np.allclose(told["boxes"], given.boxes, atol=0.51)
                assert np.allclose(told["point"], given.point, atol=1e-2)
                fit = float(iou(np.array(told["boxes"][0]), sample.boxes[0]))
                assert told["iou"] == pytest.approx(fit, abs=1e-4)
    numbers = shell.numbers("out", "eval.json")
    assert [row["name"] for row in numbers["table"]][:3] == rows
    mean = sum(one["answers"]["embedded"]["iou"] for one in kept) / 6
    fit = numbers["table"][0]["scores"]["miou"]
    assert fit["value"] == pytest.approx(mean, abs=1e-5)
    assert fit["low"] < fit["value"] < fit["high"]
    assert numbers["groups"]["kind"]["colour"]["n"] == 2
    page = Path("out/report.html").read_text()
    assert page.count("<article") == 12  # six worst and six best
    for words in ("Beside the controls", "best single head", "By group", "scenes?split=exam"):
        assert words in page


def test_what_is_said(ask, shell, monkeypatch) -> None:
    done = ask(*QUICK, "--out", "out")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["Pointing", "Acc@0.5", "mIoU"]
    assert lines[1].startswith("L2H1  ")
    assert " 1.000 [1.000, 1.000]" in lines[1]
    assert "\n4 sentences about 3 pictures" in done.stdout
    assert "note: 1 record could not be used, the first: lost: none.png: no such" in done.stderr
    assert "see out/eval.json" in done.stderr
    assert "note:" not in done.stdout
    assert lines[-1] == "out/report.html"
    assert "\x1b" not in done.stdout
    files = ["eval.json", "records.jsonl", "report.html"]
    assert sorted(path.name for path in Path("out").iterdir()) == files
    commands.whole_at_any_width(monkeypatch, partial(ask, *QUICK, "--out", "out"))
    # Once more: nothing is asked again, and the output is the same.
    again = ask(*QUICK, "--out", "out")
    assert again.stdout == done.stdout
    assert "goes on after 5 of 5" not in again.stderr
    # With --json in one line: what the file holds, and the same where there is no file.
    done = ask(*QUICK, "--out", "out", "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == shell.numbers("out", "eval.json")
    assert json.loads(line)["faults"]["count"] == 1
    assert ask(*QUICK, "--json").stdout == done.stdout
    assert sorted(path.name for path in Path.cwd().iterdir() if path.is_dir()) == ["out"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*CELL[:-1], "nowhere:x"), "no data set 'nowhere'"),
        ((*CELL[:-1], "scenes?split=training"), "never measured on"),
        ((*CELL[:-1], "jsonl:other.jsonl"), "no such file"),
        (CELL[:-2], "which sentences?"),
        ((*CELL, "--strict"), "--strict stops"),
        ((*CELL, "--heads", "nobody"), "no head set 'nobody'"),
        ((*CELL, "--heads", "L9H9"), "out of range"),
        ((*CELL, "--heads", "none.yaml"), "none.yaml"),
        ((*CELL, "--region", "nowhere"), "nowhere"),
        ((*CELL, "--limit", "0"), "--limit"),
        ((*CELL, "--random-draws", "0"), "--random-draws"),
        ((*CELL, "--out", "data.jsonl/x"), "cannot be written"),
        ((*CELL, "--entry", "x"), "--compare"),
        (("--compare", "a", "b", "--model", "x"), "leave --model out"),
        (("--compare", "a", "b"), "a holds no records.jsonl"),
    ],
)
def test_mistakes_are_one_line(ask, arguments, words) -> None:
    done = ask(*arguments, code=2)
    assert done.stdout == ""
    assert words in done.stderr


def test_heads_come_from_files_and_options_from_a_config(ask) -> None:
    Path("mine.yaml").write_text(
        "name: mine\nmodels: [cells]\nrule: paper\nheads: [{head: L3H0}, {head: L3H1}]\n"
    )
    Path("options.yaml").write_text(
        "heads: [L2H1, mine.yaml]\nresamples: 20\nno-oracle: true\ndata: jsonl:data.jsonl\n"
    )
    told = json.loads(ask(*CELL[:4], "--config", "options.yaml", "--json").stdout)
    rows = {row["name"]: row for row in told["table"]}
    assert list(rows)[:2] == ["L2H1", "mine"]
    assert rows["mine"]["description"] == "2 heads of layer 3, chosen by paper"
    assert "best single head" not in rows
    assert any("mine holds all 2 heads" in note for note in told["notes"])
