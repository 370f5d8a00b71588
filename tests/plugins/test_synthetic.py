"""Scenes as a data set are the exam and its calibration, sample for sample, drawn on demand."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.plugins.datasets import exam
from vg_engine.plugins.datasets.synthetic import scenes


def samples(data: DataSet) -> list[Sample]:
    found = list(data)
    assert all(isinstance(one, Sample) for one in found)
    return [one for one in found if isinstance(one, Sample)]


def same(ours: Sample, theirs: exam.Sample) -> bool:
    assert ours.mask is not None
    return (
        ours.text == theirs.text
        and ours.picture == theirs.scene_id
        and ours.groups == {"kind": theirs.kind}
        and np.array_equal(np.asarray(ours.boxes), [theirs.box])
        and np.array_equal(np.asarray(ours.open()), theirs.image)
        and np.array_equal(ours.mask().mask, theirs.mask)
    )


def test_the_exam_is_the_exam() -> None:
    data = scenes(None)
    ours = samples(data)
    assert len(ours) == exam.EXAM_SIZE
    assert all(map(same, ours, exam.exam()))
    assert ours[1].id == "exam-00000-1"
    assert data.name == "scenes?split=exam"


@pytest.mark.parametrize("n", [1, 2, 37])
def test_calibration_is_calibration_sample_for_sample(n: int) -> None:
    ours = samples(scenes(None, split="calibration", n=n, draw=3))
    theirs = exam.calibration(n, draw_number=3)
    assert len(ours) == len(theirs) == n
    assert all(map(same, ours, theirs))


def test_samples_of_one_scene_share_picture_and_not_target() -> None:
    first, second, third = samples(scenes(None, split="calibration", n=3))
    assert first.picture == second.picture != third.picture
    assert not first.same_target(second)
    assert first.target is not None
    assert first.target.startswith(f"{first.picture}-")
    assert len({first.id, second.id, third.id}) == 3


def test_a_set_is_read_lazily_and_again_the_same() -> None:
    data = scenes(None, split="calibration", n=1_000_000)
    first = next(iter(data))
    again = next(iter(data))
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert first.id == again.id
    assert np.array_equal(np.asarray(first.open()), np.asarray(again.open()))


def test_kept_samples_hold_no_pictures() -> None:
    kept = samples(scenes(None, split="calibration", n=40))
    pictures = [one.open() for one in kept]  # each drawn once more, out of order with the reading
    assert len({id(picture) for picture in pictures}) == 20
    # All that a sample holds is a function of the scene's number; what they share keeps two scenes.
    assert all(isinstance(one.image, functools.partial) for one in kept)
    shared = {id(one.image.args[0]): one.image.args[0] for one in kept}  # type: ignore[attr-defined]
    assert len(shared) == 1
    (drawn,) = shared.values()
    assert drawn.cache_info().currsize == 2


def test_what_tells_two_sets_apart() -> None:
    sets = [
        scenes(None),
        scenes(None, split="calibration"),
        scenes(None, split="calibration", n=10),
        scenes(None, split="calibration", n=10, draw=1),
    ]
    assert len({each.revision for each in sets}) == len(sets)
    assert len({each.name for each in sets}) == len(sets)
    assert scenes(None, n=600).revision == scenes(None).revision
    assert scenes(None, split="calibration", n=1000).revision == sets[1].revision
    assert sets[3].name == "scenes?split=calibration&n=10&draw=1"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"split": "exams"}, "did you mean exam"),
        ({"split": "x"}, "known: calibration, exam"),
        ({"split": "training"}, "never measured on"),
        ({"n": 10}, "leave n and draw out"),
        ({"draw": 1}, "leave n and draw out"),
        ({"split": "calibration", "n": -1}, "at least one"),
        ({"split": "calibration", "draw": 1000}, "0 to 999"),
        ({"split": "calibration", "draw": -1}, "0 to 999"),
    ],
)
def test_what_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        scenes(None, **asked)  # type: ignore[arg-type]


def test_a_path_is_refused() -> None:
    with pytest.raises(InputError, match="drawn, not read"):
        scenes(Path("x"))
