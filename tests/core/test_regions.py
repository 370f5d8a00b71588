"""Regions against plain readings of their definitions, on thousands of maps of every kind."""

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vg_engine.core.attention.maps import smooth, upsample
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.metrics import iou
from vg_engine.core.readout.regions import (
    GridRegion,
    all_positive,
    box_fit,
    half_level,
    mean_std,
    otsu,
    otsu_threshold,
    paper,
    peak_of,
    peak_share,
    sub_cells,
)

REGIONS: list[Callable[..., GridRegion]] = [
    paper,
    all_positive,
    otsu,
    mean_std,
    peak_share,
    half_level,
    box_fit,
]
PLAIN = settings(derandomize=True, deadline=None, max_examples=120, database=None)
Cell = tuple[int, int]


def random_maps(count: int, seed: int) -> Iterator[np.ndarray]:
    """Noise, blobs, plateaus, single cells; square and not, down to one cell."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        rows, cols = (int(n) for n in rng.integers(1, 11, 2))
        values = rng.random((rows, cols)) ** rng.integers(1, 8)
        if i % 5 == 1:
            values = rng.integers(0, 3, (rows, cols)).astype(float)
        elif i % 5 == 2:
            values = (rng.random((rows, cols)) < 0.3) * rng.random((rows, cols))
        elif i % 5 == 3:
            values = smooth(values.astype(np.float32)).astype(float)
        yield (values * 10.0 ** rng.integers(-6, 3)).astype(np.float32)


# Plain readings ----------------------------------------------------------------------------------


def flood(cells: set[Cell], start: Cell) -> set[Cell]:
    """The 8-connected component of `start`."""
    found, border = {start}, [start]
    while border:
        r, c = border.pop()
        for near in {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & cells - found:
            found.add(near)
            border.append(near)
    return found


def components(cells: set[Cell]) -> list[set[Cell]]:
    left, found = set(cells), []
    while left:
        found.append(flood(left, min(left)))
        left -= found[-1]
    return found


def gift_wrap(points: set[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the convex hull, by gift wrapping."""
    start = min(points)
    hull, current = [], start
    while True:
        hull.append(current)
        best = next(p for p in points if p != current)
        for p in points - {current, best}:
            turn = (best[0] - current[0]) * (p[1] - current[1]) - (best[1] - current[1]) * (
                p[0] - current[0]
            )
            further = math.dist(current, p) > math.dist(current, best)
            if turn < 0 or (turn == 0 and further):
                best = p
        current = best
        if current == start:
            return hull


def shoelace(hull: list[tuple[float, float]]) -> float:
    ahead = [*hull[1:], hull[0]]
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(hull, ahead, strict=True))) / 2


def in_hull(hull: list[tuple[float, float]], x: float, y: float) -> bool:
    ahead = [*hull[1:], hull[0]]
    turns = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(hull, ahead, strict=True)
    ]
    return all(t >= -1e-9 for t in turns) or all(t <= 1e-9 for t in turns)


def corners(cells: set[Cell]) -> set[tuple[float, float]]:
    return {(float(c + i), float(r + j)) for r, c in cells for i in (0, 1) for j in (0, 1)}


def above_mean(values: np.ndarray) -> set[Cell]:
    wide = values.astype(np.float64)
    mean = math.fsum(wide.ravel()) / wide.size
    return {(r, c) for r, c in np.ndindex(values.shape) if wide[r, c] > mean}


def plain_paper(values: np.ndarray) -> tuple[tuple[float, ...], list[tuple[float, float]]] | None:
    """Box and hull by the paper's sentences; None where nothing lies above the mean."""
    best = None
    for component in components(above_mean(values)):
        hull = gift_wrap(corners(component))
        key = (shoelace(hull), math.fsum(float(values[cell]) for cell in component))
        if (
            best is None
            or key[0] > best[0][0] + 1e-9
            or (abs(key[0] - best[0][0]) < 1e-9 and key[1] > best[0][1] * (1 + 1e-9))
        ):
            best = (key, hull)
    if best is None:
        return None
    xs, ys = zip(*best[1], strict=True)
    return (min(xs), min(ys), max(xs), max(ys)), best[1]


def share_inside(values: np.ndarray, mask: np.ndarray) -> float:
    """Mass inside the mask, every cell's mass spread evenly over its sub-cells."""
    factor = mask.shape[0] // values.shape[0]
    spread = np.kron(values.astype(np.float64), np.ones((factor, factor)))
    return float(spread[mask].sum() / spread.sum()) if spread.sum() else 0.0


