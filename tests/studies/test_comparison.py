"""`vg-engine eval --compare`: differences that can be counted by hand."""

import json
from functools import partial
from math import comb
from pathlib import Path

import commands
import pytest

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets.names import open_data
from vg_engine.studies.compare.comparison import compare

# Per sample the answer's cell in A and in B, and the true cell; None: not scored by that side.
CELLS = [
    *(("s0", 1, 1, 1), ("s1", 1, 5, 1), ("s2", 4, 5, 4), ("s3", 3, 2, 2), ("s4", 2, 3, 1)),
    *(("s5", 0, 1, 0), ("only a", 0, None, 0), ("only b", None, 0, 0)),
]
# Whether A and B are right, and the true cell, where both were scored.
BOTH = [(a == true, b == true, true) for _, a, b, true in CELLS if None not in (a, b)]
pytestmark = pytest.mark.usefixtures("shell")


def box(cell):
    return [10 * cell, 0, 10 * cell + 10, 10]


def answer(cell, true):
    right = cell == true
    return {
        "found": True, "boxes": [box(cell)], "point": [10 * cell + 5, 5], "score": 0.5,
        "iou": float(right), "hit": right, "inter": None, "union": None, "f1": float(right),
    }  # fmt: skip


def draws(cells, true):
    ious = [float(cell == true) for cell in cells]
    hits = "".join(f"{one:.0f}" for one in ious)
    return {"hit": hits, "iou": ious, "inter": None, "union": None, "f1": ious}


def write(folder, side, settings=None, **changes):
    """An evaluation as its records say it, of side 0 or 1."""
    entry = {"prompt": 0, "description": "", "heads": "", "draws": []}
    held = {
        "model": "cells", "revision": None, "fingerprint": None, "adapter": "cell",
        "dtype": "float32", "region": "paper", "sigma": 1.0, "kernel": 7, "postprocess": [],
        "tool": "vg-engine 0", "entry": None, "data": "jsonl:data.jsonl", "data_revision": "r",
        "samples": 7, "faults": 1, "prompts": [{"form": "bare", "query_row": "x", "template": "y"}],
        "entries": {
            "mine": entry | {"kind": "heads", "heads": "L2H1"},
            "random": entry | {"kind": "random", "draws": ["L2H0", "L2H1"]},
        },
        **(settings or {}),
    }  # fmt: skip
    lines = []
    for name, *cells, true in CELLS:
        cell = cells[side]
        if cell is None:
            continue
        lines.append({
            "batch": len(lines), "of": 1, "id": name, "picture": f"{true}.png", "text": "the cell",
            "groups": {}, "size": [60, 60], "boxes": [box(true)], "masked": False,
            "area": 100.0, "bucket": "small", **changes.get(name, {}),
            "answers": {"mine": answer(cell, true), "random": draws((cell, 0), true)},
        })  # fmt: skip
    lines.append({"batch": len(lines), "of": 1, "id": "lost", "error": "gone"})
    Path(folder).mkdir()
    head = {"journal": 1, "work": "eval", "key": "k", "settings": held, "remarks": {}}
    text = "".join(f"{json.dumps(line)}\n" for line in (head, *lines))
    Path(folder, "records.jsonl").write_text(text)
    return Path(folder)


def replace(folder, old, new):
    path = Path(folder, "records.jsonl")
    path.write_text(path.read_text().replace(old, new))


def of(found, name):
    (one,) = [one for one in found.differences if one.name == name]
    return one


def ids(better):
    return [one.record["id"] for one in better]


def test_differences_are_those_of_what_both_scored() -> None:
    a, b = write("a", 0), write("b", 1)
    found, turned = compare(a, b), compare(b, a)
    assert (found.n, found.pictures, found.a.alone, found.b.alone) == (6, 4, 1, 1)
    right = [sum(both[side] for both in BOTH) for side in (0, 1)]
    accuracy = of(found, "acc@0.5")
    assert accuracy.a.value == pytest.approx(right[0] / 6)
    assert accuracy.b.value == pytest.approx(right[1] / 6)
    assert accuracy.paired.difference == pytest.approx((right[0] - right[1]) / 6)
    # A alone is right three times, B once: 2 x P(at most 1 of 4 coins).
    assert (accuracy.mcnemar.only_a, accuracy.mcnemar.only_b) == (3, 1)
    assert accuracy.mcnemar.p == pytest.approx(2 * (comb(4, 0) + comb(4, 1)) / 2**4)
    assert of(found, "miou").mcnemar is None
    metrics = {"acc@0.25", "acc@0.5", "acc@0.75", "miou", "pointing"}
    assert {one.name for one in found.differences} == metrics
    assert ids(found.a_better) == ids(turned.b_better) == ["s1", "s2", "s5"]
    assert [(one.record["id"], one.gain) for one in found.b_better] == [("s3", -1.0)]
    alone = "1 sample was scored by {} alone and left out"
    assert found.notes == (alone.format("A"), alone.format("B"))
    # The other way round everything changes its sign.
    for name in metrics:
        first, second = of(found, name).paired, of(turned, name).paired
        assert first.difference == pytest.approx(-second.difference)
        assert (first.low, first.high) == pytest.approx((-second.high, -second.low))
        assert first.p == second.p


