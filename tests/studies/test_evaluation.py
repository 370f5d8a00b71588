"""`vg_engine.evaluate`: tables that hands can work out, and work that is stopped."""

import json
import math
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vg_engine import load
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.heads import HeadSet, parse_heads
from vg_engine.core.readout.regions import GridRegion
from vg_engine.studies.evaluate.evaluation import EvaluateSettings, evaluate

SIDE = 60
QUICK = EvaluateSettings(resamples=20)
DATE = {"date": "2026-01-01"}


def one_cell(values: np.ndarray) -> GridRegion:
    """The first of the largest cells, exactly: boxes can be worked out by hand."""
    row, column = divmod(int(np.argmax(values)), values.shape[1])
    mask = np.zeros(values.shape, dtype=np.bool_)
    mask[row, column] = True
    box = (float(column), float(row), column + 1.0, row + 1.0)
    return GridRegion(box, mask, (column + 0.5, row + 0.5), float(values[row, column]))


@pytest.fixture
def score(shell):
    """Evaluates an engine on cells (`engine`: its settings) on lines about four pictures."""
    shell.pictures("abcd")
    with ExitStack() as engines:

        def scored(lines=None, out=None, *, settings=QUICK, engine=None, **more):
            given = {"adapter": "cell", "heads": "L2H1", "region": one_cell} | (engine or {})
            made = engines.enter_context(load("cells", **given))
            data = shell.write(FOUR if lines is None else lines)
            return evaluate(made, data, out, settings=settings, **more)

        yield scored


# The answer is the named cell (row, column). Its IoU with the truth: 1, 1/2, 0, 1/4.
FOUR = [
    {"id": "s1", "image": "a.png", "text": "1,2", "box": [20, 10, 30, 20], "groups": {"k": "x"}},
    {"id": "s2", "image": "b.png", "text": "3,3", "box": [30, 30, 50, 40], "groups": {"k": "y"}},
    {"id": "s3", "image": "c.png", "text": "0,5", "box": [0, 0, 10, 10], "groups": {"k": "x"}},
    {"id": "s4", "image": "a.png", "text": "4,4", "box": [40, 40, 60, 60]},
]
WRONG = {"id": "wrong", "image": "b.png", "text": "broken", "box": [0, 0, 9, 9]}


def values(found, row):
    (scores,) = [one.scores for one in found.table.rows if one.entry.name == row]
    return {name: estimate.value for name, estimate in scores.items()}


def names(found):
    return [row.entry.name for row in found.table.rows]


def single(found):
    """The description of the best single head."""
    (description,) = [
        row.entry.description for row in found.table.rows if row.entry.kind == "single"
    ]
    return description


def test_the_table_is_what_hands_work_out(score) -> None:
    found = score(out="out")
    rows = ["L2H1", "random: 1 head of layer 2", "mean of all heads", "best single head"]
    assert names(found) == [*rows, "centre box"]
    # What only repeats others is left out: gIoU and the rest.
    assert found.table.metrics == ("acc@0.25", "acc@0.5", "acc@0.75", "miou", "pointing")
    main = values(found, "L2H1")
    assert (main["acc@0.25"], main["acc@0.5"], main["acc@0.75"]) == (0.75, 0.5, 0.25)
    assert (main["miou"], main["pointing"]) == (pytest.approx((1 + 0.5 + 0 + 0.25) / 4), 0.75)
    assert math.isnan(main["ciou"])
    # The only other head of layer 2 is flat: it answers the first cell, which is right in s3.
    other = values(found, "random: 1 head of layer 2")
    assert (other["acc@0.5"], other["miou"], other["pointing"]) == (0.25, 0.25, 0.25)
    assert any("only 1 draws" in note for note in found.notes)
    for same in ("mean of all heads", "best single head"):
        assert values(found, same) == pytest.approx(main, nan_ok=True)
    assert single(found).startswith("L2H1; an oracle: best mean IoU of 4")
    # The middle is 30 x 30: of the true boxes it holds 50, 150, 0 and 25 pixels.
    centre = values(found, "centre box")
    ious = [50 / (900 + 100 - 50), 150 / (900 + 200 - 150), 0, 25 / (900 + 400 - 25)]
    assert centre["miou"] == pytest.approx(sum(ious) / 4, abs=1e-6)
    assert centre["pointing"] == 0.25  # (30, 30) lies in s2's box alone
    assert (found.table.n, found.pictures, found.fault_count) == (4, 3, 0)
    assert str(found.table).startswith("| n = 4 | Acc@0.25 | Acc@0.5 |")
    # Three pictures tell nothing apart, and the report says so.
    told = json.loads(Path("out/eval.json").read_text())["verdict"]
    assert (told["metric"], told["beats_controls"]) == ("acc@0.5", "not told apart")
    assert [one["name"] for one in told["controls"]] == names(found)[1:]
    assert (told["controls"][0]["reached"], told["controls"][0]["draws"]) == (0, 1)
    report = Path("out/report.html").read_text()
    assert "Does L2H1 beat its controls? Not told apart from 4 of 4." in report
    assert "Acc@0.5 by object size; no samples: medium, large" in report
    assert ">0.6 to 0.9<" in report, "empty bins share a line"