# The paper's region ------------------------------------------------------------------------------


def test_the_paper_region_is_the_papers() -> None:
    for values in random_maps(600, seed=0):
        expected = plain_paper(values)
        found = paper(values)
        if expected is None:
            assert found.box == (0, 0, values.shape[1], values.shape[0])
            continue
        box, hull = expected
        assert found.box == box
        factor = found.mask.shape[0] // values.shape[0]
        rng = np.random.default_rng(1)
        for _ in range(25):
            r, c = (int(rng.integers(n)) for n in found.mask.shape)
            x, y = (c + 0.5) / factor, (r + 0.5) / factor
            assert found.mask[r, c] == in_hull(hull, x, y)
        assert found.mask.sum() / factor**2 == pytest.approx(shoelace(hull), rel=0.05, abs=0.1)


def test_the_hull_counts_and_not_the_number_of_cells() -> None:
    values = np.zeros((10, 10), np.float32)
    values[0:3, 0:3] = 1.0  # nine cells, hull 9
    for i in range(5):
        values[9 - i, 4 + i] = 1.0  # five cells on a diagonal, hull 1 + 8
    values[9, 4] = 0.0
    values[4, 9] = 1.0
    found = paper(values)
    assert found.box == plain_paper(values)[0]
    values[5, 9] = 1.0  # the hull of the diagonal is larger now
    assert paper(values).box[0] > 3


def test_of_equal_hulls_the_one_with_more_mass_counts() -> None:
    values = np.zeros((5, 9), np.float32)
    values[1:3, 1:3], values[1:3, 5:7] = 1.0, 1.5
    assert paper(values).box == (5, 1, 7, 3)
    values[1:3, 1:3] = 2.0
    assert paper(values).box == (1, 1, 3, 3)


def test_diagonal_neighbours_are_one_region() -> None:
    values = np.zeros((6, 6), np.float32)
    values[1, 1] = values[2, 2] = 1.0
    found = paper(values)
    assert found.box == (1, 1, 3, 3)
    assert found.mask.mean() * 36 == pytest.approx(3.0, abs=0.15)


def test_the_mean_is_over_all_cells_and_strict() -> None:
    values = np.array([[0.0, 1.0, 2.0, 1.0]], np.float32)  # the mean is 1
    assert paper(values).box == (2, 0, 3, 1)
    assert all_positive(values).box == (2, 0, 3, 1)


def test_all_positive_is_the_box_of_every_cell_above_the_mean() -> None:
    for values in random_maps(300, seed=2):
        cells = above_mean(values)
        found = all_positive(values)
        if not cells:
            assert found.box == (0, 0, values.shape[1], values.shape[0])
            continue
        rows, cols = zip(*cells, strict=True)
        assert found.box == (min(cols), min(rows), max(cols) + 1, max(rows) + 1)
        assert {(int(r), int(c)) for r, c in np.argwhere(found.mask)} == cells


# Regions of the bilinear map ---------------------------------------------------------------------


def plain_component(fine: np.ndarray, threshold: float, x: float, y: float) -> set[Cell]:
    """Sub-cells above the threshold that hang together with those touching (x, y)."""
    above = {(int(r), int(c)) for r, c in np.argwhere(fine > threshold)}
    touching = {
        (r, c)
        for r in range(fine.shape[0])
        for c in range(fine.shape[1])
        if r <= y <= r + 1 and c <= x <= c + 1
    }
    start = sorted(touching & above)
    return flood(above, start[0]) if start else touching


def threshold_of(region: Callable[..., GridRegion], values: np.ndarray, fine: np.ndarray) -> float:
    wide = fine.astype(np.float64)
    if region is mean_std:
        return float(wide.mean() + wide.std())
    if region is peak_share:
        return 0.5 * float(values.max())
    if region is half_level:
        floor = float(np.median(values))
        return floor + 0.55 * (float(values.max()) - floor)
    return otsu_threshold(fine)


@pytest.mark.parametrize("region", [otsu, mean_std, peak_share, half_level])
def test_the_component_of_the_bilinear_map_that_holds_the_peak(
    region: Callable[..., GridRegion],
) -> None:
    for values in random_maps(120, seed=3):
        if values.min() == values.max():
            continue
        fine = upsample(values, 4)
        found = region(values, factor=4)
        x, y = found.peak
        threshold = threshold_of(region, values, fine)
        expected = plain_component(fine, threshold, 4 * x, 4 * y)
        assert {(int(r), int(c)) for r, c in np.argwhere(found.mask)} == expected
        rows, cols = zip(*expected, strict=True)
        edges = (min(cols), min(rows), max(cols) + 1, max(rows) + 1)
        assert found.box == tuple(edge / 4 for edge in edges)


