"""The share of a map inside true boxes, against a fine raster that is painted square by square."""

import numpy as np
import pytest

from vg_engine.core.geometry import Affine, Frame, SoftMap, share_inside

FINE = 8  # squares per cell and axis; boxes in the tests end on their lines


def plain_share(values: np.ndarray, boxes: list[list[float]]) -> float:
    """Boxes in grid units, on lines of the raster: each square lies inside some box or in none."""
    inside = np.zeros(np.multiply(values.shape, FINE), dtype=bool)
    for row, col in np.ndindex(inside.shape):
        x, y = (col + 0.5) / FINE, (row + 0.5) / FINE
        inside[row, col] = any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in boxes)
    mass = np.kron(values.astype(float), np.ones((FINE, FINE)))
    return float(mass[inside].sum() / mass.sum()) if mass.any() else 0.0


@pytest.mark.parametrize("beyond", [0, 2])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_the_share_is_the_painted_one(number: int, beyond: int) -> None:
    rng = np.random.default_rng(number)
    for _ in range(12):
        rows, cols = (int(n) for n in rng.integers(1, 6, 2))
        values = (rng.random((3, rows, cols)) ** 4).astype(np.float32)
        values[2] = 0
        # On lines of the raster, and up to so many cells beyond the grid's border.
        low, high = -beyond * FINE, (np.array([cols, rows]) + beyond) * FINE + 1
        ends = np.sort(rng.integers(low, high, (number, 2, 2)), axis=1)
        boxes = ends.reshape(number, 4) / FINE
        scale, shift = rng.uniform(0.3, 30, 2).tolist(), rng.uniform(-40, 40, 2).tolist()
        frame = Affine(tuple(scale), tuple(shift))
        original = np.array([frame.box(tuple(box)) for box in boxes.tolist()]).reshape(-1, 4)
        found = share_inside(SoftMap(values, frame), original)
        expected = [plain_share(one, boxes.tolist()) for one in values]
        assert found == pytest.approx(expected, abs=1e-9)
        assert found[2] == 0.0, "a map without mass"
        assert (found >= 0).all()
        assert (found <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ([], 0),
        ([(0, 0, 20, 40)], 1 / 2),
        ([(0, 0, 20, 40), (0, 0, 20, 40)], 1 / 2),  # what overlaps counts once
        ([(0, 0, 20, 40), (10, 0, 30, 40)], 3 / 4),
        ([(5, 5, 15, 15)], 1 / 16),
        ([(-90, -90, 90, 90)], 1),  # what lies beyond the grid adds nothing
        ([(50, 0, 90, 20), (-40, 0, 0, 20)], 0),
        ([(-40, -40, 20, 90)], 1 / 2),
    ],
)
def test_the_share_of_even_attention(boxes: list[tuple[int, ...]], share: float) -> None:
    soft = SoftMap(np.ones((1, 4, 4), np.float32), Affine((10.0, 10.0), (0.0, 0.0)))
    for precision in (np.float32, np.float64):
        given = np.array(boxes, dtype=precision).reshape(-1, 4)
        assert share_inside(soft, given) == pytest.approx([share])


def test_attention_on_the_padding_is_outside_even_the_whole_picture() -> None:
    # 120 x 60 padded to a square of 120: the upper and lower quarter of the grid show nothing.
    view = Frame.of(120, 60).pad(0.0, 30.0, 0.0, 30.0).resize(336.0, 336.0)
    values = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    soft = SoftMap(values, view.view(np.arange(64).reshape(8, 8)).to_original)
    shown = values[:, 2:6].sum(axis=(1, 2)) / values.sum(axis=(1, 2))
    assert share_inside(soft, np.array([[0.0, 0.0, 120.0, 60.0]])) == pytest.approx(shown, abs=1e-6)


def test_what_was_cropped_away_is_nowhere_on_the_grid() -> None:
    view = Frame.of(120, 60).crop(30.0, 0.0, 60.0, 60.0).resize(336.0, 336.0)
    frame = view.view(np.arange(36).reshape(6, 6)).to_original
    soft = SoftMap(np.ones((1, 6, 6), np.float32), frame)
    assert share_inside(soft, np.array([[0.0, 0.0, 30.0, 60.0]])) == pytest.approx([0.0])
    assert share_inside(soft, np.array([[0.0, 0.0, 60.0, 60.0]])) == pytest.approx([0.5])
