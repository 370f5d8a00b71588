"""Shared by tests of data sets: outlines, masks pixel by pixel, what was read or refused."""

import numpy as np
import pytest

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import Fault, Sample

WIDTH, HEIGHT = 40, 30


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(*boxes, size=(WIDTH, HEIGHT)):
    """The union of boxes whose right and bottom edges lie outside."""
    mask = np.zeros(size[::-1], bool)
    for row, column in np.ndindex(*mask.shape):
        mask[row, column] = any(x <= column < r and y <= row < b for x, y, r, b in boxes)
    return mask


def drawn(sample):
    return sample.mask().mask


def sorted_out(data):
    """Samples by their ids, and by theirs what the faults say."""
    records = list(data)
    samples = {one.id: one for one in records if isinstance(one, Sample)}
    faults = {one.id: one.error for one in records if isinstance(one, Fault)}
    assert len(samples) + len(faults) == len(records)
    assert not any("\n" in error for error in faults.values())
    return samples, faults


def good(data):
    """The samples of a set without faults."""
    samples, faults = sorted_out(data)
    assert not faults
    return list(samples.values())


def refusal(call, *arguments, **options):
    """The message, of one line, with which a call refuses its input."""
    with pytest.raises(InputError) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)
