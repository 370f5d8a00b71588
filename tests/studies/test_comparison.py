"""`vg-engine eval --compare`: differences that can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import pytest

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import METRICS
from vg_engine.studies.compare.comparison import compare
from vg_engine.studies.compare.results import Comparison

SIDE = 60
# Per sample the answer's cell in A and in B, and the true cell; None: not scored by that side.
CELLS: list[tuple[str, int | None, int | None, int]] = [
    ("s0", 1, 1, 1),
    ("s1", 1, 5, 1),
    ("s2", 4, 5, 4),
    ("s3", 3, 2, 2),
    ("s4", 2, 3, 1),
    ("s5", 0, 1, 0),
    ("only a", 0, None, 0),
    ("only b", None, 0, 0),
]


def box(cell: int) -> list[int]:
    return [10 * cell, 0, 10 * cell + 10, 10]


def answer(cell: int, true: int) -> dict[str, Any]:
    right = cell == true
    return {
        "found": True, "boxes": [box(cell)], "point": [10 * cell + 5, 5], "score": 0.5,
        "iou": float(right), "hit": right, "inter": None, "union": None, "f1": float(right),
    }  # fmt: skip


def draws(cells: Sequence[int], true: int) -> dict[str, Any]:
    right = [cell == true for cell in cells]
    ious = [float(one) for one in right]
    hits = "".join("1" if one else "0" for one in right)
    return {"hit": hits, "iou": ious, "inter": None, "union": None, "f1": ious}


def entry(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "prompt": 0, "said": "", "heads": "", "draws": [], **more}


def write(folder: str, side: int, **changes: Any) -> Path:
    """An evaluation as its records say it, of side 0 or 1."""
    settings = {
        "model": "cells", "revision": None, "fingerprint": None, "adapter": "cell",
        "dtype": "float32", "region": "paper", "sigma": 1.0, "kernel": 7, "postprocess": [],
        "tool": "vg-engine 0", "entry": None, "data": "jsonl:data.jsonl", "data_revision": "r",
        "samples": 7, "faults": 1, "prompts": [{"form": "bare", "query_row": "x", "template": "y"}],
        "contestants": {
            "mine": entry("heads", heads="L2H1"),
            "random": entry("random", draws=["L2H0", "L2H1"]),
        },
        **changes.pop("settings", {}),
    }  # fmt: skip
    lines: list[dict[str, Any]] = []
    for name, *cells, true in CELLS:
        cell = cells[side]
        if cell is None:
            continue
        lines.append({
            "batch": len(lines), "of": 1, "id": name, "picture": f"{true}.png", "text": "the cell",
            "groups": {}, "size": [SIDE, SIDE], "boxes": [box(true)], "masked": False,
            "area": 100.0, "bucket": "small", **changes.get(name, {}),
            "answers": {"mine": answer(cell, true), "random": draws((cell, 0), true)},
        })  # fmt: skip
    lines.append({"batch": len(lines), "of": 1, "id": "lost", "error": "gone"})
    Path(folder).mkdir()
    head = {"journal": 1, "work": "eval", "key": "k", "settings": settings, "remarks": {}}
    text = "".join(f"{json.dumps(line)}\n" for line in (head, *lines))
    Path(folder, "records.jsonl").write_text(text)
    return Path(folder)


def of(found: Comparison, name: str) -> Any:
    (one,) = [one for one in found.differences if one.name == name]
    return one


@pytest.mark.usefixtures("shell")
def test_differences_are_those_of_what_both_scored() -> None:
    found = compare(write("a", 0), write("b", 1))
    both = [(a == true, b == true) for _, a, b, true in CELLS if None not in (a, b)]
    assert (found.n, found.pictures, found.a.alone, found.b.alone) == (6, 4, 1, 1)
    right = [sum(side) for side in zip(*both, strict=True)]
    accuracy = of(found, "acc@0.5")
    assert accuracy.a.value == pytest.approx(right[0] / 6)
    assert accuracy.b.value == pytest.approx(right[1] / 6)
    assert accuracy.paired.difference == pytest.approx((right[0] - right[1]) / 6)
    # A alone is right three times, B once: 2 x P(at most 1 of 4 coins).
    assert (accuracy.mcnemar.only_a, accuracy.mcnemar.only_b) == (3, 1)
    assert accuracy.mcnemar.p == pytest.approx(2 * (comb(4, 0) + comb(4, 1)) / 2**4)
    assert of(found, "miou").mcnemar is None
    assert {one.name for one in found.differences} == {
        "acc@0.25", "acc@0.5", "acc@0.75", "miou", "pointing",
    }  # fmt: skip
    assert [one.record["id"] for one in found.a_better] == ["s1", "s2", "s5"]
    assert [(one.record["id"], one.gain) for one in found.b_better] == [("s3", -1.0)]
    assert found.notes == (
        "1 sample was scored by A alone and left out",
        "1 sample was scored by B alone and left out",
    )


@pytest.mark.usefixtures("shell")
def test_the_other_way_round_everything_changes_its_sign() -> None:
    a, b = write("a", 0), write("b", 1)
    found, turned = compare(a, b), compare(b, a)
    for one in METRICS:
        if one.name in {each.name for each in found.differences}:
            first, second = of(found, one.name).paired, of(turned, one.name).paired
            assert first.difference == pytest.approx(-second.difference)
            assert (first.low, first.high) == pytest.approx((-second.high, -second.low))
            assert first.p == second.p
    assert [one.record["id"] for one in turned.b_better] == ["s1", "s2", "s5"]


@pytest.mark.usefixtures("shell")
def test_rows_are_named() -> None:
    a, b = write("a", 0), write("b", 1)
    found = compare(a, b, rows=["random"])
    # Per sample the mean of the two draws: the answer's cell, and cell 0.
    expected = [((a == t) + (t == 0)) / 2 for _, a, b, t in CELLS if None not in (a, b)]
    assert of(found, "acc@0.5").a.value == pytest.approx(sum(expected) / 6)
    assert of(found, "acc@0.5").mcnemar is None
    assert found.a_better == found.b_better == ()
    within = compare(a, a, rows=["mine", "random"])
    assert (within.n, within.a.alone) == (7, 0)
    with pytest.raises(InputError, match="the same row of the same evaluation"):
        compare(a, a)
    with pytest.raises(InputError, match=r"no row 'mein'; did you mean mine"):
        compare(a, b, rows=["mein"])
    with pytest.raises(InputError, match="one name, or two"):
        compare(a, b, rows=["mine"] * 3)


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(
    "change",
    [{"boxes": [box(5)]}, {"text": "the other"}, {"picture": "x.png"}, {"size": [9, 9]}],
)
def test_another_truth_is_refused(change: dict[str, Any]) -> None:
    a, b = write("a", 0), write("b", 1, s2=change)
    with pytest.raises(InputError, match="sample s2 has another truth"):
        compare(a, b)


@pytest.mark.usefixtures("shell")
def test_other_data_and_unfinished_work_are_told_or_refused() -> None:
    a = write("a", 0)
    b = write("b", 1, settings={"data_revision": "q", "samples": 9, "region": "otsu"})
    notes = compare(a, b).notes
    assert any("two revisions" in note for note in notes)
    assert any("B is not finished: 8 of 10 records" in note for note in notes)
    assert "region: A paper, B otsu" in notes
    other = write("c", 1)
    lines = (other / "records.jsonl").read_text().splitlines()
    renamed = [line.replace('"id": "', '"id": "other ') for line in lines]
    (other / "records.jsonl").write_text("\n".join(renamed) + "\n")
    with pytest.raises(InputError, match="no sample in common"):
        compare(a, other)


@pytest.mark.usefixtures("shell")
def test_a_torn_end_is_left_out_and_other_files_are_refused() -> None:
    a, b = write("a", 0), write("b", 1)
    with (b / "records.jsonl").open("a") as file:
        file.write('{"batch": 99, "of": 2, "id": "half"}\n{"batch": 99, "o')
    assert compare(a, b).n == 6
    (b / "eval.json").touch()
    assert compare(a / "records.jsonl", b / "eval.json").n == 6  # any file of the folder is meant
    for text in ("", "no json", '{"journal": 1, "work": "discover", "settings": {}}'):
        (b / "records.jsonl").write_text(text)
        with pytest.raises(InputError, match="is no evaluation"):
            compare(a, b)
    with pytest.raises(InputError, match=r"holds no records\.jsonl"):
        compare(a, Path("nowhere"))


def test_the_command_writes_numbers_and_pictures(shell: Any) -> None:
    write("a", 0)
    write("b", 1)
    shell.pictures({true for *_, true in CELLS})
    shell.write([shell.line(true, 0, true, id=name, text="x") for name, *_, true in CELLS])
    done = shell.evaluate("--compare", "a", "b", "--out", "out", "--resamples", "50")
    assert done.stdout.splitlines()[0].split() == ["A", "B", "A", "-", "B", "p", "McNemar"]
    assert done.stdout.splitlines()[-1] == "out/comparison.html"
    assert "A: mine of a" in done.stdout
    assert "1 sample was scored by B alone" in done.stdout
    numbers = json.loads(Path("out/comparison.json").read_text())
    assert numbers["differences"]["acc@0.5"]["mcnemar"] == {"only_a": 3, "only_b": 1, "p": 0.625}
    told = shell.evaluate("--compare", "a", "b", "--resamples", "50", "--json")
    assert json.loads(told.stdout) == numbers
    # The data set has another revision than what was scored: that is said in place of pictures.
    page = Path("out/comparison.html").read_text()
    assert "has changed since" in page
    assert "<article" not in page
    revision = _revision()
    for folder in ("a", "b"):
        path = Path(folder, "records.jsonl")
        text = path.read_text().replace('"data_revision": "r"', f'"data_revision": "{revision}"')
        path.write_text(text)
    found = compare("a", "b")
    found.save("saved")
    page = Path("saved/comparison.html").read_text()
    assert page.count("<article") == 4
    assert "A does better" in page
    assert "B does better" in page
    Path("data.jsonl").unlink()
    found.save("saved")
    page = Path("saved/comparison.html").read_text()
    assert "not all pictures are shown" in page


def _revision() -> str:
    from vg_engine.plugins.datasets.names import open_data

    return open_data("jsonl:data.jsonl").revision
