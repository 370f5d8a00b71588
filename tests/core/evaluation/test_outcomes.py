"""Outcomes and metrics against hand-made tables and plain loops over pixels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vg_engine.core.errors import InputError, NotFoundError
from vg_engine.core.evaluation.metrics import generalised_iou
from vg_engine.core.evaluation.outcomes import (
    METRICS,
    Outcome,
    metric,
    outcome,
    size_bucket,
    true_area,
)
from vg_engine.core.evaluation.samples import TrueMask

ROWS, COLS = 4, 5
NO_BOX = np.zeros((0, 4))
BOX = np.array([[0.0, 0.0, 10.0, 10.0]])


def value(name: str, outcomes: Sequence[Outcome]) -> float:
    return metric(name).parts(outcomes).value


def drawn(text: str, letters: str = "#") -> np.ndarray:
    """A one-line mask: `#` belongs to it."""
    return np.array([[letter in letters for letter in text]])


# The conventions of masks, a row each. Truth: `#` meant, `?` ignored, `!` both; answer: None =
# "nothing".
#  truth     answer    I  U  LISA gives         GRES gives
MASKS = [
    ("##..", "##..", 2, 2, 2 / 2.00001, 1.0),
    ("##..", ".##.", 1, 3, 1 / 3.00001, 1 / 3),
    ("##..", "..##", 0, 4, 0.0, 0.0),
    ("##..", "....", 0, 2, 0.0, 0.0),  # found, but the mask came out empty
    ("##..", None, 0, 2, 0.0, 0.0),  # missed: the truth still enters U
    ("....", None, 0, 0, 1.0, 1.0),  # rightly nothing: adds nothing to I and U
    ("....", ".##.", 0, 2, 0.0, 0.0),  # wrongly something: its area enters U
    ("....", "....", 0, 0, 1.0, 0.0),  # "found" with an empty mask: LISA looks at masks alone
    ("##??", ".###", 1, 2, 1 / 2.00001, 1 / 2),  # ignored pixels are in neither I nor U
    ("..??", "..##", 0, 0, 1.0, 0.0),
    ("..??", None, 0, 0, 1.0, 1.0),
    ("#!..", "##..", 1, 1, 1 / 1.00001, 1.0),  # what is both is ignored
    ("!!..", "##..", 0, 0, 1.0, 0.0),
]


def of_row(truth: str, answer: str | None) -> Outcome:
    return outcome(
        true_mask=TrueMask(drawn(truth, "#!"), drawn(truth, "?!")),
        found=answer is not None,
        mask=drawn(answer or "#" * len(truth)),  # what was not found counts as empty
    )


@pytest.mark.parametrize(("truth", "answer", "inter", "union", "lisa", "gres"), MASKS)
def test_each_convention_of_masks(
    truth: str, answer: str | None, inter: int, union: int, lisa: float, gres: float
) -> None:
    found = of_row(truth, answer)
    assert (found.inter, found.union) == (inter, union)
    assert (found.target, found.found) == ("#" in truth or "!" in truth, answer is not None)
    assert value("giou_lisa", [found]) == pytest.approx(lisa, abs=1e-12)
    assert value("giou_gres", [found]) == pytest.approx(gres, abs=1e-12)
    assert math.isnan(found.iou)
    assert math.isnan(found.f1)
    assert found.hit is None


# GREC, a row each: a box is told by its left edge, 10 wide and 10 high; scores of 0.9.
#  true boxes  answered       F1
GREC = [
    ([0], [0], 1.0),
    ([0], [2], 1.0),  # IoU 8/12, no hull to spare
    ([0], [4], 0.0),  # IoU 6/14 is too little
    ([0], [0, 50], 2 / 3),  # a box too many
    ([0, 50], [0], 2 / 3),  # a box too few
    ([0, 50], [50, 0], 1.0),  # in any order
    ([0], [0, 1], 2 / 3),  # a true box is matched once
    ([0, 50], [0, 1], 1 / 2),  # and so is an answered one
    ([0, 50], [], 0.0),
    ([], [], 1.0),  # rightly nothing
    ([], [0], 0.0),
    # 4 lies at IoU 0.667 of 2 and 6, 8 of 6 alone. The best pair goes first, and equal pairs in
    # order: 4 takes 2, 8 takes 6.
    ([2, 6], [4, 8], 1.0),
    # Greedy, not optimal: 5 and 5.5 are the closest, which leaves 3 and 8 unmatched.
    ([5.5, 3], [5, 8], 1 / 2),
]


def boxes_of(*corners: Sequence[float]) -> np.ndarray:
    return np.array(corners, dtype=float).reshape(-1, 4)


def squares(lefts: Sequence[float]) -> np.ndarray:
    return boxes_of(*([left, 0, left + 10, 10] for left in lefts))


@pytest.mark.parametrize(("true", "answered", "f1"), GREC)
def test_each_convention_of_grec(true: list[float], answered: list[float], f1: float) -> None:
    found = outcome(
        true_boxes=squares(true),
        found=bool(answered),
        boxes=squares(answered or [0]),
        scores=np.full(len(answered or [0]), 0.9),
    )
    assert found.f1 == pytest.approx(f1)
    assert value("grec_f1", [found]) == float(f1 == 1.0)


def plain_f1(boxes: list[list[float]], true: list[list[float]]) -> float:
    """GREC by definition: pairs from the closest to the farthest, each box once."""
    if not true:
        return float(not boxes)
    fits = generalised_iou(np.array(boxes).reshape(-1, 1, 4), np.array([true]))
    pairs = [(fit, i, j) for (i, j), fit in np.ndenumerate(fits)]
    matched: dict[int, int] = {}
    for fit, i, j in sorted(pairs, reverse=True):
        if fit >= 0.5 and i not in matched and j not in matched.values():
            matched[i] = j
    right = len(matched)
    return 2 * right / (2 * right + (len(boxes) - right) + (len(true) - right))


def test_grec_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(600):
        corners = rng.uniform(0, 40, (rng.integers(0, 5), 2))
        true = np.concatenate([corners, corners + rng.uniform(5, 20, corners.shape)], axis=1)
        near = true[rng.random(len(true)) < 0.8]
        near = near + rng.normal(0, rng.choice([0.3, 1.5, 4.0]), near.shape)
        corners = rng.uniform(0, 40, (int(rng.random() < 0.3), 2))
        other = np.concatenate([corners, corners + 9], axis=1)
        boxes = rng.permutation(np.concatenate([near, near[:1] + 0.5, other]))
        boxes = boxes[(boxes[:, :2] < boxes[:, 2:]).all(axis=1)]
        answer = {"true_boxes": true, "boxes": boxes, "found": bool(len(boxes))}
        scores = rng.choice([0.4, 0.7, 0.95], len(boxes), p=[0.1, 0.2, 0.7])
        found = outcome(**answer, scores=scores)
        assert found.f1 == pytest.approx(plain_f1(boxes[scores >= 0.7].tolist(), true.tolist()))
        every = plain_f1(boxes.tolist(), true.tolist())
        assert outcome(**answer).f1 == pytest.approx(every), "boxes without scores all count"
        lower = outcome(**answer, scores=scores, score_threshold=0.4)
        assert lower.f1 == pytest.approx(every)
        seen.add(round(found.f1, 3))
    assert len(seen) > 10, "cases of all kinds"


def random_case(rng: np.random.Generator) -> dict[str, Any]:
    true = rng.random((ROWS, COLS)) < rng.choice([0.0, 0.3, 0.6])
    ignored = (rng.random((ROWS, COLS)) < 0.2) & ~true if rng.random() < 0.5 else None
    return {
        "true_mask": TrueMask(true, ignored),
        "mask": rng.random((ROWS, COLS)) < rng.choice([0.0, 0.4, 0.7]),
        "found": bool(rng.random() < 0.7),
    }


def plain_sums(cases: list[dict[str, Any]]) -> dict[str, float]:
    """The metrics of masks as GRES and LISA state them, pixel by pixel and count by count."""
    total_i = total_u = lisa = gres = 0.0
    counts = dict.fromkeys(("TP", "FN", "TN", "FP"), 0)
    for case in cases:
        true, ignored = case["true_mask"].mask.tolist(), case["true_mask"].ignored
        description = (case["mask"] & case["found"]).tolist()
        inter = union = 0
        for row in range(ROWS):
            for col in range(COLS):
                if ignored is not None and ignored[row, col]:
                    continue
                inter += description[row][col] and true[row][col]
                union += description[row][col] or true[row][col]
        lisa += inter / (union + 1e-5) + (1.0 if union == 0 else 0.0)
        if any(map(any, true)):  # a target
            counts["TN" if case["found"] else "FP"] += 1
            total_i, total_u = total_i + inter, total_u + union
            gres += inter / union if union else 0.0
        elif case["found"]:
            counts["FN"] += 1
            total_u += union  # the answer's area
        else:
            counts["TP"] += 1
            gres += 1
    return {
        "ciou": total_i / total_u,
        "giou_lisa": lisa / len(cases),
        "giou_gres": gres / len(cases),
        "n_acc": counts["TP"] / (counts["TP"] + counts["FN"]),
        "t_acc": counts["TN"] / (counts["TN"] + counts["FP"]),
    }


def test_metrics_of_masks_agree_with_plain_loops() -> None:
    rng = np.random.default_rng(1)
    cases = [random_case(rng) for _ in range(3000)]
    outcomes = [outcome(**case) for case in cases]
    parts = {name: metric(name).parts(outcomes) for name in plain_sums(cases)}
    groups = [range(3000), *(range(start, start + 30) for start in range(0, 3000, 30))]
    for rows in map(np.array, groups):
        for name, expected in plain_sums([cases[row] for row in rows]).items():
            assert parts[name].take(rows).value == pytest.approx(expected, rel=1e-12), name


def test_the_best_box_against_the_single_true_box() -> None:
    boxes = boxes_of([0, 0, 10, 3], [0, 0, 10, 8])
    for answer, fit in (
        ({}, 0.3),  # the first
        ({"scores": np.array([0.1, 0.2])}, 0.8),  # the highest score, however low
        ({"scores": np.array([0.2, 0.2])}, 0.3),  # the first of equals
        ({"found": False}, 0.0),
        ({"found": False, "boxes": NO_BOX}, 0.0),
    ):
        found = outcome(true_boxes=BOX, **{"boxes": boxes} | answer)
        assert found.iou == pytest.approx(fit)


def test_accuracies_are_over_one_target_samples() -> None:
    fits = [0.25, 0.5, 0.75, 0.7499, 0.2, 0.0]
    outcomes = [outcome(true_boxes=BOX, boxes=boxes_of([0, 0, 10, 10 * x])) for x in fits[:-1]]
    outcomes += [
        outcome(true_boxes=BOX, found=False, boxes=NO_BOX),
        outcome(true_boxes=squares([0, 50]), boxes=BOX),  # two targets
        outcome(true_boxes=NO_BOX, boxes=BOX),  # none
        outcome(true_mask=TrueMask(drawn("##")), boxes=BOX),  # boxes unknown
        outcome(true_boxes=BOX, mask=drawn("##")),  # a contestant without boxes
    ]
    counted = [metric(name).parts(outcomes) for name in ("acc@0.25", "acc@0.5", "acc@0.75", "miou")]
    assert [part.counted for part in counted] == [6] * 4
    expected = [4 / 6, 3 / 6, 1 / 6, sum(fits) / 6]
    assert [part.value for part in counted] == pytest.approx(expected)


def test_pointing_goes_by_the_mask_and_else_by_the_boxes() -> None:
    spots, two = TrueMask(drawn("##..??"), drawn("....##")), squares([0, 50])
    right = outcome(true_boxes=BOX, point=(1.0, 1.0))
    for point, truth, hit in (
        ((1.9, 0.5), {"true_mask": spots}, True),
        ((2.0, 0.5), {"true_mask": spots}, False),
        ((4.5, 0.5), {"true_mask": spots}, None),  # an ignored pixel is not scored
        ((2.5, 0.5), {"true_mask": spots, "true_boxes": BOX}, False),  # the mask, not its box
        ((1.0, 0.5), {"true_mask": spots, "found": False}, False),
        ((math.nan, math.nan), {"true_mask": spots, "found": False}, False),
        *((point, {"true_boxes": two}, True) for point in ((0.0, 0.0), (9.99, 9.99), (55.0, 5.0))),
        *((point, {"true_boxes": two}, False) for point in ((10.0, 5.0), (5.0, 10.0), (30.0, 5.0))),
        ((-1.0, 5.0), {"true_boxes": two}, False),
        ((5.0, 5.0), {"true_boxes": NO_BOX}, None),  # without a target there is no right place
        (None, {"true_boxes": BOX, "boxes": BOX}, None),  # a contestant without a point
    ):
        found = outcome(point=point, **truth)
        assert found.hit is hit, (point, truth)
        counted = 1.0 if hit is None else (1.0 + hit) / 2
        assert value("pointing", [found, right]) == counted


def test_what_has_no_sample_is_not_a_number() -> None:
    nothing = outcome(true_boxes=BOX)  # a contestant that answers nothing that is measured
    for one in METRICS:
        assert math.isnan(one.parts([]).value)
        assert one.parts([]).counted == 0
        # Whether something was found is always known.
        assert math.isnan(one.parts([nothing]).value) == (one.name != "t_acc"), one.name
    without = outcome(true_boxes=NO_BOX, found=False, boxes=NO_BOX)
    assert math.isnan(value("t_acc", [without]))
    assert math.isnan(value("ciou", [of_row("....", None)])), "empty against empty has no union"


def test_metrics_are_found_by_name() -> None:
    assert [metric(one.name) for one in METRICS] == list(METRICS)
    with pytest.raises(NotFoundError, match=r"did you mean acc@0\.5"):
        metric("acc@.5")


def test_what_cannot_be_scored_is_refused() -> None:
    for answer, description in (
        ({"boxes": BOX}, "without true boxes"),
        ({"true_boxes": NO_BOX, "true_mask": TrueMask(drawn("##"))}, "correct the annotation"),
        ({"true_boxes": BOX, "boxes": NO_BOX}, "found=False"),
        ({"true_mask": TrueMask(drawn("##..")), "mask": drawn("##")}, "true mask"),
    ):
        with pytest.raises(InputError, match=description):
            outcome(**answer)
    for wrong, description in (
        ({"iou": 1.5}, "iou must lie in"),
        ({"f1": -0.1}, "f1 must lie in"),
        ({"inter": 1}, "give both or neither"),
        ({"union": 1}, "give both or neither"),
        ({"inter": 3, "union": 2}, "must lie in"),
        ({"inter": -1, "union": 2}, "must lie in"),
    ):
        with pytest.raises(InputError, match=description):
            Outcome(target=True, found=True, **wrong)


def test_an_object_may_be_too_small_for_a_pixel() -> None:
    tiny = outcome(true_boxes=BOX, true_mask=TrueMask(drawn("..")), mask=drawn(".#"))
    assert tiny.target
    assert value("giou_gres", [tiny]) == 0.0
    unseen = outcome(true_boxes=BOX, true_mask=TrueMask(drawn("..")), mask=drawn(".."))
    assert (unseen.union, value("giou_gres", [unseen])) == (0, 0.0), "GRES: a target without union"
    assert value("giou_lisa", [unseen]) == 1.0


def test_sizes_are_cocos() -> None:
    limits = [(1.0, "small"), (1023.9, "small"), (1024.0, "medium"), (9215.9, "medium")]
    for area, expected in (*limits, (9216.0, "large"), (1e6, "large"), (0.0, None)):
        assert size_bucket(area) == expected
    assert size_bucket(math.nan) is None
    shares = [(99.0, "small"), (100.0, "medium"), (999.0, "medium"), (1000.0, "large")]
    for area, expected in (*shares, (math.nan, None)):
        assert size_bucket(area, by="share", picture=(200, 50)) == expected
    with pytest.raises(InputError, match="picture"):
        size_bucket(5.0, by="share")
    with pytest.raises(InputError, match="below 0"):
        size_bucket(-5.0)


def test_the_area_of_what_is_meant() -> None:
    mask = TrueMask(drawn("##??"), drawn("..##"))
    assert true_area(BOX, mask) == 2.0, "the mask goes first"
    assert true_area(squares([0, 50]), None) == 200.0
    assert true_area(NO_BOX, None) == 0.0
    assert math.isnan(true_area(None, None))
    assert true_area(None, TrueMask(drawn("#?#?"), drawn(".##."))) == 1.0