def between_variance(values: np.ndarray, threshold: float) -> float:
    low, high = values[values <= threshold], values[values > threshold]
    if not low.size or not high.size:
        return 0.0
    share = low.size / values.size
    return float(share * (1 - share) * (low.mean() - high.mean()) ** 2)


def test_otsu_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        values = np.concatenate(
            [rng.normal(0, 1, 200), rng.normal(rng.uniform(1, 6), 1, int(rng.integers(5, 200)))]
        ).astype(np.float32)
        wide = values.astype(np.float64)
        best = max(between_variance(wide, t) for t in wide[:-1])
        assert between_variance(wide, otsu_threshold(values)) >= 0.995 * best


def test_otsu_between_two_levels_is_the_middle_and_opencv_agrees() -> None:
    two = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    assert otsu_threshold(two) == pytest.approx(0.5, abs=0.01)
    assert otsu_threshold(np.ones((3, 3), np.float32)) == 1.0
    blob = np.zeros((20, 20), np.float32)
    blob[5:12, 6:14] = 1
    fine = upsample(smooth(blob), 4)
    bytes_ = np.round(255 * fine / fine.max()).astype(np.uint8)
    theirs, _ = cv2.threshold(bytes_, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    assert otsu_threshold(fine) / fine.max() == pytest.approx(theirs / 255, abs=0.01)


# The peak ----------------------------------------------------------------------------------------


def test_the_peak_is_the_maximum_of_the_bilinear_map() -> None:
    for values in random_maps(500, seed=5):
        x, y = peak_of(values)
        assert 0 < x < values.shape[1]
        assert 0 < y < values.shape[0]
        # Read the bilinear map there: cell centres at + .5.
        u, v = x - 0.5, y - 0.5
        r, c = int(v), int(u)
        near = [
            (1 - abs(u - j)) * (1 - abs(v - i)) * float(values[i, j])
            for i in (r, r + 1)
            for j in (c, c + 1)
            if i < values.shape[0] and j < values.shape[1]
        ]
        assert sum(near) == pytest.approx(float(values.max()), rel=1e-6)


@pytest.mark.parametrize(
    ("tied", "peak"),
    [
        (["...", ".#.", "..."], (1.5, 1.5)),
        (["....", ".##.", "...."], (2.0, 1.5)),
        (["###", "###"], (1.5, 1.0)),
        (["#....", "...##"], (4.0, 1.5)),  # the larger plateau
        (["#..#"], (0.5, 0.5)),  # alike: the first
        (["###", "#.#", "###"], (1.5, 0.5)),  # hollow: the nearest, first from the top left
        (["#.", ".#"], (0.5, 0.5)),  # the bilinear map sags between diagonal cells
    ],
)
def test_of_a_plateau_the_middle(tied: list[str], peak: tuple[float, float]) -> None:
    values = np.array([[1.0 if mark == "#" else 0.2 for mark in line] for line in tied], np.float32)
    assert peak_of(values) == peak


# Every region ------------------------------------------------------------------------------------


def check(found: GridRegion, values: np.ndarray) -> None:
    rows, cols = values.shape
    assert found.mask.shape[0] % rows == 0
    assert found.mask.shape[1] % cols == 0
    assert found.mask.shape[0] // rows == found.mask.shape[1] // cols
    assert found.mask.any()
    left, top, right, bottom = found.box
    assert 0 <= left < right <= cols
    assert 0 <= top < bottom <= rows
    assert 0 < found.peak[0] < cols
    assert 0 < found.peak[1] < rows
    assert found.score == pytest.approx(share_inside(values, found.mask), abs=1e-6)
    assert 0 <= found.score <= 1
    assert all(type(number) is float for number in (*found.box, *found.peak, found.score))


@pytest.mark.parametrize("region", REGIONS)
def test_every_map_has_a_valid_region(region: Callable[..., GridRegion]) -> None:
    for values in random_maps(250, seed=6):
        check(region(values), values)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 30), (30, 1), (3, 3), (2, 700)])
