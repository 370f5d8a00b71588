"""`scenes?split=exam` and `scenes?split=calibration`: drawn scenes, no download.

The exam is the fixed 600 expressions that measure the embedded model; calibration draws similar
ones, from scenes of neither the exam nor the training. Scenes are drawn on demand: a sample holds
no pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, TrueMask
from vg_engine.plugins.datasets import checks, exam
from vg_engine.plugins.datasets.scenes import CALIBRATION_SEEDS, EXAM_SEEDS

SPLITS = ("exam", "calibration")
_CALIBRATION_SIZE = 1_000
# Increase if the generator draws other scenes from the same seeds (never: the exam is fixed).
_GENERATOR = "1"
_KEPT = 2  # scenes kept drawn: the one being read and the one before it
_Draw = Callable[[int], tuple[exam.Sample, exam.Sample]]


def scenes(path: Path | None, *, split: str = "exam", n: int = 0, draw: int = 0) -> DataSet:
    """Draw synthetic scenes with two expressions each.

    Args:
        path: must be None.
        split: `exam` or `calibration`.
        n: number of calibration samples; 0 = 1,000. The exam always has 600.
        draw: number of the calibration draw, 0 to 999; each has other scenes.

    Raises:
        InputError: there is a path, the split is unknown, or a number is out of range.
    """
    if path is not None:
        raise InputError(f"scenes are drawn, not read: leave {path} out (scenes?split=exam)")
    if split == "training":
        raise InputError("training scenes are never measured on; write split=exam or calibration")
    if checks.chosen("split", split, SPLITS) == "exam":
        if n not in (0, exam.EXAM_SIZE) or draw:
            raise InputError("the exam is always the same 600 samples; leave n and draw out")
        seed, count, name = EXAM_SEEDS[0], exam.EXAM_SIZE, checks.written("scenes", split=split)
    else:
        if n < 0:
            raise InputError(f"n={n}: ask for at least one sample (or 0, for {_CALIBRATION_SIZE})")
        if draw not in range(len(CALIBRATION_SEEDS)):
            raise InputError(f"draw={draw} is not one of 0 to {len(CALIBRATION_SEEDS) - 1}")
        seed, count = CALIBRATION_SEEDS[draw], n or _CALIBRATION_SIZE
        name = checks.written("scenes", split=split, n=count, draw=draw)
    return DataSet(
        name=name,
        records=lambda: _records(seed, split, count),
        revision=checks.digest("scenes", _GENERATOR, split, str(count), str(draw)),
    )


def _records(seed: int, split: str, count: int) -> Iterator[Sample | Fault]:
    drawn: _Draw = functools.lru_cache(_KEPT)(functools.partial(exam.scene_samples, seed, split))
    for number in range(count):
        index, k = divmod(number, 2)
        one = drawn(index)[k]
        yield Sample(
            id=f"{one.scene_id}-{k}",
            picture=one.scene_id,
            image=functools.partial(_pixels, drawn, index),
            text=one.text,
            boxes=checks.boxes_array([one.box]),
            mask=functools.partial(_mask, drawn, index, k),
            target=f"{one.scene_id}-{one.target}",
            groups={"kind": one.kind},
        )


def _pixels(drawn: _Draw, index: int) -> UInt8[np.ndarray, "height width 3"]:
    return drawn(index)[0].image


def _mask(drawn: _Draw, index: int, k: int) -> TrueMask:
    return TrueMask(drawn(index)[k].mask)
