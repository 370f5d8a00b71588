"""`vg-engine eval`: on the embedded model, on cells, and killed at any moment."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vg_engine import load
from vg_engine.core.contract.results import Grounding
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.evaluation.samples import Sample
from vg_engine.plugins.datasets.names import open_data

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1", "--data", "jsonl:data.jsonl")
FILES = ("eval.json", "records.jsonl", "report.html")


@pytest.fixture
def data(shell: Any) -> None:
    """Four sentences about three pictures, and a record that cannot be used."""
    shell.pictures(range(3))
    cells = enumerate([(1, 2), (3, 3), (0, 5), (4, 4)])
    lines = [shell.line(number % 3, *cell) for number, cell in cells]
    shell.write([*lines, shell.line("none", 0, 0, id="lost")])


def test_the_embedded_model_is_scored_as_it_answers(shell: Any) -> None:
    """Every row against an engine of its own that grounds the same sentences."""
    shell.evaluate(
        "--limit", "6", "--out", "out", "--resamples", "50", "--random-draws", "3",
        "--heads", "embedded", "--heads", "L4H4,L3H1", "--heads", "auto",
    )  # fmt: skip
    kept = shell.records("out")
    records_of_data = itertools.islice(open_data("scenes?split=exam"), 6)
    samples = [one for one in records_of_data if isinstance(one, Sample)]
    assert [one["id"] for one in kept] == [sample.id for sample in samples]
    for heads, name in (("embedded", "embedded"), ("L4H4,L3H1", "L4H4,L3H1"), ("auto", "auto")):
        # A list of heads carries no prompt of its own: it is asked as the first row is.
        with load(heads=heads) as engine:
            requests = [(sample.open(), sample.text) for sample in samples]
            for sample, record, given in zip(
                samples, kept, engine.ground_many(requests), strict=True
            ):
                assert isinstance(given, Grounding)
                assert sample.boxes is not None
                told = record["answers"][name]
                assert np.allclose(told["boxes"], given.boxes, atol=0.51)
                assert np.allclose(told["point"], given.point, atol=1e-2)
                fit = float(iou(np.array(told["boxes"][0]), sample.boxes[0]))
                assert told["iou"] == pytest.approx(fit, abs=1e-4)
    numbers = json.loads(Path("out/eval.json").read_text())
    assert [row["name"] for row in numbers["table"]][:3] == ["embedded", "L4H4,L3H1", "auto"]
    mean = sum(one["answers"]["embedded"]["iou"] for one in kept) / 6
    scores = numbers["table"][0]["scores"]
    assert scores["miou"]["value"] == pytest.approx(mean, abs=1e-5)
    assert scores["miou"]["low"] < scores["miou"]["value"] < scores["miou"]["high"]
    assert numbers["groups"]["kind"]["colour"]["n"] == 2
    page = Path("out/report.html").read_text()
    assert page.count("<article") == 12  # six worst and six best
    for words in ("Beside the controls", "best single head", "By group", "scenes?split=exam"):
        assert words in page


@pytest.mark.usefixtures("data")
def test_what_is_said(shell: Any) -> None:
    done = shell.evaluate(*CELL, "--out", "out", "--resamples", "20")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["Pointing", "Acc@0.5", "mIoU"]
    assert lines[1].startswith("L2H1  ")
    assert " 1.000 [1.000, 1.000]" in lines[1]
    assert any(line.startswith("4 sentences about 3 pictures") for line in lines)
    assert any("1 record could not be used, the first: lost: none.png: no such" in x for x in lines)
    assert any("see out/eval.json" in line for line in lines)
    assert lines[-1] == "out/report.html"
    assert "\x1b" not in done.stdout
    assert sorted(path.name for path in Path("out").iterdir()) == list(FILES)
    # Once more: nothing is asked again, and the same is said.
    again = shell.evaluate(*CELL, "--out", "out", "--resamples", "20")
    assert again.stdout == done.stdout
    assert "goes on after 5 of 5" not in again.stderr


@pytest.mark.usefixtures("data")
def test_json_is_one_line_and_what_the_file_holds(shell: Any) -> None:
    done = shell.evaluate(*CELL, "--out", "out", "--resamples", "20", "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == json.loads(Path("out/eval.json").read_text())
    assert json.loads(line)["faults"]["count"] == 1
    without = shell.evaluate(*CELL, "--resamples", "20", "--json")
    assert without.stdout == done.stdout
    assert sorted(path.name for path in Path.cwd().iterdir() if path.is_dir()) == ["out"]


@pytest.mark.usefixtures("data")
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
        ((*CELL, "--contestant", "x"), "--compare"),
        (("--compare", "a", "b", "--model", "x"), "leave --model out"),
        (("--compare", "a", "b"), "a holds no records.jsonl"),
    ],
)
def test_mistakes_are_one_line(shell: Any, arguments: tuple[str, ...], words: str) -> None:
    done = shell.evaluate(*arguments, code=2)
    assert done.stdout == ""
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.usefixtures("data")
def test_heads_come_from_files_and_options_from_a_config(shell: Any) -> None:
    Path("mine.yaml").write_text(
        "name: mine\nmodels: [cells]\nmode: paper\nheads: [{head: L3H0}, {head: L3H1}]\n"
    )
    Path("options.yaml").write_text(
        "heads: [L2H1, mine.yaml]\nresamples: 20\nno-oracle: true\ndata: jsonl:data.jsonl\n"
    )
    done = shell.evaluate(*CELL[:4], "--config", "options.yaml", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["table"]}
    assert list(rows)[:2] == ["L2H1", "mine"]
    assert rows["mine"]["said"] == "2 heads of layer 3, chosen by paper"
    assert "best single head" not in rows
    assert any("mine holds all 2 heads" in x for x in json.loads(done.stdout)["notes"])
