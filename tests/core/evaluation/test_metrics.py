"""Metrics of boxes, masks and points against plain readings and pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco

from vg_engine.core.evaluation import metrics
from vg_engine.core.evaluation.metrics import generalised_iou, grec_f1, iou


def plain_overlaps(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """IoU and generalised IoU of two boxes with an area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return common / union, common / union - (hull - union) / hull


def test_overlaps_agree_with_a_plain_loop_and_pycocotools() -> None:
    corners = np.random.default_rng(0).uniform(0, 30, (2, 2000, 2, 2))
    a, b = np.sort(corners, axis=2).reshape(2, 2000, 4)
    plain = np.array([plain_overlaps(x, y) for x, y in zip(a, b, strict=True)])
    assert iou(a, b) == pytest.approx(plain[:, 0])
    assert generalised_iou(a, b) == pytest.approx(plain[:, 1])
    assert generalised_iou(a[:7, None], b[None, :5]).shape == (7, 5)
    as_xywh = [np.concatenate([x[:, :2], x[:, 2:] - x[:, :2]], axis=1) for x in (a[:50], b[:50])]
    theirs = coco.iou(as_xywh[0], as_xywh[1], [0] * 50)
    np.testing.assert_allclose(iou(a[:50, None], b[None, :50]), theirs, atol=1e-12)


def test_overlaps_have_no_extra_pixel_and_no_zero_division() -> None:
    one, point = np.array([0.0, 0.0, 2.0, 2.0]), np.array([3.0, 3.0, 3.0, 3.0])
    for other, plain, generalised in (
        ([0, 0, 2, 2], 1.0, 1.0),
        ([1, 0, 3, 2], 2 / 6, 2 / 6),  # the hull is the union
        ([1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([2, 0, 4, 2], 0.0, 0.0),  # they touch
        ([4, 0, 6, 2], 0.0, -4 / 12),
        ([2, 2, 2, 2], 0.0, 0.0),  # a point on the corner: the hull is the box
        ([4, 1, 4, 1], 0.0, -4 / 8),
    ):
        box = np.array(other, dtype=float)
        for pair in ((one, box), (box, one)):
            assert iou(*pair) == pytest.approx(plain)
            assert generalised_iou(*pair) == pytest.approx(generalised)
    assert iou(point, point) == generalised_iou(point, point) == 0.0
    assert iou(one, np.array([3.0, 3.0, 2.5, 2.5])) == 0.0, "an inverted box has no area"
    assert iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    assert iou(one.astype(np.float32), one.astype(np.float32)).dtype == np.float64


def test_grec_f1_takes_its_thresholds() -> None:
    true, near = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[0.0, 0.0, 10.0, 4.0]])
    half, score = np.array([[0.0, 0.0, 10.0, 5.0]]), np.array([0.3], dtype=np.float32)
    assert grec_f1(near, None, true) == 0.0
    assert grec_f1(half, None, true) == 1.0, "the threshold itself is enough"
    assert grec_f1(near, None, true, iou_threshold=0.4) == 1.0
    assert grec_f1(near, score, true, iou_threshold=0.4) == 0.0
    assert grec_f1(near, score, true, iou_threshold=0.4, score_threshold=0.2) == 1.0


def test_pointing_takes_the_pixel_that_holds_the_point() -> None:
    one_pixel = np.zeros((4, 6), bool)
    one_pixel[2, 3] = True
    points = ((3.0, 2.0), (3.999, 2.999), (4.0, 2.5), (2.999, 2.5))
    assert [metrics.pointing(point, one_pixel) for point in points] == [True, True, False, False]
    for outside in ((-0.1, 1.0), (6.0, 1.0), (1.0, 4.0), (1.0, -5.0)):
        assert not metrics.pointing(outside, np.ones((4, 6), bool))
