"""Samples with their pictures decoded, their truths checked and their maps taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.evaluation.outcomes import outcome
from vg_engine.core.evaluation.samples import Fault, Sample, TrueMask, as_fault, fit_boxes
from vg_engine.core.heads import Head

_AGREE = 0.5  # least IoU of the boxes' extent and the mask's


@dataclass(frozen=True, eq=False)
class SampleTruth:
    """The true boxes and mask of a sample, original upright pixels."""

    boxes: Float64[np.ndarray, "n 4"] | None
    mask: TrueMask | None


@dataclass(frozen=True, eq=False)
class OpenSample:
    """A sample whose picture and truth are there; `place` is its own in the data set."""

    place: int
    sample: Sample
    picture: Picture
    truth: SampleTruth


def open_batch(
    engine: Engine, samples: Sequence[Sample], batch: Sequence[Unit]
) -> tuple[list[OpenSample], dict[int, Fault]]:
    """Open the samples of a batch, each picture once.

    Args:
        engine: decodes the pictures.
        samples: the data set.
        batch: units of it.

    Returns:
        The samples that can be used, and the faults of the others by place.
    """
    opened: list[OpenSample] = []
    faults: dict[int, Fault] = {}
    for unit in batch:
        for place in unit.samples:
            known = opened[-1].picture if opened and opened[-1].place in unit.samples else None
            try:
                opened.append(open_sample(engine, samples, place, known))
            except VGError as error:
                faults[place] = as_fault(samples[place].id, error)
    return opened, faults


def open_sample(
    engine: Engine, samples: Sequence[Sample], place: int, picture: Picture | None = None
) -> OpenSample:
    """Open a sample: its picture and its truth.

    Args:
        engine: decodes the picture.
        samples: the data set.
        place: of the sample in it.
        picture: the sample's, where it was decoded already.

    Raises:
        VGError: the picture cannot be used, or the truth does not fit it.
    """
    sample = samples[place]
    if sample.boxes is None and sample.mask is None:
        raise InputError("it has no true box and no true mask: there is nothing to score against")
    picture = engine.picture(sample.open()) if picture is None else picture
    sample.check_size(picture.size)
    mask = None if sample.mask is None else sample.mask()
    width, height = picture.size
    if mask is not None and mask.mask.shape != (height, width):
        rows, columns = mask.mask.shape
        raise InputError(
            f"its true mask is {columns} x {rows}, its picture {width} x {height}; mend the "
            "annotation"
        )
    boxes = None if sample.boxes is None else fit_boxes(sample.boxes, picture.size)
    outcome(true_boxes=boxes, true_mask=mask, found=False)  # refuses truths that contradict
    if boxes is not None and mask is not None and mask.mask.any():
        _check_extent(boxes, mask)
    return OpenSample(place, sample, picture, SampleTruth(boxes, mask))


def _check_extent(boxes: Float64[np.ndarray, "n 4"], mask: TrueMask) -> None:
    """Refuse boxes that are far from the mask: one of them is in another form or frame."""
    rows, columns = np.nonzero(mask.mask)
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
    boxed = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if iou(boxed, drawn) < _AGREE:
        raise InputError(
            f"its box {boxed.tolist()} is far from its mask, which fills {drawn.tolist()}; are "
            "both in pixels of the upright picture, and the box xyxy?"
        )


def open_picture(engine: Engine, sample: Sample) -> Picture:
    """Decode the picture of a sample, and check that its true boxes lie in it.

    Raises:
        VGError: the picture cannot be used, or a box does not fit.
    """
    picture = engine.picture(sample.open())
    sample.check_size(picture.size)
    if sample.boxes is not None:
        fit_boxes(sample.boxes, picture.size)
    return picture


def good_maps(observed: Sequence[HeadMaps | VGError]) -> list[HeadMaps]:
    """The maps of one sample, per prompt.

    Raises:
        VGError: a prompt could not be asked.
    """
    maps = []
    for one in observed:
        if isinstance(one, VGError):
            raise one
        maps.append(one)
    return maps


def auto_heads(engine: Engine, seen: HeadMaps) -> tuple[Head, ...]:
    """The heads that one sentence chooses, as the engine does without a head set."""
    return engine.variant(heads=None).choose(seen).heads
