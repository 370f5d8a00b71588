"""Leakage: pictures that stand in two sets of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.samples import Sample

_COMPARED = 5  # pictures of one name that are opened


def shared_pictures(engine: Engine, first: Sequence[Sample], second: Sequence[Sample]) -> int:
    """Count the pictures that stand in both.

    They are recognised by their names. Two data sets may use one name for two pictures, so some of
    those in question are opened: if none of them is the same, pixel by pixel, none is taken to be.

    Args:
        engine: decodes pictures.
        first, second: samples.
    """
    one = {sample.picture: sample for sample in first}
    other = {sample.picture: sample for sample in second}
    common = [name for name in other if name in one]
    step = max(1, len(common) // _COMPARED)
    opened = common[::step][:_COMPARED]
    return len(common) if any(_same(engine, one[name], other[name]) for name in opened) else 0


def _same(engine: Engine, one: Sample, other: Sample) -> bool:
    try:
        pixels = engine.picture(one.open()).pixels, engine.picture(other.open()).pixels
    except VGError:
        return False  # told among the faults
    return np.array_equal(*pixels)
