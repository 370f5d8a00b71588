"""`vg_engine.evaluate`: tables that hands can work out, and work that is stopped."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vg_engine import load
from vg_engine.core.contract.results import Grounding
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.heads import HeadSet, parse_heads
from vg_engine.core.readout.regions import GridRegion
from vg_engine.studies.evaluate.evaluation import EvaluateSettings, evaluate
from vg_engine.studies.evaluate.results import Evaluation

SIDE, GRID = 60, 6
STEP = SIDE // GRID
QUICK = EvaluateSettings(resamples=20)
Line = dict[str, Any]
Make = Callable[..., Engine]


def one_cell(values: np.ndarray) -> GridRegion:
    """The first of the largest cells, exactly: boxes can be worked out by hand."""
    row, column = divmod(int(np.argmax(values)), values.shape[1])
    mask = np.zeros(values.shape, dtype=np.bool_)
    mask[row, column] = True
    box = (float(column), float(row), column + 1.0, row + 1.0)
    return GridRegion(box, mask, (column + 0.5, row + 0.5), float(values[row, column]))


@pytest.fixture
def make() -> Iterator[Make]:
    engines: list[Engine] = []

    def made(heads: str = "L2H1", **more: Any) -> Engine:
        given = {"adapter": "cell", "heads": heads, "region": one_cell, **more}
        engines.append(load("cells", **given))
        return engines[-1]

    yield made
    for engine in engines:
        engine.close()


@pytest.fixture
def write(shell: Any) -> Any:
    """Writes lines of a data set about four pictures; returns its name."""
    shell.pictures("abcd")
    return shell.write


# The answer is the named cell (row, column). Its IoU with the truth: 1, 1/2, 0, 1/4.
FOUR: list[Line] = [
    {"id": "s1", "image": "a.png", "text": "1,2", "box": [20, 10, 30, 20], "groups": {"k": "x"}},
    {"id": "s2", "image": "b.png", "text": "3,3", "box": [30, 30, 50, 40], "groups": {"k": "y"}},
    {"id": "s3", "image": "c.png", "text": "0,5", "box": [0, 0, 10, 10], "groups": {"k": "x"}},
    {"id": "s4", "image": "a.png", "text": "4,4", "box": [40, 40, 60, 60]},
]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(tall, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def values(found: Evaluation, row: str) -> dict[str, float]:
    (scores,) = [one.scores for one in found.table.rows if one.entry.name == row]
    return {name: estimate.value for name, estimate in scores.items()}


def names(found: Evaluation) -> list[str]:
    return [row.entry.name for row in found.table.rows]


def test_the_table_is_what_hands_work_out(make: Make, write: Any) -> None:
    found = evaluate(make(), write(FOUR), "out", settings=QUICK)
    assert names(found) == [
        "L2H1",
        "random: 1 head of layer 2",
        "mean of all heads",
        "best single head",
        "centre box",
    ]
    main = values(found, "L2H1")
    assert (main["acc@0.25"], main["acc@0.5"], main["acc@0.75"]) == (0.75, 0.5, 0.25)
    assert main["miou"] == pytest.approx((1 + 0.5 + 0 + 0.25) / 4)
    assert main["pointing"] == 0.75
    assert math.isnan(main["ciou"])
    # The only other head of layer 2 is flat: it answers the first cell, which is right in s3.
    other = values(found, "random: 1 head of layer 2")
    assert (other["acc@0.5"], other["miou"], other["pointing"]) == (0.25, 0.25, 0.25)
    assert any("only 1 draws" in note for note in found.notes)
    assert values(found, "mean of all heads") == pytest.approx(main, nan_ok=True)
    best = values(found, "best single head")
    assert best == pytest.approx(main, nan_ok=True)
    (said,) = [r.entry.said for r in found.table.rows if r.entry.kind == "single"]
    assert said.startswith("L2H1; an oracle: best mean IoU of 4")
    middle = [15, 15, 45, 45]
    ious = [overlap(middle, line["box"]) for line in FOUR]
    assert values(found, "centre box")["miou"] == pytest.approx(sum(ious) / 4, abs=1e-6)
    assert values(found, "centre box")["pointing"] == 0.25  # (30, 30) lies in s2's box alone
    assert (found.table.n, found.pictures, found.fault_count) == (4, 3, 0)
    assert str(found.table).startswith("| n = 4 | Acc@0.25 | Acc@0.5 |")


def test_groups_and_sizes(make: Make, write: Any) -> None:
    lines = [line | {"box": [10 * i, 0, 10 * i + 10, 10]} for i, line in enumerate(FOUR)]
    lines[1]["box"] = [0, 0, 60, 60]  # 3,600 pixels: medium
    found = evaluate(make(), write(lines), settings=QUICK)
    groups = {group.value: group.table for group in found.groups["k"]}
    assert {value: table.n for value, table in groups.items()} == {"x": 2, "y": 1}
    assert groups["y"].rows[0].scores["miou"].value == pytest.approx(100 / 3600, abs=1e-6)
    sizes = {group.value: group.table for group in found.sizes}
    assert {value: table.n for value, table in sizes.items()} == {
        "small": 3,
        "medium": 1,
        "large": 0,
    }
    assert math.isnan(sizes["large"].rows[0].scores["pointing"].value)


def test_masks(make: Make, write: Any, tmp_path: Path) -> None:
    for name, box in (("m1", (20, 10, 40, 20)), ("m2", (0, 0, 60, 60))):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    lines = [
        {"image": "a.png", "text": "1,2", "mask": "m1.png"},
        {"image": "b.png", "text": "3,3", "mask": "m2.png"},
    ]
    found = evaluate(make(), write(lines), "out", settings=QUICK)
    main = values(found, "L2H1")
    assert main["ciou"] == pytest.approx((100 + 100) / (200 + 3600))
    assert main["giou_gres"] == pytest.approx((100 / 200 + 100 / 3600) / 2)
    assert math.isnan(main["miou"])
    assert main["pointing"] == 1.0
    assert any("Acc@IoU and mIoU are not measured" in note for note in found.notes)
    centre = values(found, "centre box")
    # 30 x 30 pixels in the middle; 20 columns x 5 rows of them lie in the first mask.
    assert centre["ciou"] == pytest.approx((100 + 900) / (900 + 200 - 100 + 3600))
    (said,) = [r.entry.said for r in found.table.rows if r.entry.kind == "single"]
    assert "best pointing" in said


def test_no_target_and_several(make: Make, write: Any) -> None:
    lines = [
        {"image": "a.png", "text": "1,2", "boxes": []},
        {"image": "b.png", "text": "3,3", "boxes": [[30, 30, 40, 40], [0, 0, 10, 10]]},
        {"image": "c.png", "text": "0,0", "box": [0, 0, 10, 10]},
    ]
    found = evaluate(make(), write(lines), settings=QUICK)
    main = values(found, "L2H1")
    assert (main["n_acc"], main["t_acc"], main["pointing"], main["acc@0.5"]) == (0, 1, 1, 1)
    assert main["grec_f1"] == pytest.approx(1 / 3)
    assert {"n_acc", "t_acc", "grec_f1"} <= set(found.table.metrics)
    assert found.sizes[0].table.n == 2  # nothing has no size


def test_metrics_that_only_repeat_others_are_not_shown(make: Make, write: Any) -> None:
    found = evaluate(make(), write(FOUR), settings=QUICK)
    assert found.table.metrics == ("acc@0.25", "acc@0.5", "acc@0.75", "miou", "pointing")


def test_what_cannot_be_used_is_a_record_and_counted(make: Make, write: Any, shell: Any) -> None:
    lines = [
        *FOUR,
        {"id": "lost", "image": "none.png", "text": "0,0", "box": [0, 0, 1, 1]},
        {"id": "outside", "image": "a.png", "text": "0,0", "box": [0, 0, 90, 9]},
        {"id": "untrue", "image": "a.png", "text": "0,0"},
        {"id": "wrong", "image": "b.png", "text": "broken", "box": [0, 0, 9, 9]},
        {"id": "s1", "image": "b.png", "text": "0,0", "box": [0, 0, 9, 9]},
    ]
    found = evaluate(make(batch_size=2), write(lines), "out", settings=QUICK)
    assert (found.table.n, found.fault_count) == (4, 5)
    told = {fault.id: fault.error for fault in found.faults}
    assert "no such file" in told["lost"]
    assert "outside" in told["outside"]
    assert "nothing to score against" in told["untrue"]
    assert "36 image tokens" in told["wrong"]
    assert "an earlier record has the same id" in told["s1"]
    kept = shell.records()
    assert {one["id"] for one in kept if "error" in one} == set(told)
    assert values(found, "L2H1") == pytest.approx(
        values(evaluate(make(), write(FOUR), settings=QUICK), "L2H1"), nan_ok=True
    )
    with pytest.raises(InputError, match="--strict"):
        evaluate(make(), write(lines), "strict", settings=QUICK, strict=True)
    report = Path("out/report.html").read_text()
    assert "5 records could not be used" in report


def test_nothing_to_score_against(make: Make, write: Any) -> None:
    with pytest.raises(InputError, match="nothing to score against"):
        evaluate(make(), write([{"image": "a.png", "text": "0,0"}]), settings=QUICK)
    lost = [{"image": "no.png", "text": "0,0", "box": [0, 0, 1, 1]}]
    with pytest.raises(InputError, match=r"could be scored.*no such file"):
        evaluate(make(), write(lost), settings=QUICK)


def test_a_mask_of_another_size_is_a_fault(make: Make, write: Any) -> None:
    name = write([*FOUR, {"id": "m", "image": "a.png", "text": "0,0", "mask": "m.png"}])
    Image.fromarray(np.ones((9, 9), np.uint8)).save("m.png")
    found = evaluate(make(), name, settings=QUICK)
    assert [fault.id for fault in found.faults] == ["m"]
    assert "9 x 9, its picture 60 x 60" in found.faults[0].error


def test_controls_can_be_left_out(make: Make, write: Any) -> None:
    data = write(FOUR)
    found = evaluate(make(), data, settings=replace(QUICK, controls=False))
    assert names(found) == ["L2H1"]
    assert found.against == ()
    assert "best single head" not in names(
        evaluate(make(), data, settings=replace(QUICK, oracle=False))
    )


def test_limit(make: Make, write: Any) -> None:
    data = write(FOUR)
    found = evaluate(make(), data, settings=replace(QUICK, limit=3))
    assert found.columns.ids == ("s1", "s2", "s3")
    for wrong in ({"limit": 0}, {"resamples": 0}):
        with pytest.raises(InputError, match="at least 1"):
            replace(QUICK, **wrong)
    with pytest.raises(InputError, match="random draws"):
        evaluate(make(), data, settings=replace(QUICK, draws=0))


class Doubts:
    """A post-processor that finds nothing for some texts, and sees how answers come."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def vg_postprocess(self, groundings: Sequence[Grounding]) -> list[Grounding]:
        self.seen.append([one.expression for one in groundings])
        return [
            replace(one, instances=(), presence=0.0, threshold=0.5)
            if one.expression == "5,5"
            else one
            for one in groundings
        ]


