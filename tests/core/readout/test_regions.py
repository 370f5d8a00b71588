"""The fast regions against a slow and plain reading of each, to the last bit.

The slow ones interpolate the whole map, label it as a whole and look at every sub-cell; box, mask,
peak and score must be equal, not close: the numbers of registered heads rest on them.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from vg_engine.core.attention.criteria import otsu_threshold
from vg_engine.core.attention.maps import smooth, upsample
from vg_engine.core.errors import InputError
from vg_engine.core.readout.edge_level import blurred_edge, edge_level
from vg_engine.core.readout.regions import (
    GridRegion,
    all_positive,
    box_fit,
    component_at,
    half_level,
    mean_std,
    otsu,
    paper,
    peak_of,
    peak_share,
    sub_cells,
)

Region = Callable[..., GridRegion]
Box = tuple[float, float, float, float]
Expected = tuple[Box, np.ndarray, float]  # box, mask and score

REGIONS = [paper, all_positive, otsu, mean_std, peak_share, half_level, box_fit, edge_level]
FACTORS = [16, 1, 3, 4, 12]
SIDES = st.integers(1, 6)
every_region = pytest.mark.parametrize("region", REGIONS)


def maps(count: int, seed: int, most: int = 17) -> Iterator[np.ndarray]:
    """Noise, plateaus, sinks, attention with and without smoothing, also below 0."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = rows, cols = tuple(int(n) for n in rng.integers(1, most, 2))
        noise = rng.random(shape) ** rng.integers(1, 8)
        y, x = np.indices(shape)
        logits = rng.normal(0, rng.uniform(0.2, 1.5), shape)
        for _ in range(3):
            at = rng.uniform(0, rows), rng.uniform(0, cols)
            logits += rng.uniform(1, 6) * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8)
        attention = np.exp(logits) / np.exp(logits).sum()
        smoothed = smooth(attention.astype(np.float32)).astype(np.float64)
        kinds = [
            noise,
            smooth(noise.astype(np.float32)),
            rng.integers(0, 3, shape),
            (rng.random(shape) < 0.3) * noise,
            attention,
            smoothed,
            np.round(8 * smoothed / smoothed.max()) / 8,  # plateaus at the peak
            rng.pareto(0.8, shape),
            rng.normal(0, 1, shape),
            np.full(shape, rng.random()),
        ]
        yield (kinds[i % len(kinds)] * 10.0 ** rng.integers(-6, 3)).astype(np.float32)


# The slow reading ---------------------------------------------------------------------------------


def reading(values: np.ndarray, mask: np.ndarray, box: Box | None = None) -> Expected:
    """A mask with the share of the mass inside and, where no other is given, its tight box."""
    rows, cols = values.shape
    factor = len(mask) // rows
    mass = np.clip(values.astype(np.float64), 0.0, None)
    inside = float((mass * mask.reshape(rows, factor, cols, factor).mean(axis=(1, 3))).sum())
    score = min(1.0, inside / float(mass.sum())) if mass.sum() > 0 else 0.0
    lines, columns = np.nonzero(mask)
    edges = (columns.min(), lines.min(), columns.max() + 1, lines.max() + 1)
    left, top, right, bottom = (int(edge) / factor for edge in edges)
    return box or (left, top, right, bottom), mask, score


def whole(values: np.ndarray) -> Expected:
    return reading(values, np.ones(values.shape, dtype=bool))


def component(
    fine: np.ndarray, threshold: float, peak: tuple[float, float], factor: int
) -> np.ndarray:
    rows, columns = np.indices(fine.shape)
    x, y = peak[0] * factor, peak[1] * factor
    touching = (columns <= x) & (x <= columns + 1) & (rows <= y) & (y <= rows + 1)
    labels, _ = ndimage.label(fine > threshold, np.ones((3, 3)))
    held = labels[touching & (labels > 0)]
    return labels == held[0] if held.size else touching


def around_peak(values: np.ndarray, threshold: float, factor: int) -> Expected:
    if values.min() == values.max():
        return whole(values)
    fine = upsample(values, factor)
    return reading(values, component(fine, threshold, peak_of(values), factor))


