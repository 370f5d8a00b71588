"""`vg-engine eval`: on the embedded model, on cells, and killed at any moment."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from vg_engine import load
from vg_engine.cli.main import app
from vg_engine.core.contract.results import Grounding
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.evaluation.samples import Sample
from vg_engine.plugins.datasets.names import open_data

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1", "--data", "jsonl:data.jsonl")
FILES = ("eval.json", "records.jsonl", "report.html")


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def records(folder: str) -> list[dict[str, Any]]:
    lines = Path(folder, "records.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four sentences about three pictures, and a record that cannot be used."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    lines = []
    for number, (row, column) in enumerate([(1, 2), (3, 3), (0, 5), (4, 4)]):
        Image.fromarray(pixels).save(f"{number % 3}.png")
        box = [10 * column, 10 * row, 10 * column + 10, 10 * row + 10]
        lines.append({"image": f"{number % 3}.png", "text": f"{row},{column}", "box": box})
    lines.append({"id": "lost", "image": "none.png", "text": "0,0", "box": [0, 0, 9, 9]})
    Path("data.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return tmp_path


def test_the_embedded_model_is_scored_as_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row against an engine of its own that grounds the same sentences."""
    monkeypatch.chdir(tmp_path)
    done = evaluate(
        "--limit", "6", "--out", "out", "--resamples", "50", "--random-draws", "3",
        "--heads", "embedded", "--heads", "L4H4,L3H1", "--heads", "auto",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    kept = records("out")
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
def test_what_is_said() -> None:
    done = evaluate(*CELL, "--out", "out", "--resamples", "20")
    assert done.exit_code == 0, done.output
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
    again = evaluate(*CELL, "--out", "out", "--resamples", "20")
    assert again.stdout == done.stdout
    assert "goes on after 5 of 5" not in again.stderr


@pytest.mark.usefixtures("data")
def test_json_is_one_line_and_what_the_file_holds() -> None:
    done = evaluate(*CELL, "--out", "out", "--resamples", "20", "--json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == json.loads(Path("out/eval.json").read_text())
    assert json.loads(line)["faults"]["count"] == 1
    without = evaluate(*CELL, "--resamples", "20", "--json")
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
def test_mistakes_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = evaluate(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.usefixtures("data")
def test_heads_come_from_files_and_options_from_a_config() -> None:
    Path("mine.yaml").write_text(
        "name: mine\nmodels: [cells]\nmode: paper\nheads: [{head: L3H0}, {head: L3H1}]\n"
    )
    Path("options.yaml").write_text(
        "heads: [L2H1, mine.yaml]\nresamples: 20\nno-oracle: true\ndata: jsonl:data.jsonl\n"
    )
    done = evaluate(*CELL[:4], "--config", "options.yaml", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads(done.stdout)["table"]}
    assert list(rows)[:2] == ["L2H1", "mine"]
    assert rows["mine"]["said"] == "2 heads of layer 3, chosen by paper"
    assert "best single head" not in rows
    assert any("mine holds all 2 heads" in x for x in json.loads(done.stdout)["notes"])


SCORE = """
import sys, torch
torch.set_num_threads(1)
from vg_engine import load
from vg_engine.measure.evaluation import Settings, evaluate
with load(batch_size=2) as engine:
    evaluate(engine, "scenes?split=exam", sys.argv[1], remarks={"date": "2026-01-01"},
             settings=Settings(limit=12, draws=3, resamples=50))
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_again_and_again(folder: Path, kills: int, seed: int) -> int:
    """Score, killed when so many records are there or a while later; then to the end."""
    rng = random.Random(seed)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    journal = folder / "records.jsonl"
    killed = 0
    for _ in range(kills):
        there = journal.stat().st_size if journal.exists() else 0
        more = rng.randrange(1, 5000)
        work = subprocess.Popen([sys.executable, "-c", SCORE, str(folder)], env=environment)
        while work.poll() is None:
            if journal.exists() and journal.stat().st_size >= there + more:
                work.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.001)
        assert work.wait() in (0, -signal.SIGKILL)
    subprocess.run([sys.executable, "-c", SCORE, str(folder)], env=environment, check=True)
    return killed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run([sys.executable, "-c", SCORE, str(folder)], check=True)
    return files(folder)


def test_a_killed_run_ends_as_one_that_was_not(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    assert kill_again_and_again(tmp_path, kills=2, seed=1) >= 1
    assert files(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_one_that_was_not(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    assert kill_again_and_again(tmp_path, kills=10, seed=2) >= 3
    assert files(tmp_path) == undisturbed
