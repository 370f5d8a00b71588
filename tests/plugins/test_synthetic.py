import functools
from pathlib import Path

import numpy as np
import pytest
from dataset_files import drawn, good, refusal

from vg_engine.plugins.datasets import exam
from vg_engine.plugins.datasets.synthetic import scenes


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.text, one.picture) == (other.text, other.scene_id)
        assert one.groups == {"kind": other.kind}
        assert np.array_equal(one.boxes, [other.box])
        assert np.array_equal(one.open(), other.image)
        assert np.array_equal(drawn(one), other.mask)


def test_the_exam_is_the_exam():
    data = scenes(None)
    ours = good(data)
    assert len(ours) == exam.EXAM_SIZE
    assert_same(ours, exam.exam())
    assert ours[1].id == "exam-00000-1"
    assert data.name == "scenes?split=exam"


@pytest.mark.parametrize("n", [1, 2, 37])
def test_calibration_is_calibration_sample_for_sample(n):
    theirs = exam.calibration(n, draw_number=3)
    assert len(theirs) == n
    assert_same(good(scenes(None, split="calibration", n=n, draw=3)), theirs)


def test_samples_of_one_scene_share_picture_and_not_target():
    first, second, third = good(scenes(None, split="calibration", n=3))
    assert first.picture == second.picture != third.picture
    assert not first.same_target(second)
    assert first.target.startswith(f"{first.picture}-")
    assert len({first.id, second.id, third.id}) == 3
    # A set is read lazily, and again the same.
    data = scenes(None, split="calibration", n=1_000_000)
    first, again = next(iter(data)), next(iter(data))
    assert first.id == again.id
    assert np.array_equal(first.open(), again.open())


def test_kept_samples_hold_no_pictures():
    kept = good(scenes(None, split="calibration", n=40))
    pictures = [one.open() for one in kept]  # each drawn once more, out of order with the reading
    assert len({id(picture) for picture in pictures}) == 20
    # All that a sample holds is a function of the scene's number; what they share keeps two scenes.
    assert all(isinstance(one.image, functools.partial) for one in kept)
    (shared,) = {one.image.args[0] for one in kept}
    assert shared.cache_info().currsize == 2


def test_what_tells_two_sets_apart():
    options = {}, {"n": 10}, {"n": 10, "draw": 1}
    sets = [scenes(None), *(scenes(None, split="calibration", **each) for each in options)]
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
def test_what_is_refused(asked, words):
    assert words in refusal(scenes, None, **asked)
    assert "drawn, not read" in refusal(scenes, Path("x"))
