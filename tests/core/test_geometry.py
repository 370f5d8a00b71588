"""Geometry against brute force: points walked step by step, pictures painted pixel by pixel."""

import itertools
import math

import numpy as np
import pytest

from vg_engine.core import geometry
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Affine, Frame, SoftMap, View, clip_point, fuse, hidden_share

UNIT = Affine((1.0, 1.0), (0.0, 0.0))


def grid_of(rows: int, cols: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + rows * cols).reshape(rows, cols)


def view_of(rows: int, cols: int, box: tuple[float, float, float, float]) -> View:
    """A grid stretched over a box of the original."""
    left, top, right, bottom = map(float, box)
    scale = ((right - left) / cols, (bottom - top) / rows)
    return View(grid_of(rows, cols), Affine(scale, (left, top)))


def maps_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def random_affine(
    rng: np.random.Generator, scales: tuple[float, float], offsets: tuple[float, float]
) -> Affine:
    return Affine(tuple(rng.uniform(*scales, 2).tolist()), tuple(rng.uniform(*offsets, 2).tolist()))


def test_a_chain_of_steps_is_each_step_after_the_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = rng.integers(1, 900, 2).tolist()
        frame, size = Frame.of(width, height), np.array([width, height], dtype=float)
        points = rng.uniform(-20, 900, (6, 2))
        walked = points.copy()
        for _ in range(int(rng.integers(0, 6))):
            step, new = rng.integers(3), rng.integers(1, 500, 2).astype(float)
            left, top, right, bottom = rng.integers(0, 90, 4).astype(float).tolist()
            if step == 0:
                frame = frame.resize(*new.tolist())
                walked, size = walked * new / size, new
            elif step == 1:
                frame = frame.crop(left, -top, *new.tolist())
                walked, size = walked - (left, -top), new
            else:
                frame = frame.pad(left, top, right, bottom)
                walked += (left, top)
                size += (left + right, top + bottom)
        assert (frame.width, frame.height) == pytest.approx(tuple(size))
        rows, cols = rng.integers(1, 40, 2).tolist()
        to_original = frame.view(grid_of(rows, cols)).to_original
        for point, cell in zip(points, walked * [cols, rows] / size, strict=True):
            assert to_original.inverse_point(*point) == pytest.approx(tuple(cell), abs=1e-6)
            assert to_original.point(*cell) == pytest.approx(tuple(point), abs=1e-6)


def test_boxes_go_there_and_back() -> None:
    map_ = Affine((2.5, 0.5), (-3.0, 7.0))
    assert map_.box((0.0, 1.0, 2.0, 3.0)) == (-3.0, 7.5, 2.0, 8.5)
    assert map_.inverse_box(map_.box((0.0, 1.0, 2.0, 3.0))) == (0.0, 1.0, 2.0, 3.0)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_scales_that_turn_or_flatten_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="scales"):
        Affine(scale, (0.0, 0.0))


def test_views_that_are_no_grid_are_refused() -> None:
    with pytest.raises(InputError, match="grid"):
        View(np.zeros((0, 3), np.int64), UNIT)
    with pytest.raises(InputError, match="negative"):
        View(grid_of(2, 2, start=-1), UNIT)


def test_a_shifted_view_shows_the_same() -> None:
    view = view_of(3, 4, (0, 0, 8, 6))
    moved = view.shifted(5)
    np.testing.assert_array_equal(moved.positions, view.positions + 5)
    assert moved.to_original == view.to_original