def test_rows_are_named() -> None:
    a, b = write("a", 0), write("b", 1)
    found = compare(a, b, entries=["random"])
    # Per sample the mean of the two draws: the answer's cell, and cell 0.
    expected = [(right + (true == 0)) / 2 for right, _, true in BOTH]
    assert of(found, "acc@0.5").a.value == pytest.approx(sum(expected) / 6)
    assert of(found, "acc@0.5").mcnemar is None
    assert found.a_better == found.b_better == ()
    within = compare(a, a, entries=["mine", "random"])
    assert (within.n, within.a.alone) == (7, 0)
    with pytest.raises(InputError, match="the same row of the same evaluation"):
        compare(a, a)
    with pytest.raises(InputError, match=r"no row 'mein'; did you mean mine"):
        compare(a, b, entries=["mein"])
    with pytest.raises(InputError, match="one name, or two"):
        compare(a, b, entries=["mine"] * 3)


def test_another_truth_is_refused() -> None:
    a = write("a", 0)
    changes = {"boxes": [box(5)], "text": "the other", "picture": "x.png", "size": [9, 9]}
    for name, value in changes.items():
        b = write(name, 1, s2={name: value})
        with pytest.raises(InputError, match="sample s2 has another truth"):
            compare(a, b)


def test_other_data_and_unfinished_work_are_told_or_refused() -> None:
    a = write("a", 0)
    b = write("b", 1, settings={"data_revision": "q", "samples": 9, "region": "otsu"})
    notes = compare(a, b).notes
    assert any("two revisions" in note for note in notes)
    assert any("B is not finished: 8 of 10 records" in note for note in notes)
    assert "region: A paper, B otsu" in notes
    replace("b", '"id": "', '"id": "other ')
    with pytest.raises(InputError, match="no sample in common"):
        compare(a, b)


def test_a_torn_end_is_left_out_and_other_files_are_refused() -> None:
    a, b = write("a", 0), write("b", 1)
    with (b / "records.jsonl").open("a") as file:
        file.write('{"batch": 99, "of": 2, "id": "half"}\n{"batch": 99, "o')
    assert compare(a, b).n == 6
    (b / "eval.json").touch()
    assert compare(a / "records.jsonl", b / "eval.json").n == 6  # any file of the folder is meant
    twice = write("twice", 1)
    first, *batches = (twice / "records.jsonl").read_text().splitlines(keepends=True)
    (twice / "records.jsonl").write_text("".join([first, *batches, *batches]))
    assert compare(a, twice).notes == compare(a, b).notes
    replace("b", '"answers": ', '"answer": ')
    with pytest.raises(InputError, match="holds a record that eval does not write"):
        compare(a, b)
    other = '{"journal": 0, "work": "eval", "settings": {"entries": {}}}'
    for text in ("", "no json", '{"journal": 1, "work": "discover", "settings": {}}', other):
        (b / "records.jsonl").write_text(text)
        with pytest.raises(InputError, match="is no evaluation"):
            compare(a, b)
    with pytest.raises(InputError, match=r"holds no records\.jsonl"):
        compare(a, Path("nowhere"))


def test_the_command_writes_numbers_and_pictures(shell, monkeypatch) -> None:
    write("a", 0)
    write("b", 1)
    shell.pictures({true for *_, true in CELLS})
    shell.write([shell.line(true, 0, true, id=name, text="x") for name, *_, true in CELLS])
    command = ("eval", "--compare", "a", "b", "--resamples", "50")
    done = shell(*command, "--out", "out")
    assert done.stdout.splitlines()[0].split() == ["A", "B", "A", "-", "B", "p", "McNemar"]
    assert done.stdout.splitlines()[-1] == "out/comparison.html"
    assert "A: mine of a" in done.stdout
    assert "1 sample was scored by B alone" in done.stderr
    commands.whole_at_any_width(monkeypatch, partial(shell, *command))
    numbers = shell.numbers("out", "comparison.json")
    assert numbers["differences"]["acc@0.5"]["mcnemar"] == {"only_a": 3, "only_b": 1, "p": 0.625}
    assert json.loads(shell(*command, "--json").stdout) == numbers
    # The data set has another revision than what was scored: the page says so.
    page = Path("out/comparison.html").read_text()
    assert "has changed since" in page
    assert "<article" not in page
    for folder in ("a", "b"):
        revision = open_data("jsonl:data.jsonl").revision
        replace(folder, '"data_revision": "r"', f'"data_revision": "{revision}"')
    found = compare("a", "b")
    found.save("saved")
    page = Path("saved/comparison.html").read_text()
    assert page.count("<article") == 4
    assert "A does better" in page
    assert "B does better" in page
    Path("data.jsonl").unlink()
    found.save("saved")
    assert "not all pictures are shown" in Path("saved/comparison.html").read_text()
