"""The scene generator and the exam keep their promises."""

import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from vg_engine.plugins.datasets.exam import EXAM_SIZE, Sample, calibration, digest, exam
from vg_engine.plugins.datasets.scene_drawing import COLOURS, SHAPES, shape_coverage
from vg_engine.plugins.datasets.scenes import (
    CALIBRATION_SEEDS,
    EXAM_SEEDS,
    KINDS,
    SIDE,
    SIZES,
    TRAINING_SEEDS,
    make_scene,
)

# Written before the first full training run. A change here means another exam: never change it.
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
        said = [words <= {getattr(one, part) for part in PARTS} for one in sample.scene.objects]
        assert np.flatnonzero(said).tolist() == [sample.target], sample.text


def test_words_match_the_kind(samples):
    families = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}
    for sample in samples:
        said = [p for p, words in families.items() if set(words) & set(sample.text.split())]
        assert sorted(said) == sorted(sample.kind.split("+"))


def test_scenes_share_attributes(samples):
    def shared(sample, part):
        mine = getattr(sample.scene.objects[sample.target], part)
        return sum(getattr(one, part) == mine for one in sample.scene.objects) > 1

    sharing = [any(shared(sample, part) for part in PARTS) for sample in samples]
    assert np.mean(sharing) >= 0.5
    # Of two words, neither alone may give the answer away too often.
    for kind in ("size+colour", "colour+shape", "size+shape"):
        for part in kind.split("+"):
            mine = [shared(sample, part) for sample in samples if sample.kind == kind]
            assert np.mean(mine) >= 0.4, (kind, part)


def test_objects_keep_their_limits_and_apart(samples):
    counts = Counter(len(s.scene.objects) for s in samples)
    assert set(counts) == {2, 3, 4, 5, 6}
    assert min(counts.values()) >= 60
    limits = {"small": (0.12, 0.20), "large": (0.26, 0.35)}
    for sample in samples:
        for thing in sample.scene.objects:
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= SIDE
            assert 0 <= top < bottom <= SIDE
            low, high = limits[thing.size]
            assert low <= (right - left) / SIDE <= high
            assert low <= (bottom - top) / SIDE <= high
        for a, b in combinations(sample.scene.objects, 2):
            across = max(a.box[0] - b.box[2], b.box[0] - a.box[2])
            down = max(a.box[1] - b.box[3], b.box[1] - a.box[3])
            assert max(across, down) >= 5


def test_boxes_are_the_tight_boxes_of_the_masks(samples):
    for sample in samples[:100]:
        rows, columns = np.nonzero(sample.mask)
        assert sample.mask.shape == sample.image.shape[:2]
        assert sample.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_masks_lie_on_the_drawn_pixels():
    hues = {"red": 0, "orange": 28, "yellow": 56, "green": 122, "blue": 220, "purple": 285}
    for index in range(20):
        scene = make_scene(TRAINING_SEEDS[0], index)
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
    ranges = [set(TRAINING_SEEDS), set(CALIBRATION_SEEDS), set(EXAM_SEEDS)]
    assert all(not a & b for a, b in combinations(ranges, 2))
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