def on_grid(map_: Affine, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (x - map_.offset[0]) / map_.scale[0], (y - map_.offset[1]) / map_.scale[1]


def painted(
    views: list[View], maps: list[np.ndarray], canvas: SoftMap, per_unit: int
) -> np.ndarray:
    """Fusion by painting: small squares of the original, each asked which cells show it."""
    rows, cols = canvas.shape
    fused = np.zeros((len(maps[0]), rows, cols))
    left, top = canvas.to_original.point(0.0, 0.0)
    right, bottom = canvas.to_original.point(float(cols), float(rows))
    across, down = (round((b - a) * per_unit) for a, b in ((left, right), (top, bottom)))
    xs = left + (np.arange(across) + 0.5) / per_unit
    ys = top + (np.arange(down) + 0.5) / per_unit
    x, y = (part.ravel() for part in np.meshgrid(xs, ys))
    u, v = on_grid(canvas.to_original, x, y)
    cell = v.astype(int) * cols + u.astype(int)
    summed = np.zeros(rows * cols)
    for view, values in zip(views, maps, strict=True):
        i, j = on_grid(view.to_original, x, y)
        shown = (j >= 0) & (j < view.shape[0]) & (i >= 0) & (i < view.shape[1])
        area = view.to_original.scale[0] * view.to_original.scale[1]
        weight = 1 / area  # how densely this view samples
        np.add.at(summed, cell[shown], weight)
        for head, one in enumerate(values):
            density = one[j[shown].astype(int), i[shown].astype(int)] / area
            np.add.at(fused[head].reshape(-1), cell[shown], weight * density)
    summed = summed.reshape(rows, cols)
    cell_area = canvas.to_original.scale[0] * canvas.to_original.scale[1]
    return cell_area * np.divide(fused, summed, out=np.zeros_like(fused), where=summed > 0)


def test_a_single_view_comes_back_as_it_is() -> None:
    view = view_of(5, 7, (-3, -1, 11.5, 9))
    maps = maps_of(3, 5, 7)
    fused = fuse([view], [maps])
    np.testing.assert_array_equal(fused.values, maps)
    assert fused.to_original == view.to_original


def test_tiles_and_thumbnail_are_what_painting_gives() -> None:
    corners = itertools.product((0, 16), (0, 24))
    views = [view_of(4, 4, (left, top, left + 24, top + 16)) for top, left in corners]
    views.append(view_of(4, 4, (0, 0, 48, 32)))
    maps = [maps_of(2, 4, 4, seed=i) for i in range(5)]
    fused = fuse(views, maps)
    assert fused.shape == (8, 8)
    assert fused.to_original == Affine((6.0, 4.0), (0.0, 0.0))
    np.testing.assert_allclose(fused.values, painted(views, maps, fused, 1), atol=1e-6)


def test_views_that_meet_at_odd_places_are_what_painting_gives() -> None:
    rng = np.random.default_rng(3)
    for trial in range(12):
        views = []
        for _ in range(int(rng.integers(2, 5))):
            rows, cols, wide, high = rng.integers(1, 5, 4).tolist()  # whole pixels: exact to paint
            left, top = rng.integers(-4, 12, 2).tolist()
            views.append(view_of(rows, cols, (left, top, left + cols * wide, top + rows * high)))
        maps = [maps_of(2, *view.shape, seed=trial * 9 + i) for i, view in enumerate(views)]
        fused = fuse(views, maps)
        finest = min(np.prod(view.to_original.scale) for view in views)
        extents = np.array([view.extent for view in views])
        corner = fused.to_original.point(*map(float, fused.shape[::-1]))
        assert fused.to_original.offset == tuple(extents[:, :2].min(0))
        assert corner == pytest.approx(tuple(extents[:, 2:].max(0)))
        assert np.prod(fused.to_original.scale) == pytest.approx(finest, rel=1.0)
        # Cells of the canvas need not be whole pixels: paint finely and allow for it.
        fine = painted(views, maps, fused, 30)
        np.testing.assert_allclose(fused.values, fine, rtol=0.05, atol=0.01)


def test_fusing_keeps_a_constant_density() -> None:
    canvas = Frame.of(997, 613).resize(5 * 448.0, 3 * 448.0)  # its tiles meet but for rounding
    corners = itertools.product((0.0, 448.0, 896.0), (0.0, 448.0, 896.0, 1344.0, 1792.0))
    tiles = [canvas.crop(x, y, 448.0, 448.0).view(grid_of(16, 16)) for y, x in corners]
    odd = [view_of(3, 5, (0, 0, 40, 30)), view_of(7, 2, (10, 5, 35, 28))]
    for views, shape in ((tiles, (48, 80)), (odd, (9, 3))):
        areas = [np.prod(view.to_original.scale) for view in views]
        shapes = [(1, *view.shape) for view in views]
        maps = [np.full(s, 0.02 * a, np.float32) for s, a in zip(shapes, areas, strict=True)]
        fused = fuse(views, maps)
        assert fused.shape == shape
        density = fused.values / np.prod(fused.to_original.scale)
        np.testing.assert_allclose(density, 0.02, rtol=1e-5)


def test_maps_that_do_not_fit_their_views_are_refused() -> None:
    view = view_of(2, 3, (0, 0, 3, 2))
    for views, maps, description in (
        ([], [], "views"),
        ([view], [], "views"),
        ([view], [maps_of(1, 3, 2)], "its maps are"),
    ):
        with pytest.raises(InputError, match=description):
            fuse(views, maps)


def test_inside_keeps_the_cells_that_show_the_picture() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        rows, cols = rng.integers(1, 12, 2).tolist()
        width, height = rng.integers(1, 60, 2).tolist()
        soft = SoftMap(maps_of(2, rows, cols), random_affine(rng, (0.5, 12), (-40, 20)))
        scale = soft.to_original.scale
        shows = np.zeros((rows, cols), bool)
        for r, c in np.ndindex(rows, cols):
            left, top, right, bottom = soft.to_original.box((c + 0.0, r + 0.0, c + 1.0, r + 1.0))
            across = min(right, width) - max(left, 0)
            down = min(bottom, height) - max(top, 0)
            shows[r, c] = across > 1e-5 * scale[0] and down > 1e-5 * scale[1]
        if not shows.any():
            with pytest.raises(InputError, match="no cell"):
                soft.inside((width, height))
            continue
        kept = soft.inside((width, height))
        lines, columns = np.flatnonzero(shows.any(1)), np.flatnonzero(shows.any(0))
        np.testing.assert_array_equal(kept.values, soft.values[:, lines][:, :, columns])
        there = soft.to_original.point(float(columns[0]), float(lines[0]))
        assert kept.to_original.point(0.0, 0.0) == pytest.approx(there)
        assert kept.to_original.scale == scale


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1)])
def test_a_thread_of_a_picture_survives(width: int, height: int) -> None:
    left, top = (5000 - width) / 2, (5000 - height) / 2
    padded = Frame.of(width, height).pad(left, top, left, top).resize(336.0, 336.0)
    soft = SoftMap(maps_of(24, 24), padded.view(grid_of(24, 24)).to_original)
    kept = soft.inside((width, height))
    assert sorted(kept.shape) == [2, 24], "the middle of the square runs between two cells"
    image = kept.render((width, height))
    assert image.shape == (height, width)
    assert image.max() == 1.0
    assert image.min() > 0
    whole = np.ones(kept.shape, bool)
    assert geometry.mask_to_original(whole, kept.shape, kept.to_original, (width, height)).all()


