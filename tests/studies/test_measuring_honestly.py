"""What a hostile reader found: work on changed data, one bad sentence, scores that are too good."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from vg_engine.core.evaluation.intervals import paired
from vg_engine.core.evaluation.outcomes import Parts, on_both
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.studies.shared.fingerprint import fingerprint

EMBEDDED = Path(__file__).resolve().parents[2] / "registry/embedded"
both_works = pytest.mark.parametrize("work", ["discover", "eval"])


@pytest.fixture
def run(shell):
    """Runs a command on the cells, in a folder called like the command."""
    shell.pictures(range(6))
    data = ("--data", "jsonl:data.jsonl")

    def typed(work, *arguments, code=0):
        return shell(work, *shell.cell, *data, "--out", work, *arguments, code=code)

    return typed


@both_works
def test_work_on_another_list_of_records_is_not_gone_on_with(run, shell, work) -> None:
    """A mask that appears later makes one sample more, and moves all that follow."""
    shell.write([shell.line(0, 0, 2, mask="m.png"), *(shell.line(n, n, 2) for n in range(1, 6))])
    run(work)
    Image.fromarray(np.full((60, 60), 255, np.uint8)).save("m.png")
    done = run(work, code=2)
    assert "records" in done.stderr
    assert "--out" in done.stderr


@pytest.mark.parametrize("rule", ["paper", "sensitivity", "contrastive"])
def test_one_bad_sentence_costs_its_picture_nothing_else(run, shell, rule) -> None:
    lines = [shell.line(n, r, c) for n in range(4) for r, c in ((n, 1), (n, 4))]
    lines.insert(1, shell.line(0, 3, 3, text="broken"))
    shell.write(lines)
    done = run("discover", "--rule", rule, "--draws", "1", "--neutral", "0,0", "--k", "1")
    tables = shell.discovery("discover")
    assert tables["samples"]["measured"] == 8
    assert [one["id"] for one in tables["faults"]["first"]] == ["0-3-3"]
    assert done.stdout.startswith("L2H1")


def test_a_partner_that_cannot_be_used_is_replaced(run, shell) -> None:
    """The first sentence's partner has a box outside the picture; the third one will do."""
    partner = shell.line(0, 2, 2, box=[10, 10, 300, 20])
    shell.write([shell.line(0, 1, 1), partner, shell.line(0, 3, 3)])
    run("discover", "--rule", "sensitivity", "--draws", "1", "--k", "1")
    tables = shell.discovery("discover")
    assert tables["means"]["sensitivity"][tables["heads"].index("L2H1")] > 0.9
    assert tables["faults"]["count"] == 1


@both_works
def test_strict_sees_the_faults_of_an_earlier_run(run, shell, work) -> None:
    shell.write([shell.line(n, n, 2) for n in range(4)] + [shell.line(5, 1, 1, image="lost.png")])
    run(work)
    done = run(work, "--strict", code=2)
    assert "lost.png" in done.stderr
    assert "--strict" in done.stderr


@both_works
def test_two_files_under_one_pictures_name_are_told(run, shell, work) -> None:
    shell.write([shell.line(n, n, 2, picture="p" if n < 2 else f"q{n}") for n in range(4)])
    done = run(work)
    assert "was another file before (0.png)" in done.output
    assert "1 record" in done.output


def test_boxes_of_another_form_than_the_masks_are_told(run, shell) -> None:
    """The second box is x, y, width, height, the third in shares of the sides."""
    lines = [shell.line(n, 2, 2, mask=[[20, 20, 30, 20, 30, 30, 20, 30]]) for n in range(3)]
    for line, box in zip(lines[1:], ([20, 20, 50, 50], [0.3, 0.3, 0.5, 0.5]), strict=True):
        line["box"] = box
    shell.write(lines)
    run("eval")
    second, third = json.loads(Path("eval/eval.json").read_text())["faults"]["first"]
    assert "is far from its mask, which fills [20.0, 20.0, 30.0, 30.0]" in second["error"]
    assert "lies in one pixel" in third["error"]


def test_a_reader_may_fill_one_array_again_and_again() -> None:
    def records():
        image, boxes, groups = np.zeros((9, 9, 3), np.uint8), np.zeros((1, 4)), {}
        for n in range(2):
            image[:], boxes[:], groups["n"] = n, [n, n, 9, 9], str(n)
            yield Sample(str(n), str(n), image, "it", boxes, groups=groups)

    kept = list(DataSet("camera", records, revision="1"))
    assert [(one.image.max(), one.boxes[0, 0], one.groups["n"]) for one in kept] == [
        (0, 0, "0"),
        (1, 1, "1"),
    ]


def test_heads_that_were_found_on_the_scored_samples_are_told(run, shell) -> None:
    shell.write([shell.line(n, n, 2) for n in range(6)])
    done = run("discover", "--k", "500", "--name", "mine")
    assert "500 heads were asked for" in done.output
    run("discover", "--k", "1", "--name", "mine")
    done = run("eval", "--heads", "discover/mine.yaml")
    assert "mine was found on these very samples" in done.output
    shell.write([shell.line(n, n, 3) for n in range(6)])
    done = run("eval", "--heads", "discover/mine.yaml", "--out", "other")
    assert "found on these" not in done.output


def test_every_tensor_counts_for_a_models_fingerprint(tmp_path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    before = fingerprint(str(folder))
    assert before == fingerprint(str(EMBEDDED)), "wherever it lies"
    weights = load_file(folder / "model.safetensors")
    for name in list(weights)[:: len(weights) // 9]:
        changed = weights | {name: weights[name] * 2 + 1}
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        assert fingerprint(str(folder)) != before, name
    assert fingerprint("owner/name") is None


def test_a_difference_is_over_samples_that_judge_both() -> None:
    """Ten pictures where both hit; ten where A's peak is on ignored pixels and B misses."""
    hit, every = np.repeat([1.0, 0.0], 10), np.ones(20)
    a, b = Parts(hit, hit), Parts(hit, every)
    left, right = on_both("pointing", a, b)
    sides = (left.numerators, left.denominators, right.numerators, right.denominators)
    told = paired(*sides, list(range(20)))
    assert (told.difference, told.n) == (0.0, 10)
    assert not math.isnan(told.p)
    assert on_both("ciou", a, b) == (a, b), "an empty union is an answer"
