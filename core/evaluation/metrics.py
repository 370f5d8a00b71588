"""Metrics of boxes, masks and points.

Boxes are float xyxy, right and bottom exclusive, no + 1. A value without samples is NaN, never 0.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Float64

GREC_SCORE = 0.7  # GREC: boxes with a lower score do not count as answers
GREC_IOU = 0.5  # GREC: least generalised IoU of a matched pair


def iou(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float64[np.ndarray, "*#n"]:
    """Compute the intersection over union of xyxy boxes, pair by pair; leading axes broadcast.

    It is 0 for two boxes without area.
    """
    common, union = _shared(a.astype(np.float64), b.astype(np.float64))
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def generalised_iou(
    a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]
) -> Float64[np.ndarray, "*#n"]:
    """Compute IoU minus the share of the common hull that neither box covers (used by GREC).

    In (-1, 1], pair by pair; leading axes broadcast. Never above `iou`; negative for boxes that
    lie apart; 0 for two boxes without area at one place. The gIoU of LISA and GRES is something
    else: the mean of the masks' IoUs.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    _, union = _shared(first, second)
    low = np.minimum(first[..., :2], second[..., :2])
    high = np.maximum(first[..., 2:], second[..., 2:])
    hull = _area(np.concatenate([low, high], axis=-1))
    empty = np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return np.asarray(iou(first, second) - empty)


def grec_f1(
    boxes: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, " n"] | None,
    true_boxes: Float[np.ndarray, "m 4"],
    *,
    score_threshold: float = GREC_SCORE,
    iou_threshold: float = GREC_IOU,
) -> float:
    """Compute GREC's F1 of one sample: 2 TP / (2 TP + FP + FN).

    Boxes count whose score reaches the threshold (all of them where there are no scores). The pair
    of highest **generalised** IoU is matched and removed, repeatedly, while that IoU reaches its
    threshold. Of equal pairs the better-scored box comes first, then the earlier true box.
    Without a target: 1 if no box counts, else 0.
    """
    kept = boxes.astype(np.float64)
    if scores is not None:
        order = np.argsort(-scores.astype(np.float64), kind="stable")
        kept = kept[order[scores[order] >= score_threshold]]
    predicted, true = len(kept), len(true_boxes)
    if not true:
        return float(not predicted)
    fits = generalised_iou(kept[:, None], true_boxes.astype(np.float64)[None])
    matched = 0
    while matched < min(predicted, true):
        row, column = divmod(int(np.argmax(fits)), true)
        if fits[row, column] < iou_threshold:
            break
        matched += 1
        fits[row, :] = fits[:, column] = -np.inf
    return 2 * matched / (predicted + true)


def _shared(
    a: Float64[np.ndarray, "*#n 4"], b: Float64[np.ndarray, "*#n 4"]
) -> tuple[Float64[np.ndarray, "*#n"], Float64[np.ndarray, "*#n"]]:
    """Compute the areas of intersection and union."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.asarray(np.clip(sides, 0.0, None).prod(axis=-1))
    return common, np.asarray(_area(a) + _area(b) - common)


def _area(boxes: Float64[np.ndarray, "*n 4"]) -> Float64[np.ndarray, "*n"]:
    return np.asarray(np.clip(boxes[..., 2:] - boxes[..., :2], 0.0, None).prod(axis=-1))


def pointing(point: tuple[float, float], mask: Bool[np.ndarray, "height width"]) -> bool:
    """Play the pointing game: check that the pixel at `point` (x, y) belongs to the mask.

    A point outside the picture is a miss.
    """
    column, row = math.floor(point[0]), math.floor(point[1])
    height, width = mask.shape
    return 0 <= column < width and 0 <= row < height and bool(mask[row, column])