def half_way(values: np.ndarray, level: float) -> float:
    floor = float(np.median(values))
    return floor + level * (float(values.max()) - floor)


def above_mean(values: np.ndarray) -> np.ndarray:
    return values.astype(float) > math.fsum(values.ravel().tolist()) / values.size


def same(found: GridRegion, values: np.ndarray, expected: Expected) -> None:
    box, mask, score = expected
    assert found.box == box
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, mask)
    assert found.score == score
    assert found.peak == peak_of(values)
    assert all(type(number) is float for number in (*found.box, *found.peak, found.score))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("region", "option", "default"),
    [(half_level, "level", 0.55), (peak_share, "share", 0.5), (mean_std, "c", 1.0), (otsu, "", 0)],
)
def test_the_component_above_a_threshold(
    region: Region, option: str, default: float, factor: int
) -> None:
    rng = np.random.default_rng(factor)
    for values in maps(60, seed=factor):
        fine, drawn = upsample(values, factor), float(rng.uniform(-0.3, 1.1))
        mean, spread = fine.mean(dtype=np.float64), fine.std(dtype=np.float64)
        for setting, options in ((default, {}), (drawn, {option: drawn} if option else {})):
            thresholds = {
                half_level: half_way(values, setting),
                peak_share: setting * float(values.max()),
                mean_std: float(mean + setting * spread),
                otsu: otsu_threshold(fine),
            }
            found = region(values, factor=factor, **options)
            same(found, values, around_peak(values, thresholds[region], factor))


@pytest.mark.parametrize(
    "options",
    [{"sigma": 0.0, "trust": 1.0}, {"sigma": 2.5}, *({"trust": t} for t in (1.7, 0.3, 0.0, -0.8))],
)
def test_edge_level_is_seven_times_half_level(options: dict[str, float]) -> None:
    sigma, trust = options.get("sigma", 1.0), options.get("trust", 0.9)
    for i, values in enumerate(maps(50, seed=3)):
        factor = FACTORS[i % len(FACTORS)]
        level = 0.5
        for _ in range(6):
            left, top, right, bottom = around_peak(values, half_way(values, level), factor)[0]
            side = math.sqrt((right - left) * (bottom - top))
            level = (level + trust * blurred_edge(side, sigma)) / 2
        found = edge_level(values, factor=factor, **options)
        same(found, values, around_peak(values, half_way(values, level), factor))


@pytest.mark.parametrize("side", [1.0, 2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 1.7])
def test_the_edge_of_a_finely_drawn_bar(side: float, sigma: float) -> None:
    fine = 200
    bar = np.zeros(60 * fine)
    half = round(side * fine / 2)
    bar[30 * fine - half : 30 * fine + half] = 1
    blurred = ndimage.gaussian_filter1d(bar, sigma * fine, truncate=6) if sigma else bar
    edge = (blurred[30 * fine + half - 1] + blurred[30 * fine + half]) / 2
    assert blurred_edge(side, sigma) == pytest.approx(edge / blurred.max(), abs=2e-3)


def test_the_component_of_any_raster() -> None:
    rng = np.random.default_rng(5)
    for values in maps(60, seed=5):
        fine, peak = upsample(values, 6), peak_of(values)
        threshold = float(rng.choice(fine.ravel()))
        expected = component(fine, threshold, peak, 6)
        mask, box = component_at(fine, threshold, peak, values.shape)
        np.testing.assert_array_equal(mask, expected)
        assert box == reading(values, expected)[0]


def test_all_positive_is_every_cell_above_the_mean() -> None:
    for values in maps(200, seed=2):
        above = above_mean(values)
        expected = reading(values, above) if above.any() else whole(values)
        same(all_positive(values), values, expected)