def test_the_worst_answers_stand_in_the_order_that_is_shown(score) -> None:
    cells = {"beside": [20, 10, 30, 20], "corner": [35, 35, 60, 60], "far": [50, 50, 60, 60]}
    texts = {"beside": "1,1", "corner": "3,3", "far": "0,0"}
    found = score(
        [
            {"id": name, "image": "a.png", "text": texts[name], "box": box}
            for name, box in cells.items()
        ]
    )
    # The corner's generalised IoU is below that of the neighbour, whose IoU is 0.
    assert [case.record["id"] for case in found.worst] == ["far", "beside", "corner"]
    assert [case.record["id"] for case in found.best] == ["corner", "beside", "far"]


def test_groups_and_sizes(score) -> None:
    lines = [line | {"box": [10 * i, 0, 10 * i + 10, 10]} for i, line in enumerate(FOUR)]
    lines[1]["box"] = [0, 0, 60, 60]  # 3,600 pixels: medium
    found = score(lines)
    groups = {group.value: group.table for group in found.groups["k"]}
    assert {value: table.n for value, table in groups.items()} == {"x": 2, "y": 1}
    assert groups["y"].rows[0].scores["miou"].value == pytest.approx(100 / 3600, abs=1e-6)
    sizes = {group.value: group.table for group in found.sizes}
    assert {name: table.n for name, table in sizes.items()} == {"small": 3, "medium": 1, "large": 0}
    assert math.isnan(sizes["large"].rows[0].scores["pointing"].value)


def save_mask(name, right, bottom, left=0, top=0, side=SIDE):
    mask = np.zeros((side, side), np.uint8)
    mask[top:bottom, left:right] = 255
    Image.fromarray(mask).save(name)


def test_masks(score) -> None:
    save_mask("m1.png", 40, 20, left=20, top=10)
    save_mask("m2.png", 60, 60)
    lines = [("a.png", "1,2", "m1.png"), ("b.png", "3,3", "m2.png")]
    found = score([dict(zip(("image", "text", "mask"), line, strict=True)) for line in lines])
    main = values(found, "L2H1")
    assert main["ciou"] == pytest.approx((100 + 100) / (200 + 3600))
    assert main["giou_gres"] == pytest.approx((100 / 200 + 100 / 3600) / 2)
    assert math.isnan(main["miou"])
    assert main["pointing"] == 1.0
    assert any("Acc@IoU and mIoU are not measured" in note for note in found.notes)
    # 30 x 30 pixels in the middle; 20 columns x 5 rows of them lie in the first mask.
    ciou = (100 + 900) / (900 + 200 - 100 + 3600)
    assert values(found, "centre box")["ciou"] == pytest.approx(ciou)
    assert "best pointing" in single(found)


