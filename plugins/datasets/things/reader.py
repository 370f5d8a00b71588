"""`things?split=exam`: everyday things on photographs, with exact truth, drawn on demand.

Each scene is asked for two things. The exam is fixed: 100 sentences of each kind, on backgrounds
that no other split has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, TrueMask
from vg_engine.plugins.datasets import checks
from vg_engine.plugins.datasets.things import drawing, files
from vg_engine.plugins.datasets.things.scenes import SPLITS, Scene, make_scene

EXAM_SIZE = 700
SIZE = 1_000  # of the other splits, unless another is asked for
DRAWS = 1_000
# Increase if the generator draws other scenes from the same seeds (never: the exam is fixed).
_GENERATOR = "1"
_KEPT = 2  # scenes kept drawn: the one being read and the one before it
_Draw = Callable[[int], Scene]


def things(path: Path | None, *, split: str = "exam", n: int = 0, draw: int = 0) -> DataSet:
    """Draw scenes of everyday things with two sentences each.

    Args:
        path: must be None.
        split: `exam`, `validation` or `calibration`.
        n: number of samples; 0 = 700 of the exam (which has no more), 1,000 of the others.
        draw: number of the draw, 0 to 999; each has other scenes. The exam has one draw.

    Raises:
        InputError: there is a path, the split is unknown, or a number is out of range.
    """
    if path is not None:
        raise InputError(f"things are drawn, not read: leave {path} out (things?split=exam)")
    if split == "training":
        raise InputError(
            "training scenes are never measured on; write split=exam, validation or calibration"
        )
    exam = checks.chosen("split", split, SPLITS[1:]) == "exam"
    if exam and (n > EXAM_SIZE or draw):
        raise InputError(
            f"the exam has {EXAM_SIZE} samples and one draw; correct n, leave draw out"
        )
    if n < 0:
        raise InputError(f"n={n}: ask for at least one sample (or 0, for all of them)")
    if draw not in range(DRAWS):
        raise InputError(f"draw={draw} is not one of 0 to {DRAWS - 1}")
    count = n or (EXAM_SIZE if exam else SIZE)
    asked = {} if exam and count == EXAM_SIZE else {"n": count}
    return DataSet(
        name=checks.written(
            "things", None, split=split, **asked, **({} if exam else {"draw": draw})
        ),
        records=lambda: _records(split, draw, count),
        revision=checks.digest(
            "things", _GENERATOR, files.revision(), split, str(count), str(draw)
        ),
    )


def _records(split: str, draw: int, count: int) -> Iterator[Sample | Fault]:
    drawn: _Draw = functools.lru_cache(_KEPT)(functools.partial(make_scene, split, draw))
    for number in range(count):
        index, k = divmod(number, 2)
        scene, picture = drawn(index), f"{split}-{index:05d}"
        asked = scene.asked[k]
        yield Sample(
            id=f"{picture}-{k}",
            picture=picture,
            image=functools.partial(_pixels, drawn, index),
            text=asked.text,
            boxes=checks.boxes_array([scene.seen[target].box for target in asked.targets]),
            mask=functools.partial(_mask, drawn, index, asked.targets),
            target=f"{picture}-{'+'.join(map(str, asked.targets)) or 'none'}",
            groups={"kind": asked.kind},
            size=(scene.image.shape[1], scene.image.shape[0]),
        )


def _pixels(drawn: _Draw, index: int) -> drawing.Rgb:
    return drawn(index).image


def _mask(drawn: _Draw, index: int, targets: tuple[int, ...]) -> TrueMask:
    return TrueMask(np.isin(drawn(index).owners, [target + 1 for target in targets]))