def hull_of(cells: np.ndarray) -> list[tuple[int, int]]:
    """Corners of the convex hull of the cells' corners, (x, y), in order (monotone chain)."""
    points = sorted({(c + i, r + j) for r, c in cells.tolist() for i in (0, 1) for j in (0, 1)})

    def chain(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
        side: list[tuple[int, int]] = []
        for x, y in points:
            while len(side) > 1:
                (ax, ay), (bx, by) = side[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                side.pop()
            side.append((x, y))
        return side

    return chain(points)[:-1] + chain(points[::-1])[:-1]


@pytest.mark.parametrize("most", [7, 17])
def test_the_papers_region(most: int) -> None:
    """Every component's hull in whole numbers, every sub-cell against every side of the largest."""
    for values in maps(250, seed=7, most=most):
        labels, count = ndimage.label(above_mean(values), np.ones((3, 3)))
        found = paper(values)
        if not count:
            same(found, values, whole(values))
            continue
        ranked = []
        for label in range(1, count + 1):
            hull = hull_of(np.argwhere(labels == label))
            sides = list(zip(hull, [*hull[1:], hull[0]], strict=True))
            doubled_area = sum(ax * by - ay * bx for (ax, ay), (bx, by) in sides)
            mass = float(values[labels == label].sum(dtype=np.float64))
            # Label 1 is the first from the top left.
            ranked.append((doubled_area, mass, -label, hull, sides))
        *_, hull, sides = max(ranked)
        factor = sub_cells(values.shape)
        # Twice the sub-cells' centres in sub-cells: whole numbers too.
        y, x = (2 * np.indices(np.multiply(values.shape, factor)) + 1).astype(np.int64)
        mask = np.ones(y.shape, dtype=bool)
        for (ax, ay), (bx, by) in sides:
            mask &= (bx - ax) * (y - 2 * factor * ay) >= (by - ay) * (x - 2 * factor * ax)
        xs, ys = (list(map(float, side)) for side in zip(*hull, strict=True))
        same(found, values, reading(values, mask, (min(xs), min(ys), max(xs), max(ys))))


def profiles(cells: int, peak: float) -> Iterator[tuple[float, float, np.ndarray]]:
    """Every span of one axis that holds the peak, and its template: a smoothed parabola."""
    coarser = math.ceil(cells / 32)
    fine = 8 if coarser == 1 else 1
    edges = np.minimum(np.arange(0, cells + coarser / 2, coarser / 2), cells).tolist()
    at = (np.arange(cells * fine) + 0.5) / fine
    for low, high in ((a, b) for a in edges for b in edges if a <= peak <= b):
        if high - low >= min(2, cells):
            off = 2 * (at - low) / (high - low) - 1
            drawn = np.where(abs(off) <= 1, 1 - off**2 / 2, 0).reshape(cells, fine).mean(axis=1)
            yield low, high, ndimage.gaussian_filter1d(drawn, 1.0, mode="reflect", radius=3)


def test_box_fit_is_the_best_box_and_what_is_high_inside_it() -> None:
    rng = np.random.default_rng(8)
    long = [rng.random(shape).astype(np.float32) ** 4 for shape in ((2, 32), (65, 3))]
    for values in [*maps(60, seed=6, most=9), *long]:
        if values.min() == values.max():
            continue
        found = box_fit(values)
        left, top, right, bottom = found.box
        factor = sub_cells(values.shape)
        ys, xs = ((np.arange(n * factor) + 0.5) / factor for n in values.shape)
        inside = np.outer((top < ys) & (ys < bottom), (left < xs) & (xs < right))
        high = inside & (upsample(values, factor) > half_way(values, 0.5))
        same(found, values, reading(values, high if high.any() else inside, found.box))
        centred = values.astype(np.float64) - values.mean(dtype=np.float64)
        fits = {}
        x, y = found.peak
        for top, bottom, down in profiles(values.shape[0], y):
            for left, right, across in profiles(values.shape[1], x):
                template = np.outer(down, across) - down.mean() * across.mean()
                spread = math.sqrt(max((template**2).sum(), 1e-12) * (centred**2).sum())
                against_long = 0.02 * abs(math.log((bottom - top) / (right - left)))
                fit = (template * centred).sum() / spread - against_long
                fits[left, top, right, bottom] = float(fit)
        assert fits[found.box] >= max(fits.values()) - 1e-6


def between_variance(values: np.ndarray, threshold: float) -> float:
    low, high = values[values <= threshold], values[values > threshold]
    return float(low.size * high.size * (low.mean() - high.mean()) ** 2)


def test_otsu_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        two = rng.normal(0, 1, 200), rng.normal(rng.uniform(1, 6), 1, int(rng.integers(5, 200)))
        values = np.concatenate(two).astype(np.float32)
        wide = values.astype(np.float64)
        best = max(between_variance(wide, t) for t in np.sort(wide)[:-1])
        assert between_variance(wide, otsu_threshold(values)) >= 0.995 * best


def test_otsu_between_two_levels_is_the_middle() -> None:
    two = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    assert otsu_threshold(two) == pytest.approx(0.5, abs=0.01)
    assert otsu_threshold(np.ones((3, 3), np.float32)) == 1.0


def test_the_peak_is_the_maximum_of_the_bilinear_map() -> None:
    for values in maps(500, seed=5, most=11):
        x, y = peak_of(values)
        assert 0 < x < values.shape[1]
        assert 0 < y < values.shape[0]
        there = ndimage.map_coordinates(values.astype(float), [[y - 0.5], [x - 0.5]], order=1)
        assert there[0] == pytest.approx(float(values.max()), rel=1e-6)


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


# Every region -------------------------------------------------------------------------------------


def check(found: GridRegion, values: np.ndarray) -> None:
    rows, cols = values.shape
    factor = len(found.mask) // rows
    assert found.mask.shape == (rows * factor, cols * factor)
    assert found.mask.any()
    left, top, right, bottom = found.box
    assert 0 <= left < right <= cols
    assert 0 <= top < bottom <= rows
    same(found, values, reading(values, found.mask, found.box))


@every_region
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 30), (30, 1), (3, 3), (2, 700)])
def test_maps_without_a_place_give_the_whole_grid(region: Region, shape: tuple[int, int]) -> None:
    rows, cols = shape
    for level, score in ((0.0, 0.0), (0.1, 1.0)):
        values = np.full(shape, level, np.float32)
        found = region(values)
        same(found, values, ((0, 0, cols, rows), np.ones(shape, dtype=bool), score))
        assert found.peak == (cols / 2, rows / 2)
    one = np.zeros(shape, np.float32)
    one[-1, -1] = 1e-30
    check(region(one), one)