def test_no_target_and_several(score) -> None:
    lines = [
        {"image": "a.png", "text": "1,2", "boxes": []},
        {"image": "b.png", "text": "3,3", "boxes": [[30, 30, 40, 40], [0, 0, 10, 10]]},
        {"image": "c.png", "text": "0,0", "box": [0, 0, 10, 10]},
    ]
    found = score(lines)
    main = values(found, "L2H1")
    assert (main["n_acc"], main["t_acc"], main["pointing"], main["acc@0.5"]) == (0, 1, 1, 1)
    assert main["grec_f1"] == pytest.approx(1 / 3)
    assert {"n_acc", "t_acc", "grec_f1"} <= set(found.table.metrics)
    assert found.sizes[0].table.n == 2  # nothing has no size


def test_what_cannot_be_used_is_a_record_and_counted(score, shell) -> None:
    untrue = {"id": "untrue", "image": "a.png", "text": "0,0"}
    lost = {"id": "lost", "image": "none.png", "text": "0,0", "box": [0, 0, 1, 1]}
    save_mask("m.png", 9, 9, side=9)
    lines = [
        *(*FOUR, lost, untrue, WRONG, untrue | {"id": "mask", "mask": "m.png"}),
        {"id": "outside", "image": "a.png", "text": "0,0", "box": [0, 0, 90, 9]},
        {"id": "s1", "image": "b.png", "text": "0,0", "box": [0, 0, 9, 9]},
    ]
    found = score(lines, "out", engine={"batch_size": 2})
    assert (found.table.n, found.fault_count) == (4, 6)
    told = {fault.id: fault.error for fault in found.faults}
    words = {"lost": "no such file", "outside": "outside", "untrue": "nothing to score against"}
    words |= {"wrong": "36 image tokens", "s1": "an earlier record has the same id"}
    words |= {"mask": "9 x 9, its picture 60 x 60"}
    assert [name for name in words if words[name] not in told[name]] == []
    assert {one["id"] for one in shell.records() if "error" in one} == set(told)
    assert values(found, "L2H1") == pytest.approx(values(score(), "L2H1"), nan_ok=True)
    with pytest.raises(InputError, match="--strict"):
        score(lines, "strict", strict=True)
    assert "6 records could not be used" in Path("out/report.html").read_text()
    with pytest.raises(InputError, match="nothing to score against"):
        score([untrue])
    with pytest.raises(InputError, match=r"could be scored.*no such file"):
        score([lost])


def test_settings(score) -> None:
    found = score(settings=replace(QUICK, controls=False))
    assert (names(found), found.against) == (["L2H1"], ())
    assert "best single head" not in names(score(settings=replace(QUICK, oracle=False)))
    assert score(settings=replace(QUICK, limit=3)).columns.ids == ("s1", "s2", "s3")
    for wrong in ({"limit": 0}, {"resamples": 0}):
        with pytest.raises(InputError, match="at least 1"):
            replace(QUICK, **wrong)
    with pytest.raises(InputError, match="random draws"):
        score(settings=replace(QUICK, draws=0))


