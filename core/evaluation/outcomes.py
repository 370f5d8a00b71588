"""Outcomes of answers against the truth, and the field's metrics computed from them.

`outcome` compares an answer with the truth; its result holds all that any metric needs. Every
metric is a ratio of sums over samples, so it is two numbers per sample: `Metric.parts`. Sum them
over any group of samples, average them over the draws of a random entry, pass them to
`vg_engine.core.evaluation.intervals` for intervals and differences. `docs/metrics.md` has all
conventions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from vg_engine.core.errors import InputError, NotFoundError, nearest
from vg_engine.core.evaluation.intervals import Estimate, Paired, paired, ratio_interval
from vg_engine.core.evaluation.metrics import GREC_SCORE, grec_f1, iou, pointing
from vg_engine.core.evaluation.samples import TrueMask

SizeBucket = Literal["small", "medium", "large"]
SizeRule = Literal["coco", "share"]

_LISA = 1e-5  # LISA adds it to each union
_COCO = (32.0**2, 96.0**2)  # square pixels
_SHARES = (0.01, 0.1)  # of the picture


@dataclass(frozen=True)
class Outcome:
    """One entry's answer to one sample, compared with the truth.

    Attributes:
        target: whether the picture shows a target.
        found: whether the entry found one.
        iou: best box against the true box; 0 where nothing was found. NaN unless there is
            exactly one true box, and where answer or truth has no boxes.
        hit: whether the peak lies on the target; None where there is no target, the peak lies
            on ignored pixels, or either side is unknown.
        inter, union: pixels of both masks without the ignored ones; None = a mask is unknown.
        f1: GREC's F1 of the answered boxes; NaN where either has no boxes.
    """

    target: bool
    found: bool
    iou: float = math.nan
    hit: bool | None = None
    inter: int | None = None
    union: int | None = None
    f1: float = math.nan

    def __post_init__(self) -> None:
        for name, share in (("iou", self.iou), ("f1", self.f1)):
            if not math.isnan(share) and not 0.0 <= share <= 1.0 + 1e-9:
                raise InputError(f"{name} must lie in [0, 1] or be NaN, got {share}")
        if (self.inter is None) != (self.union is None):
            raise InputError(f"inter {self.inter} and union {self.union}: give both or neither")
        if not 0 <= (self.inter or 0) <= (self.union or 0):
            raise InputError(f"inter {self.inter} must lie in [0, union = {self.union}]")


def outcome(
    *,
    true_boxes: Float[np.ndarray, "m 4"] | None = None,
    true_mask: TrueMask | None = None,
    found: bool = True,
    boxes: Float[np.ndarray, "n 4"] | None = None,
    scores: Float[np.ndarray, " n"] | None = None,
    point: tuple[float, float] | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
    score_threshold: float = GREC_SCORE,
) -> Outcome:
    """Compare one answer with the truth of its sample. All in original upright pixels.

    A part of the answer is None where this entry never gives it (boxes without masks, say); its
    metrics are then not measured. Where nothing was `found`, boxes, point and mask count as empty
    whatever they hold; pass them nevertheless (no box, any point, an empty mask), or the miss
    would drop out of the score instead of lowering it.

    Args:
        true_boxes, true_mask: as in `Sample`; None = not known. No box, or without boxes an empty
            mask, means that there is no target.
        found: False = the entry answers that there is no target.
        boxes: xyxy.
        scores: one per box; None = there are none: the first box is the best, and GREC's F1
            takes all.
        point: the peak (x, y). It hits inside the true mask, or without one inside a true box.
        mask: the union of all answered masks.
        score_threshold: GREC's F1 takes the boxes whose score reaches it.

    Raises:
        InputError: there is no truth, its parts contradict each other, something is found without
            a box, scores and boxes differ in number, or the masks differ in shape.
    """
    target = _has_target(true_boxes, true_mask)
    kept = None if boxes is None else (boxes if found else boxes[:0])
    if found and kept is not None and not len(kept):
        raise InputError("found is True but there is no box; say found=False")
    if boxes is not None and scores is not None and len(scores) != len(boxes):
        raise InputError(f"{len(scores)} scores but {len(boxes)} boxes")
    fit = f1 = math.nan
    if kept is not None and true_boxes is not None:
        ranks = None if scores is None else scores[: len(kept)]
        f1 = grec_f1(kept, ranks, true_boxes, score_threshold=score_threshold)
        if len(true_boxes) == 1:
            best = 0 if ranks is None or not len(ranks) else int(np.argmax(ranks))
            fit = float(iou(kept[best], true_boxes[0])) if len(kept) else 0.0
    inter = union = None
    if mask is not None and true_mask is not None:
        inter, union = _pixels(mask if found else np.zeros_like(mask), true_mask)
    hit = _hit(point, true_boxes, true_mask, found=found) if target else None
    return Outcome(target, found, fit, hit, inter, union, f1)


def _has_target(true_boxes: Float[np.ndarray, "m 4"] | None, true_mask: TrueMask | None) -> bool:
    if true_boxes is None and true_mask is None:
        raise InputError("a sample without true boxes and without a true mask cannot be scored")
    drawn = true_mask is not None and bool(true_mask.mask.any())
    if true_boxes is None:
        return drawn
    # A box with an empty mask is an object too small for a pixel; a mask without a box is wrong.
    if drawn and not len(true_boxes):
        raise InputError("the truth has a mask but no box; correct the annotation")
    return len(true_boxes) > 0


def _pixels(mask: Bool[np.ndarray, "height width"], truth: TrueMask) -> tuple[int, int]:
    """Count the pixels of intersection and union, without the ignored ones."""
    if mask.shape != truth.mask.shape:
        raise InputError(f"the mask is {mask.shape} but the true mask {truth.mask.shape}")
    both, either = mask & truth.mask, mask | truth.mask
    if truth.ignored is not None:
        both, either = both & ~truth.ignored, either & ~truth.ignored
    return int(np.count_nonzero(both)), int(np.count_nonzero(either))


def _hit(
    point: tuple[float, float] | None,
    true_boxes: Float[np.ndarray, "m 4"] | None,
    true_mask: TrueMask | None,
    *,
    found: bool,
) -> bool | None:
    if point is None or not found:
        return None if point is None else False
    if true_mask is not None:
        if true_mask.ignored is not None and pointing(point, true_mask.ignored):
            return None
        return pointing(point, true_mask.mask)
    assert true_boxes is not None, "a target has boxes or a mask"
    x, y = point
    left, top, right, bottom = true_boxes.astype(np.float64).T
    return bool(((left <= x) & (x < right) & (top <= y) & (y < bottom)).any())


@dataclass(frozen=True, eq=False)
class Parts:
    """Each sample's part of a metric: value = sum(numerators) / sum(denominators).

    Attributes:
        numerators, denominators: one per outcome, in their order; both 0 where the metric does not
            count the sample.
    """

    numerators: Float64[np.ndarray, " n"]
    denominators: Float64[np.ndarray, " n"]

    @property
    def value(self) -> float:
        """Compute the metric over these samples; NaN where none counts."""
        total = float(self.denominators.sum())
        return float(self.numerators.sum()) / total if total > 0 else math.nan

    @property
    def counted(self) -> int:
        """Count the samples that the metric counts."""
        return int(np.count_nonzero(self.denominators))

    def take(self, rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> Parts:
        """Take the parts of some of the samples: a group, a bucket."""
        return Parts(self.numerators[rows], self.denominators[rows])

    def estimate(self, pictures: Sequence[Hashable], **how: int) -> Estimate:
        """Compute the metric with its interval; for `how` see `ratio_interval`."""
        return ratio_interval(self.numerators, self.denominators, pictures, **how)


def on_both(name: str, a: Parts, b: Parts) -> tuple[Parts, Parts]:
    """Restrict two entries' parts of a metric to the samples that count for both.

    A peak on ignored pixels is not a miss, so a sample may count for one entry alone; their
    difference is taken over the other samples. cIoU adds up pixels and keeps empty unions.
    """
    if name == "ciou":
        return a, b
    both = (a.denominators > 0) & (b.denominators > 0)
    return (
        Parts(np.where(both, a.numerators, 0.0), np.where(both, a.denominators, 0.0)),
        Parts(np.where(both, b.numerators, 0.0), np.where(both, b.denominators, 0.0)),
    )


def difference(name: str, a: Parts, b: Parts, pictures: Sequence[Hashable], **how: int) -> Paired:
    """Compare two entries in a metric, on the samples that count for both; see `paired`."""
    one, other = on_both(name, a, b)
    return paired(
        one.numerators,
        one.denominators,
        other.numerators,
        other.denominators,
        pictures,
        **how,
    )


@dataclass(frozen=True)
class Metric:
    """A metric: a ratio of sums over samples, in [0, 1], higher is better.

    Attributes:
        name: its name in settings and files.
        title: its name in tables.
        description: one sentence.
        part: numerator and denominator of one outcome; None = it does not count.
    """

    name: str
    title: str
    description: str
    part: Callable[[Outcome], tuple[float, float] | None]

    def parts(self, outcomes: Sequence[Outcome]) -> Parts:
        """Compute the parts of the outcomes, in their order."""
        found = [self.part(one) or (0.0, 0.0) for one in outcomes]
        table = np.array(found, dtype=np.float64).reshape(-1, 2)
        return Parts(table[:, 0].copy(), table[:, 1].copy())


def _accuracy(threshold: float) -> Metric:
    return Metric(
        f"acc@{threshold:g}",
        f"Acc@{threshold:g}",
        f"share of one-target samples whose best box has an IoU of {threshold:g} or more",
        lambda one: None if math.isnan(one.iou) else (float(one.iou >= threshold), 1.0),
    )


def _box_iou(one: Outcome) -> tuple[float, float] | None:
    return None if math.isnan(one.iou) else (one.iou, 1.0)


def _pointing(one: Outcome) -> tuple[float, float] | None:
    return None if one.hit is None else (float(one.hit), 1.0)


def _cumulative(one: Outcome) -> tuple[float, float] | None:
    if one.inter is None or one.union is None:
        return None
    return float(one.inter), float(one.union)


def _giou_lisa(one: Outcome) -> tuple[float, float] | None:
    if one.inter is None or one.union is None:
        return None
    return (one.inter / (one.union + _LISA) if one.union else 1.0), 1.0


def _giou_gres(one: Outcome) -> tuple[float, float] | None:
    if one.inter is None or one.union is None:
        return None
    if not one.target:
        return float(not one.found), 1.0
    return (one.inter / one.union if one.union else 0.0), 1.0


def _no_target(one: Outcome) -> tuple[float, float] | None:
    return None if one.target else (float(not one.found), 1.0)


def _target(one: Outcome) -> tuple[float, float] | None:
    return (float(one.found), 1.0) if one.target else None


def _f1(one: Outcome) -> tuple[float, float] | None:
    return None if math.isnan(one.f1) else (float(one.f1 >= 1.0), 1.0)


METRICS: tuple[Metric, ...] = (
    _accuracy(0.25),
    _accuracy(0.5),
    _accuracy(0.75),
    Metric("miou", "mIoU", "mean IoU of the best box over one-target samples", _box_iou),
    Metric("pointing", "Pointing", "share of samples whose peak lies on the target", _pointing),
    Metric("ciou", "cIoU", "pixels of all intersections over pixels of all unions", _cumulative),
    Metric("giou_lisa", "gIoU (LISA)", "mean IoU of the masks; two empty masks: 1", _giou_lisa),
    Metric(
        "giou_gres",
        "gIoU (GRES)",
        "mean IoU of the masks; without a target 1 if the answer is nothing, else 0",
        _giou_gres,
    ),
    Metric("n_acc", "N-acc", "share of no-target samples answered with nothing", _no_target),
    Metric("t_acc", "T-acc", "share of target samples answered with something", _target),
    Metric("grec_f1", "F1score", "share of samples whose boxes have F1 = 1 (GREC)", _f1),
)


def metric(name: str) -> Metric:
    """Find a metric by name.

    Raises:
        NotFoundError: no metric has this name.
    """
    for one in METRICS:
        if one.name == name:
            return one
    names = [one.name for one in METRICS]
    raise NotFoundError(f"no metric {name!r}; {nearest(name, names)}")


def true_area(true_boxes: Float[np.ndarray, "m 4"] | None, true_mask: TrueMask | None) -> float:
    """Compute the target's area in square pixels: of its mask where known, else of its boxes.

    Returns:
        The area without ignored pixels; 0 without a target, NaN where nothing is known.
    """
    if true_mask is not None:
        mask = true_mask.mask
        return float(
            np.count_nonzero(mask if true_mask.ignored is None else mask & ~true_mask.ignored)
        )
    if true_boxes is None:
        return math.nan
    given = true_boxes.astype(np.float64)
    return float((given[:, 2:] - given[:, :2]).prod(axis=1).sum())


def size_bucket(
    area: float, *, by: SizeRule = "coco", picture: tuple[int, int] | None = None
) -> SizeBucket | None:
    """Classify a target as small, medium or large; None without an area (0 or NaN).

    Args:
        area: square pixels of the original picture, from `true_area`.
        by: `coco` = as in the field: small below 32 x 32 pixels, medium below 96 x 96. `share` =
            by share of the picture: small below 1 %, medium below 10 %. Models see resized
            pictures, so the share better describes their task, but no published figures use it.
        picture: (width, height) in pixels, for `share`.

    Raises:
        InputError: the size rule is unknown, the area is below 0, or `share` has no picture.
    """
    if by not in ("coco", "share"):
        raise InputError(f"size rule {by!r}: choose coco or share")
    if area < 0:
        raise InputError(f"an area below 0: {area}; are the boxes xyxy?")
    if by == "share":
        if picture is None or min(picture) < 1:
            raise InputError(f"the share needs the picture's size, got {picture}")
        size, limits = area / (picture[0] * picture[1]), _SHARES
    else:
        size, limits = area, _COCO
    if math.isnan(area) or area == 0:
        return None
    return "small" if size < limits[0] else "medium" if size < limits[1] else "large"