@settings(derandomize=True, deadline=None, max_examples=120, database=None)
@given(
    arrays.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1, width=32)),
    st.sampled_from(REGIONS),
)
def test_any_map_has_a_valid_region(values: np.ndarray, region: Region) -> None:
    check(region(values), values)


@every_region
def test_mirrored_and_scaled_maps_have_the_same_region(region: Region) -> None:
    values = smooth(np.random.default_rng(8).random((9, 7)).astype(np.float32) ** 6)
    left, top, right, bottom = region(values).box
    mirrored = region(np.ascontiguousarray(values[:, ::-1])).box
    assert mirrored == pytest.approx((7 - right, top, 7 - left, bottom))
    turned = region(np.ascontiguousarray(values.T)).box
    assert turned == pytest.approx((top, left, bottom, right))
    assert region(values * np.float32(2.0**-30)).box == (left, top, right, bottom)


@every_region
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_refused(region: Region, bad: float) -> None:
    values = np.ones((3, 3), np.float32)
    values[1, 1] = bad
    for wrong in (values, values[:0]):
        with pytest.raises(InputError, match="finite map with cells"):
            region(wrong)


def test_large_grids_get_fewer_sub_cells() -> None:
    shapes = ((14, 14), (32, 8), (40, 40), (600, 2))
    assert [sub_cells(shape) for shape in shapes] == [16, 16, 12, 1]
    values = np.random.default_rng(10).random((64, 48)).astype(np.float32)
    for region in (otsu, half_level, box_fit, paper):
        assert region(values).mask.shape == (64 * 8, 48 * 8)


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="factor must be at least 1, got 0"):
        otsu(np.eye(4, dtype=np.float32), factor=0)