def test_a_cell_that_shows_only_rounding_is_left_out() -> None:
    for sliver in (1e-9, -1e-9):
        # The picture of 4 x 3 pixels ends a sliver before or behind a border between cells.
        map_ = Affine((0.5, 0.5), (-1.0 + sliver, -2.0 - sliver))
        kept = SoftMap(maps_of(30, 30), map_).inside((4, 3))
        assert kept.shape == (6, 8)
        assert kept.to_original.offset == pytest.approx((0.0, 0.0), abs=1e-6)


def test_rendering_is_bilinear_between_cell_centres() -> None:
    rng = np.random.default_rng(5)
    for _ in range(25):
        rows, cols = rng.integers(1, 6, 2).tolist()
        width, height = rng.integers(1, 25, 2).tolist()
        soft = SoftMap(maps_of(rows, cols), random_affine(rng, (0.7, 8), (-9, 9)))
        expected = np.zeros((height, width))
        for y, x in np.ndindex(height, width):
            u, v = soft.to_original.inverse_point(x + 0.5, y + 0.5)
            if not (0 <= u < cols and 0 <= v < rows):
                continue
            u, v = min(max(u - 0.5, 0), cols - 1), min(max(v - 0.5, 0), rows - 1)
            for r, c in np.ndindex(rows, cols):
                weight = max(0, 1 - abs(u - c)) * max(0, 1 - abs(v - r))
                expected[y, x] += weight * float(soft.values[r, c])
        expected /= expected.max() or 1.0
        np.testing.assert_allclose(soft.render((width, height)), expected, atol=1e-5)


