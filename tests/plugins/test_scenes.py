import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from vg_engine.plugins.datasets import scenes
from vg_engine.plugins.datasets.exam import EXAM_SIZE, Sample, calibration, digest, exam
from vg_engine.plugins.datasets.scene_drawing import SHAPES, shape_coverage
from vg_engine.plugins.datasets.scenes import KINDS, make_scene

# Written before the first full training run. A change here means another exam: never change it.
# It holds pictures, texts, kinds, boxes and masks, so how the exam is made up is tested no further.
EXAM_DIGEST = "513060e76bea16bd3b9037becf521fe035cc7ba631c9b3867e71bee7d5e6a08d"
PARTS = ("colour", "shape", "size")


@pytest.fixture(scope="module")
def samples():
    return exam()


def test_the_exam_never_changes_and_its_digest_notices_a_pixel(samples):
    assert digest(samples) == EXAM_DIGEST
    first, second = samples[:2]
    changed = first.image.copy()
    changed[0, 0, 0] ^= 1
    other = Sample(**{**vars(first), "image": changed})
    assert digest((first, second)) != digest((other, second))
    assert len(digest(())) == len(hashlib.sha256().hexdigest())


def test_equal_fifths_and_size(samples):
    assert len(samples) == EXAM_SIZE >= 500
    assert Counter(s.kind for s in samples) == dict.fromkeys(KINDS, EXAM_SIZE // 5)
    assert len({s.scene_id for s in samples}) == EXAM_SIZE // 2


def test_every_expression_has_one_referent(samples):
    """Every word of the phrase is true of it alone; not the generator's own code."""
    for sample in (*samples, *calibration(50)):
        words = set(sample.text.split()) - {"the", "object"}
        description = [
            words <= {getattr(one, part) for part in PARTS} for one in sample.scene.objects
        ]
        assert np.flatnonzero(description).tolist() == [sample.target], sample.text


def test_masks_lie_on_the_drawn_pixels():
    hues = {"red": 0, "orange": 28, "yellow": 56, "green": 122, "blue": 220, "purple": 285}
    for index in range(20):
        scene = make_scene(scenes.TRAINING_SEEDS[0], index)
        for thing in scene.objects:
            red, green, blue = np.median(scene.image[thing.mask], axis=0) / 255
            alpha, beta = red - (green + blue) / 2, (green - blue) * 3**0.5 / 2
            hue = np.degrees(np.arctan2(beta, alpha))
            apart = abs((hue - hues[thing.colour] + 180) % 360 - 180)
            assert apart < 12, (thing.colour, hue)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_square_and_differ(shape):
    coverage = shape_coverage(shape, 60)
    shares = {"circle": 0.785, "square": 1.0, "triangle": 0.5, "star": 0.38, "cross": 5 / 9}
    assert coverage.mean() == pytest.approx(shares[shape], abs=0.04)
    assert coverage.min() >= 0
    assert coverage.max() == 1
    for edge in (coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]):
        assert edge.max() > 0


def test_scenes_are_deterministic_and_read_only():
    first, again, other = (make_scene(0, i) for i in (7, 7, 8))
    assert np.array_equal(first.image, again.image)
    assert [o.box for o in first.objects] == [o.box for o in again.objects]
    assert not np.array_equal(first.image, other.image)
    with pytest.raises(ValueError, match="read-only"):
        first.image[0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        first.objects[0].mask[0, 0] = True


def test_seed_ranges_and_scenes_are_disjoint(samples):
    seeds = scenes.TRAINING_SEEDS, scenes.CALIBRATION_SEEDS, scenes.EXAM_SEEDS
    assert all(not set(a) & set(b) for a, b in combinations(seeds, 2))
    exam_pictures = {s.image.tobytes() for s in samples}
    assert not exam_pictures & {s.image.tobytes() for s in calibration(200)}
    assert not exam_pictures & {make_scene(0, i).image.tobytes() for i in range(100)}


def test_calibration_draws_differ_and_nest():
    few, more, other = calibration(5), calibration(9), calibration(5, draw_number=1)
    assert [s.text for s in few] == [s.text for s in more[:5]]
    assert np.array_equal(few[4].image, more[4].image)
    assert not np.array_equal(few[0].image, other[0].image)


def test_two_expressions_share_a_scene_and_name_two_objects(samples):
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert first.scene_id == second.scene_id
        assert first.image is second.image
        assert first.target != second.target
        assert first.kind != second.kind