def test_the_first_row_goes_through_the_postprocessors(make: Make, write: Any) -> None:
    doubts = Doubts()
    lines = [
        *FOUR,
        {"id": "none", "image": "a.png", "text": "5,5", "boxes": []},
        {"id": "missed", "image": "d.png", "text": "5,5", "box": [50, 50, 60, 60]},
    ]
    engine = make(postprocessors=[doubts], batch_size=2)
    found = evaluate(engine, write(lines), heads=[None], settings=QUICK)
    assert names(found)[:3] == ["L2H1", "auto", "L2H1, not refined"]
    refined, raw = values(found, "L2H1"), values(found, "L2H1, not refined")
    assert (refined["n_acc"], raw["n_acc"]) == (1.0, 0.0)
    assert (refined["t_acc"], raw["t_acc"]) == (0.8, 1.0)
    assert refined["acc@0.5"] == pytest.approx(2 / 5)
    assert raw["acc@0.5"] == pytest.approx(3 / 5)
    # All about one picture come together, although a batch holds two.
    assert sorted(map(len, doubts.seen)) == [1, 1, 1, 3]


def test_two_runs_write_the_same_bytes(make: Make, write: Any) -> None:
    data = write(FOUR)
    for out in ("one", "two"):
        evaluate(make(), data, out, settings=QUICK, remarks={"date": "2026-01-01"}, command="x")
    for name in ("records.jsonl", "eval.json", "report.html"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_a_journal_torn_anywhere_is_gone_on_with(make: Make, write: Any) -> None:
    lines = [
        *FOUR,
        {"id": "wrong", "image": "b.png", "text": "broken", "box": [0, 0, 9, 9]},
        {"id": "bad"},
        {"id": "s6", "image": "d.png", "text": "2,2", "box": [20, 20, 30, 30]},
    ]
    data, engine = write(lines), make(batch_size=2)

    def work() -> dict[str, bytes]:
        evaluate(engine, data, "out", settings=QUICK, remarks={"date": "2026-01-01"})
        return {path.name: path.read_bytes() for path in sorted(Path("out").iterdir())}

    whole = work()
    kept = whole["records.jsonl"].splitlines(keepends=True)
    for number in range(len(kept) + 1):
        for torn in (b"", b'{"batch": 1, "of": 2, "id"'):
            if number < len(kept) or not torn:
                shutil.rmtree("out")
                Path("out").mkdir()
                Path("out/records.jsonl").write_bytes(b"".join(kept[:number]) + torn[: number * 9])
                Path("out/.eval.json.77.part").write_text('{"work": "ev')
                assert work() == whole, (number, torn)


def test_work_of_other_settings_is_refused(make: Make, write: Any) -> None:
    data = write(FOUR)
    evaluate(make(), data, "out", settings=QUICK)
    with pytest.raises(InputError, match=r"run of other settings.*seed: 0 there, 1 now"):
        evaluate(make(), data, "out", settings=replace(QUICK, seed=1))
    # Intervals are made from the records: another number of resamples goes on.
    evaluate(make(), data, "out", settings=replace(QUICK, resamples=30))


def test_progress_is_shown(make: Make, write: Any) -> None:
    heard: list[tuple[int, int]] = []

    def told(done: int, total: int) -> None:
        heard.append((done, total))

    evaluate(make(batch_size=2), write(FOUR), settings=QUICK, progress=told)
    assert heard == [(0, 4), (2, 4), (4, 4)]


def test_head_sets_that_do_not_fit_or_repeat_are_refused(make: Make, write: Any) -> None:
    data = write(FOUR)
    with pytest.raises(HeadsError, match="L9H0 is out of range"):
        evaluate(make(), data, heads=["L9H0"])
    with pytest.raises(InputError, match="in the table already"):
        evaluate(make(), data, heads=[HeadSet("again", parse_heads("L2H1"), "given")])
    stated = HeadSet("x", parse_heads("L3H0"), "paper", provenance={"prompt": {"form": "chat"}})
    with pytest.raises(HeadsError, match="was found with prompt form 'chat', not 'bare'"):
        evaluate(make(), data, heads=[stated], prompt={"form": "bare"})


def test_sets_named_like_controls_keep_rows_of_their_own(make: Make, write: Any) -> None:
    alike = HeadSet("centre box", parse_heads("L3H0"), "paper")
    found = evaluate(make(), write(FOUR), heads=[alike, "L3H1", "auto"], settings=QUICK)
    assert names(found)[:4] == ["L2H1", "centre box (2)", "L3H1", "auto"]
    assert names(found)[-1] == "centre box"
    assert len(set(names(found))) == len(names(found))
    assert values(found, "auto") == pytest.approx(values(found, "L2H1"), nan_ok=True)


def test_an_engine_without_heads_is_scored_as_it_chooses(
    make: Make, write: Any, shell: Any
) -> None:
    found = evaluate(make("auto"), write(FOUR), "out", settings=QUICK)
    assert names(found)[:2] == ["auto", "random: 3 heads of layers 2 to 3"]
    with make("auto") as engine:
        given = [engine.ground(line["image"], line["text"]) for line in FOUR]
    boxes = {one["id"]: one["answers"]["auto"]["boxes"] for one in shell.records()}
    assert [boxes[line["id"]] for line in FOUR] == [
        [list(box) for box in one.boxes] for one in given
    ]
