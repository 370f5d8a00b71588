"""The share of a map inside true boxes, against a fine raster that is painted square by square."""

import numpy as np
import pytest

from vg_engine.core.geometry import Affine, Frame, SoftMap, share_inside

FINE = 8  # squares per cell and axis; boxes in the tests end on their lines


def plain_share(values: np.ndarray, boxes: list[list[float]]) -> float:
    """Boxes in grid units, on lines of the raster: each square lies inside some box or in none."""
    rows, cols = values.shape
    inside = total = 0.0
    for row in range(rows * FINE):
        for col in range(cols * FINE):
            x, y = (col + 0.5) / FINE, (row + 0.5) / FINE
            mass = float(values[row // FINE, col // FINE]) / FINE**2
            total += mass
            if any(left < x < right and top < y < bottom for left, top, right, bottom in boxes):
                inside += mass
    return inside / total if total else 0.0


def random_boxes(
    rng: np.random.Generator, rows: int, cols: int, number: int, beyond: int
) -> np.ndarray:
    """Boxes on lines of the raster that reach `beyond` cells over the grid's border."""
    low, high = -beyond * FINE, (np.array([cols, rows]) + beyond) * FINE + 1
    ends = np.sort(rng.integers(low, high, (number, 2, 2)), axis=1)
    return ends.reshape(number, 4) / FINE


@pytest.mark.parametrize("beyond", [0, 2])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_the_share_is_the_painted_one(number: int, beyond: int) -> None:
    rng = np.random.default_rng(number)
    for _ in range(12):
        rows, cols = (int(n) for n in rng.integers(1, 6, 2))
        values = (rng.random((3, rows, cols)) ** 4).astype(np.float32)
        values[2] = 0
        boxes = random_boxes(rng, rows, cols, number, beyond)
        frame = Affine(
            (float(rng.uniform(0.3, 30)), float(rng.uniform(0.3, 30))),
            (float(rng.uniform(-40, 40)), float(rng.uniform(-40, 40))),
        )
        original = np.array([frame.box(tuple(box)) for box in boxes.tolist()]).reshape(-1, 4)
        found = share_inside(SoftMap(values, frame), original)
        expected = [plain_share(one, boxes.tolist()) for one in values]
        assert found == pytest.approx(expected, abs=1e-9)
        assert found[2] == 0.0, "a map without mass"
        assert (found >= 0).all()
        assert (found <= 1 + 1e-12).all()


def test_boxes_that_overlap_count_once() -> None:
    soft = SoftMap(np.ones((1, 4, 4), np.float32), Affine((10.0, 10.0), (0.0, 0.0)))
    one = np.array([[0.0, 0.0, 20.0, 40.0]])
    assert share_inside(soft, one) == pytest.approx([0.5])
    assert share_inside(soft, np.concatenate([one, one])) == pytest.approx([0.5])
    assert share_inside(soft, np.array([*one.tolist(), [10.0, 0.0, 30.0, 40.0]])) == pytest.approx(
        [0.75]
    )
    assert share_inside(soft, np.array([[5.0, 5.0, 15.0, 15.0]])) == pytest.approx([1 / 16])


def test_what_lies_beyond_the_grid_adds_nothing() -> None:
    soft = SoftMap(np.ones((1, 2, 2), np.float32), Affine((1.0, 1.0), (0.0, 0.0)))
    assert share_inside(soft, np.array([[-9.0, -9.0, 9.0, 9.0]])) == pytest.approx([1.0])
    assert share_inside(soft, np.array([[5.0, 0.0, 9.0, 2.0], [-4.0, 0.0, 0.0, 2.0]])) == 0.0
    assert share_inside(soft, np.array([[-4.0, -4.0, 1.0, 9.0]])) == pytest.approx([0.5])


def test_attention_on_the_padding_is_outside_even_the_whole_picture() -> None:
    # 120 x 60 padded to a square of 120: the upper and lower quarter of the grid show nothing.
    view = Frame.of(120, 60).pad(0.0, 30.0, 0.0, 30.0).resize(336.0, 336.0)
    positions = np.arange(64).reshape(8, 8)
    values = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    soft = SoftMap(values, view.view(positions).to_original)
    shown = values[:, 2:6].sum(axis=(1, 2)) / values.sum(axis=(1, 2))
    assert share_inside(soft, np.array([[0.0, 0.0, 120.0, 60.0]])) == pytest.approx(shown, abs=1e-6)


def test_what_was_cropped_away_is_nowhere_on_the_grid() -> None:
    view = Frame.of(120, 60).crop(30.0, 0.0, 60.0, 60.0).resize(336.0, 336.0)
    soft = SoftMap(
        np.ones((1, 6, 6), np.float32), view.view(np.arange(36).reshape(6, 6)).to_original
    )
    assert share_inside(soft, np.array([[0.0, 0.0, 30.0, 60.0]])) == pytest.approx([0.0])
    assert share_inside(soft, np.array([[0.0, 0.0, 60.0, 60.0]])) == pytest.approx([0.5])


def test_pixels_of_another_precision_are_taken() -> None:
    soft = SoftMap(np.ones((1, 2, 2), np.float32), Affine((1.0, 1.0), (0.0, 0.0)))
    assert share_inside(soft, np.array([[0, 0, 1, 2]], dtype=np.float32)) == pytest.approx([0.5])
    assert share_inside(soft, np.zeros((0, 4))).tolist() == [0.0]
