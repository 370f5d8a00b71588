"""Metrics against plain readings, pycocotools and a bootstrap written as a loop."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import (
    Estimate,
    accuracy_at,
    bootstrap_interval,
    generalised_iou,
    grec_f1,
    iou,
    mask_iou,
    mean_iou,
    pointing,
)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = np.sort(rng.uniform(0, 30, (count, 2, 2)), axis=1)
    return corners.reshape(count, 4)


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else 0.0


def test_iou_of_boxes_by_hand_and_by_pycocotools() -> None:
    rng = np.random.default_rng(0)
    a, b = boxes_of(rng, 2000), boxes_of(rng, 2000)
    found = iou(a, b)
    assert found == pytest.approx([plain_iou(x, y) for x, y in zip(a, b, strict=True)])
    as_xywh = [np.concatenate([x[:, :2], x[:, 2:] - x[:, :2]], axis=1) for x in (a[:50], b[:50])]
    theirs = coco.iou(as_xywh[0], as_xywh[1], [0] * 50)
    np.testing.assert_allclose(iou(a[:50, None], b[None, :50]), theirs, atol=1e-12)


def test_iou_has_no_extra_pixel_and_no_zero_division() -> None:
    one = np.array([0.0, 0.0, 1.0, 1.0])
    assert iou(one, np.array([1.0, 0.0, 2.0, 1.0])) == 0.0
    assert iou(one, one) == 1.0
    assert iou(one, np.array([0.0, 0.0, 2.0, 1.0])) == 0.5
    point = np.array([3.0, 3.0, 3.0, 3.0])
    assert iou(point, point) == 0.0
    assert iou(one, np.array([2.0, 2.0, 1.5, 1.5])) == 0.0, "an inverted box has no area"
    assert iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    assert iou(one.astype(np.float32), one.astype(np.float32)).dtype == np.float64


def test_generalised_iou_by_hand_and_by_a_plain_loop() -> None:
    one = np.array([0.0, 0.0, 2.0, 2.0])
    for other, expected in (
        (one, 1.0),
        (np.array([1.0, 0.0, 3.0, 2.0]), 2 / 6),  # the hull is the union
        (np.array([1.0, 1.0, 3.0, 3.0]), 1 / 7 - 2 / 9),
        (np.array([2.0, 0.0, 4.0, 2.0]), 0.0),  # they touch
        (np.array([4.0, 0.0, 6.0, 2.0]), -4 / 12),
        (np.array([2.0, 2.0, 2.0, 2.0]), 0.0),  # a point on the corner: the hull is the box
        (np.array([4.0, 1.0, 4.0, 1.0]), -4 / 8),
    ):
        assert generalised_iou(one, other) == pytest.approx(expected)
        assert generalised_iou(other, one) == pytest.approx(expected)
    point = np.array([3.0, 3.0, 3.0, 3.0])
    assert generalised_iou(point, point) == 0.0
    rng = np.random.default_rng(6)
    a, b = boxes_of(rng, 2000), boxes_of(rng, 2000)
    expected = []
    for x, y in zip(a, b, strict=True):
        hull = (max(x[2], y[2]) - min(x[0], y[0])) * (max(x[3], y[3]) - min(x[1], y[1]))
        fit, areas = plain_iou(x, y), sum((z[2] - z[0]) * (z[3] - z[1]) for z in (x, y))
        union = areas / (1 + fit)
        expected.append(fit - (hull - union) / hull)
    assert generalised_iou(a, b) == pytest.approx(expected)
    assert (generalised_iou(a, b) <= iou(a, b) + 1e-12).all()
    assert generalised_iou(a[:7, None], b[None, :5]).shape == (7, 5)


def test_grec_f1_takes_its_thresholds() -> None:
    true, near = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[0.0, 0.0, 10.0, 4.0]])
    assert grec_f1(near, None, true) == 0.0
    assert grec_f1(near, None, true, iou_threshold=0.4) == 1.0, "the threshold itself is enough"
    score = np.array([0.3], dtype=np.float32)
    assert grec_f1(near, score, true, iou_threshold=0.4) == 0.0
    assert grec_f1(near, score, true, iou_threshold=0.4, score_threshold=0.2) == 1.0


def test_mask_iou_agrees_with_pycocotools() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b = rng.random((2, 7, 9)) < rng.uniform(0.1, 0.9, (2, 1, 1))
        coded = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in (a, b)]
        if (a | b).any():
            assert mask_iou(a, b) == pytest.approx(coco.iou(coded[:1], coded[1:], [0])[0, 0])


def test_mask_iou_of_empty_masks() -> None:
    none, some = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert mask_iou(none, none) == 1.0
    assert mask_iou(none, some) == mask_iou(some, none) == 0.0


def test_pointing_takes_the_pixel_that_holds_the_point() -> None:
    mask = np.zeros((4, 6), bool)
    mask[2, 3] = True
    assert pointing((3.0, 2.0), mask)
    assert pointing((3.999, 2.999), mask)
    assert not pointing((4.0, 2.5), mask)
    assert not pointing((2.999, 2.5), mask)
    full = np.ones((4, 6), bool)
    for outside in ((-0.1, 1.0), (6.0, 1.0), (1.0, 4.0), (1.0, -5.0)):
        assert not pointing(outside, full)


def test_scores_of_nothing_are_not_a_number() -> None:
    none = np.zeros(0)
    assert math.isnan(accuracy_at(none))
    assert math.isnan(mean_iou(none))
    empty = bootstrap_interval(none, [])
    assert math.isnan(empty.value)
    assert math.isnan(empty.low)
    assert empty.n == 0
    assert str(empty) == "n/a"


def test_accuracy_counts_the_threshold_itself() -> None:
    ious = np.array([0.5, 0.49, 0.51, 0.0])
    assert accuracy_at(ious) == 0.5
    assert accuracy_at(ious, 0.25) == 0.75
    assert mean_iou(ious) == pytest.approx(0.375)


def test_the_interval_is_a_bootstrap_of_pictures() -> None:
    rng = np.random.default_rng(2)
    pictures = [f"p{i}" for i in rng.integers(0, 40, 150)]
    bias = {picture: rng.random() for picture in pictures}
    values = np.array([float(rng.random() < bias[picture]) for picture in pictures])
    found = bootstrap_interval(values, pictures, resamples=4000)
    groups = [
        [v for v, p in zip(values, pictures, strict=True) if p == q] for q in sorted(set(pictures))
    ]
    means = []
    for _ in range(4000):
        drawn = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        numbers = [v for group in drawn for v in group]
        means.append(sum(numbers) / len(numbers))
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert found.n == 150


def test_samples_of_one_picture_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(3).random(30) < 0.6, 10)
    apart = bootstrap_interval(values, range(300))
    together = bootstrap_interval(values, [i // 10 for i in range(300)])
    assert together.value == apart.value
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_intervals_cover_what_they_promise() -> None:
    rng = np.random.default_rng(4)
    inside = 0
    for trial in range(200):
        sizes = rng.integers(1, 5, 60)
        owner = np.repeat(np.arange(60), sizes)
        hits = rng.random(len(owner)) < rng.beta(3, 2, 60)[owner]
        found = bootstrap_interval(hits, owner.tolist(), resamples=400, seed=trial)
        inside += found.low <= 0.6 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_same_seed_same_interval_in_any_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random(500)
    whole = bootstrap_interval(values, range(500), seed=7)
    assert bootstrap_interval(values, range(500), seed=7) == whole
    assert bootstrap_interval(values, range(500), seed=8) != whole
    monkeypatch.setattr("vg_engine.core.evaluation.intervals._CHUNK", 5000)
    assert bootstrap_interval(values, range(500), seed=7) == whole


def test_one_picture_tells_no_spread() -> None:
    found = bootstrap_interval(np.array([1.0, 0.0]), ["a", "a"])
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert str(found) == "0.500"


def test_estimates_read_well() -> None:
    assert str(Estimate(0.8534, 0.8261, 0.879, 600)) == "0.853 [0.826, 0.879]"


def test_what_makes_no_interval_is_refused() -> None:
    values = np.array([0.5, 0.7])
    with pytest.raises(InputError, match="clusters"):
        bootstrap_interval(values, ["a"])
    with pytest.raises(InputError, match="finite"):
        bootstrap_interval(np.array([0.5, math.nan]), ["a", "b"])
    for wrong in ({"level": 1.0}, {"level": 0.0}, {"resamples": 0}):
        with pytest.raises(InputError, match="level"):
            bootstrap_interval(values, ["a", "b"], **wrong)