def test_rendering_nothing_and_several() -> None:
    assert SoftMap(np.zeros((2, 2), np.float32), UNIT).render((3, 4)).tolist() == [[0.0] * 3] * 4
    with pytest.raises(InputError, match="one map"):
        SoftMap(maps_of(2, 3, 3), UNIT).render((3, 3))


def test_a_mask_takes_what_lies_under_each_pixels_centre() -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        rows, cols, factor = rng.integers(1, 6, 3).tolist()
        raster = rng.random((rows * factor, cols * factor)) < 0.5
        width, height = rng.integers(1, 25, 2).tolist()
        map_ = random_affine(rng, (0.3, 8), (-9, 9))
        found = geometry.mask_to_original(raster, (rows, cols), map_, (width, height))
        for y, x in np.ndindex(height, width):
            u, v = map_.inverse_point(x + 0.5, y + 0.5)
            seen = 0 <= u < cols and 0 <= v < rows
            assert found[y, x] == (seen and raster[int(v * factor), int(u * factor)])


def test_maps_are_read_only_copies() -> None:
    values = maps_of(3, 3)
    soft = SoftMap(values, UNIT)
    values[0, 0] = 9
    assert soft.values[0, 0] != 9
    with pytest.raises(ValueError, match="read-only"):
        soft.values[0, 0] = 1
    with pytest.raises(InputError, match="grid"):
        soft.with_values(maps_of(3, 4))
    assert soft.with_values(maps_of(5, 3, 3)).values.shape == (5, 3, 3)


def test_boxes_are_cut_to_the_picture() -> None:
    assert geometry.clip_box((-3.0, 2.0, 50.0, 7.5), (20, 10)) == (0.0, 2.0, 20.0, 7.5)
    for outside in ((-5.0, 0.0, 0.0, 5.0), (20.0, 0.0, 25.0, 5.0), (1.0, 10.0, 5.0, 12.0)):
        with pytest.raises(InputError, match="outside"):
            geometry.clip_box(outside, (20, 10))


def test_points_are_moved_into_a_pixel() -> None:
    for point, moved in (
        ((-3.0, 4.0), (0.0, 4.0)),
        ((20.0, 10.0), (19.5, 9.5)),
        ((99.0, -1.0), (19.5, 0.0)),
        ((7.25, 3.5), (7.25, 3.5)),
    ):
        assert clip_point(point, (20, 10)) == moved


def test_the_cell_of_a_point_always_shows_a_part_of_the_picture() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        width, height = rng.integers(1, 50, 2).tolist()
        map_ = random_affine(rng, (0.4, 30), (-30, 0))
        cols, rows = map(math.ceil, map_.inverse_point(float(width), float(height)))
        seen = SoftMap(maps_of(rows, cols), map_).inside((width, height))
        x, y = clip_point(tuple(rng.uniform(-10, 60, 2).tolist()), (width, height))
        left, top, right, bottom = geometry.cell_box(seen, (x, y), (width, height))
        assert left - 1e-6 <= x <= right + 1e-6
        assert top - 1e-6 <= y <= bottom + 1e-6
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_what_is_hidden_is_what_no_extent_covers() -> None:
    left, right = view_of(2, 2, (0, 0, 10, 20)), view_of(2, 2, (10, 0, 15, 20))
    assert hidden_share([left], (20, 20)) == pytest.approx(0.5)
    assert hidden_share([left, right], (20, 20)) == pytest.approx(0.25)
    assert hidden_share([view_of(2, 2, (5, 12, 30, 40))], (20, 20)) == pytest.approx(0.7)
    assert hidden_share([view_of(2, 2, (30, 0, 40, 20))], (20, 20)) == 1.0
    assert hidden_share([view_of(2, 2, (-5, -5, 30, 30))], (20, 20)) == 0.0