class Doubts:
    """A post-processor that finds nothing for some texts, and sees how answers come."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def vg_postprocess(self, groundings):
        self.seen.append(len(groundings))
        lost = {"instances": (), "presence": 0.0, "threshold": 0.5}
        return [replace(one, **lost) if one.expression == "5,5" else one for one in groundings]


def test_the_first_row_goes_through_the_postprocessors(score) -> None:
    doubts = Doubts()
    lines = [
        *FOUR,
        {"id": "none", "image": "a.png", "text": "5,5", "boxes": []},
        {"id": "missed", "image": "d.png", "text": "5,5", "box": [50, 50, 60, 60]},
    ]
    found = score(lines, engine={"postprocessors": [doubts], "batch_size": 2}, heads=[None])
    assert names(found)[:3] == ["L2H1", "auto", "L2H1, not refined"]
    refined, raw = values(found, "L2H1"), values(found, "L2H1, not refined")
    assert (refined["n_acc"], raw["n_acc"]) == (1.0, 0.0)
    assert (refined["t_acc"], raw["t_acc"]) == (0.8, 1.0)
    assert refined["acc@0.5"] == pytest.approx(2 / 5)
    assert raw["acc@0.5"] == pytest.approx(3 / 5)
    # All about one picture come together, although a batch holds two.
    assert sorted(doubts.seen) == [1, 1, 1, 3]


def test_two_runs_write_the_same_bytes_and_work_of_other_settings_is_refused(score) -> None:
    heard = []
    for out in ("one", "two"):
        score(
            out=out, remarks=DATE, command="x", engine={"batch_size": 2},
            progress=lambda *numbers: heard.append(numbers),
        )  # fmt: skip
    assert heard == [(0, 4), (2, 4), (4, 4)] * 2
    for name in ("records.jsonl", "eval.json", "report.html"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    with pytest.raises(InputError, match=r"run of other settings.*seed: 0 there, 1 now"):
        score(out="one", engine={"batch_size": 2}, settings=replace(QUICK, seed=1))
    # Intervals are made from the records: another number of resamples goes on.
    score(out="one", engine={"batch_size": 2}, settings=replace(QUICK, resamples=30))


def test_a_journal_torn_anywhere_is_gone_on_with(score) -> None:
    last = {"id": "s6", "image": "d.png", "text": "2,2", "box": [20, 20, 30, 30]}

    def work():
        score([*FOUR, WRONG, {"id": "bad"}, last], "out", engine={"batch_size": 2}, remarks=DATE)
        return {path.name: path.read_bytes() for path in sorted(Path("out").iterdir())}

    whole = work()
    kept = whole["records.jsonl"].splitlines(keepends=True)
    cuts = [b"".join(kept[:number]) for number in range(len(kept) + 1)]
    half = b'{"batch": 1, "of": 2, "id"'
    torn = [cut + half[: 9 * number] for number, cut in enumerate(cuts[:-1])]
    for journal in (*cuts, *torn[1:]):
        shutil.rmtree("out")
        Path("out").mkdir()
        Path("out/records.jsonl").write_bytes(journal)
        Path("out/.eval.json.77.part").write_text('{"work": "ev')
        assert work() == whole, journal[-40:]


def test_head_sets_that_do_not_fit_or_repeat_are_refused(score) -> None:
    stated = HeadSet("x", parse_heads("L3H0"), "paper", provenance={"prompt": {"form": "chat"}})
    with pytest.raises(HeadsError, match="L9H0 is out of range"):
        score(heads=["L9H0"])
    with pytest.raises(InputError, match="in the table already"):
        score(heads=[HeadSet("again", parse_heads("L2H1"), "given")])
    with pytest.raises(HeadsError, match="was found with prompt form 'chat', not 'bare'"):
        score(heads=[stated], prompt={"form": "bare"})


def test_sets_named_like_controls_keep_rows_of_their_own(score) -> None:
    found = score(heads=[HeadSet("centre box", parse_heads("L3H0"), "paper"), "L3H1", "auto"])
    assert names(found)[:4] == ["L2H1", "centre box (2)", "L3H1", "auto"]
    assert names(found)[-1] == "centre box"
    assert len(set(names(found))) == len(names(found))
    assert values(found, "auto") == pytest.approx(values(found, "L2H1"), nan_ok=True)


def test_an_engine_without_heads_is_scored_as_it_chooses(score, shell) -> None:
    found = score(out="out", engine={"heads": "auto"})
    assert names(found)[:2] == ["auto", "random: 3 heads of layers 2 to 3"]
    boxes = {one["id"]: one["answers"]["auto"]["boxes"] for one in shell.records()}
    with load("cells", adapter="cell", heads="auto", region=one_cell) as engine:
        for line in FOUR:
            given = engine.ground(line["image"], line["text"]).boxes
            assert boxes[line["id"]] == [list(box) for box in given]