def test_maps_without_a_place_give_the_whole_grid(
    region: Callable[..., GridRegion], shape: tuple[int, int]
) -> None:
    rows, cols = shape
    for level, score in ((0.0, 0.0), (0.1, 1.0)):
        found = region(np.full(shape, level, np.float32))
        check(found, np.full(shape, level, np.float32))
        assert found.box == (0, 0, cols, rows)
        assert found.mask.all()
        assert found.score == score
        assert found.peak == (cols / 2, rows / 2)
    one = np.zeros(shape, np.float32)
    one[-1, -1] = 1e-30
    check(region(one), one)


@PLAIN
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.floats(0, 1, width=32),
    ),
    st.sampled_from(REGIONS),
)
def test_any_map_has_a_valid_region(values: np.ndarray, region: Callable[..., GridRegion]) -> None:
    check(region(values), values)


@pytest.mark.parametrize("region", [r for r in REGIONS if r is not all_positive])
def test_a_mirrored_map_has_the_mirrored_box(region: Callable[..., GridRegion]) -> None:
    values = smooth(np.random.default_rng(8).random((9, 7)).astype(np.float32) ** 6)
    left, top, right, bottom = region(values).box
    mirrored = region(np.ascontiguousarray(values[:, ::-1])).box
    assert mirrored == pytest.approx((7 - right, top, 7 - left, bottom))
    turned = region(np.ascontiguousarray(values.T)).box
    assert turned == pytest.approx((top, left, bottom, right))


@pytest.mark.parametrize("region", REGIONS)
def test_scale_does_not_matter(region: Callable[..., GridRegion]) -> None:
    values = smooth(np.random.default_rng(9).random((9, 7)).astype(np.float32) ** 6)
    assert region(values * np.float32(2.0**-30)).box == region(values).box


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_refused(region: Callable[..., GridRegion], bad: float) -> None:
    values = np.ones((3, 3), np.float32)
    values[1, 1] = bad
    with pytest.raises(InputError, match="finite"):
        region(values)
    with pytest.raises(InputError, match="cells"):
        region(np.ones((0, 3), np.float32))


def test_large_grids_get_fewer_sub_cells() -> None:
    assert [sub_cells(shape) for shape in ((14, 14), (32, 8), (40, 40), (600, 2))] == [
        16,
        16,
        12,
        1,
    ]
    values = np.random.default_rng(10).random((64, 48)).astype(np.float32)
    for region in (otsu, half_level, box_fit, paper):
        assert region(values).mask.shape == (64 * 8, 48 * 8)


# What they are for -------------------------------------------------------------------------------


def blob_maps(
    count: int, seed: int
) -> Iterator[tuple[np.ndarray, tuple[float, float, float, float]]]:
    """Discs and squares of 2 to 5 cells on 14 x 14, area-averaged, noisy, on a floor, smoothed."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        side = rng.uniform(2, 5)
        left, top = rng.uniform(0, 14 - side, 2)
        ys, xs = (np.mgrid[0:224, 0:224] + 0.5) / 16
        u, v = (xs - left) / side * 2 - 1, (ys - top) / side * 2 - 1
        inside = (u**2 + v**2 <= 1) if i % 2 else (np.abs(u) <= 1) & (np.abs(v) <= 1)
        cells = inside.reshape(14, 16, 14, 16).mean(axis=(1, 3))
        noisy = cells * rng.lognormal(0, 0.3, cells.shape) + 0.1 * rng.lognormal(0, 1, cells.shape)
        yield smooth(noisy.astype(np.float32)), (left, top, left + side, top + side)


def test_the_finer_regions_find_small_things_where_the_papers_cannot() -> None:
    samples = list(blob_maps(120, seed=11))
    truth = np.array([box for _, box in samples])

    def accuracy(region: Callable[..., GridRegion]) -> float:
        return float((iou(np.array([region(v).box for v, _ in samples]), truth) >= 0.5).mean())

    assert accuracy(paper) < 0.4
    assert accuracy(otsu) > accuracy(paper)
    for region in (half_level, box_fit):
        assert accuracy(region) > 0.85


def test_box_fit_recovers_a_clean_box() -> None:
    for left, top, right, bottom in ((3, 4, 7, 8), (0, 0, 3, 4), (9, 2, 14, 5)):
        values = np.zeros((14, 14), np.float32)
        values[top:bottom, left:right] = 1.0
        found = box_fit(smooth(values))
        truth = np.array([left, top, right, bottom], float)
        assert iou(np.array(found.box), truth) > 0.75
