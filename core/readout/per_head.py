"""Scores of each head on its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.readout.instances import ReadOut


def head_fit(
    observed: HeadMaps, size: tuple[int, int], how: ReadOut, truth: Float[np.ndarray, "n 4"]
) -> tuple[Float32[np.ndarray, " heads"], Float32[np.ndarray, " heads"]]:
    """Score the best instance of each head alone against the true boxes.

    Args:
        observed: maps of any heads.
        size: (width, height) of the original picture.
        how: settings of the read-out.
        truth: true boxes, xyxy in original pixels.

    Returns:
        Per head the IoU of its box with the best-fitting true box, and 1 where its peak lies
        inside a true box, else 0.
    """
    alone = how.each(observed, [(head,) for head in observed.heads], size, masks=False)
    boxes = np.array([instances[0].box for instances in alone])
    points = np.array([instances[0].point for instances in alone])
    fits = iou(boxes[:, None], truth[None].astype(np.float64)).max(axis=1)
    x, y = points[:, None, 0], points[:, None, 1]
    inside = (x >= truth[:, 0]) & (x < truth[:, 2]) & (y >= truth[:, 1]) & (y < truth[:, 3])
    return np.asarray(fits, dtype=np.float32), np.asarray(inside.any(axis=1), dtype=np.float32)
