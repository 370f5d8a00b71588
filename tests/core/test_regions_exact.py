"""The fast regions against a slow and plain reading of each, to the last bit.

The slow ones interpolate the whole map, label it as a whole and look at every sub-cell; box, mask,
peak and score must be equal, not close: the numbers of registered heads rest on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import ndimage

from vg_engine.core.attention.maps import smooth, upsample
from vg_engine.core.readout.edge_level import blurred_edge, edge_level
from vg_engine.core.readout.regions import (
    GridRegion,
    box_fit,
    component_at,
    half_level,
    mean_std,
    otsu,
    otsu_threshold,
    paper,
    peak_of,
    peak_share,
    sub_cells,
)

FACTORS = [16, 1, 3, 4, 12]
Box = tuple[float, float, float, float]


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


def score(values: np.ndarray, mask: np.ndarray) -> float:
    rows, cols = values.shape
    factor = len(mask) // rows
    mass = np.clip(values.astype(np.float64), 0.0, None)
    inside = float((mass * mask.reshape(rows, factor, cols, factor).mean(axis=(1, 3))).sum())
    return min(1.0, inside / float(mass.sum())) if mass.sum() > 0 else 0.0


def tight(mask: np.ndarray, factor: int) -> Box:
    lines, columns = np.nonzero(mask)
    edges = (columns.min(), lines.min(), columns.max() + 1, lines.max() + 1)
    left, top, right, bottom = (int(edge) / factor for edge in edges)
    return left, top, right, bottom


def slow_component(
    fine: np.ndarray, threshold: float, peak: tuple[float, float], factor: int
) -> np.ndarray:
    rows, columns = np.indices(fine.shape)
    x, y = peak[0] * factor, peak[1] * factor
    touching = (columns <= x) & (x <= columns + 1) & (rows <= y) & (y <= rows + 1)
    labels, _ = ndimage.label(fine > threshold, np.ones((3, 3)))
    held = labels[touching & (labels > 0)]
    return labels == held[0] if held.size else touching


def slow(values: np.ndarray, threshold: float, factor: int) -> tuple[Box, np.ndarray, float]:
    """Box, mask and score of the component that holds the peak."""
    if values.min() == values.max():
        mask, factor = np.ones(values.shape, dtype=bool), 1
    else:
        mask = slow_component(upsample(values, factor), threshold, peak_of(values), factor)
    return tight(mask, factor), mask, score(values, mask)


def half_way(values: np.ndarray, level: float) -> float:
    floor = float(np.median(values))
    return floor + level * (float(values.max()) - floor)


def same(found: GridRegion, values: np.ndarray, expected: tuple[Box, np.ndarray, float]) -> None:
    box, mask, share = expected
    assert found.box == box
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, mask)
    assert found.score == share
    assert found.peak == peak_of(values)


# The tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", FACTORS)
def test_half_level_and_peak_share(factor: int) -> None:
    rng = np.random.default_rng(factor)
    for values in maps(80, seed=factor):
        used = sub_cells(values.shape, factor)
        for level in (0.55, float(rng.uniform(-0.3, 1.1))):
            expected = slow(values, half_way(values, level), used)
            same(half_level(values, level=level, factor=factor), values, expected)
        share = float(rng.uniform(0, 1.05))
        expected = slow(values, share * float(values.max()), used)
        same(peak_share(values, share=share, factor=factor), values, expected)


@pytest.mark.parametrize("factor", FACTORS)
def test_otsu_and_mean_std(factor: int) -> None:
    for values in maps(40, seed=2):
        fine = upsample(values, factor)
        same(otsu(values, factor=factor), values, slow(values, otsu_threshold(fine), factor))
        level = float(fine.mean(dtype=np.float64) + 0.7 * fine.std(dtype=np.float64))
        same(mean_std(values, c=0.7, factor=factor), values, slow(values, level, factor))


@pytest.mark.parametrize(
    ("sigma", "trust"), [(1.0, 0.9), (0.0, 1.0), (2.5, 1.7), (1.0, 0.3), (1.0, 0.0), (1.0, -0.8)]
)
def test_edge_level(sigma: float, trust: float) -> None:
    """Seven times `half_level`, each from nothing."""
    for i, values in enumerate(maps(50, seed=3)):
        factor = FACTORS[i % len(FACTORS)]
        level = 0.5
        for _ in range(6):
            left, top, right, bottom = slow(values, half_way(values, level), factor)[0]
            side = math.sqrt((right - left) * (bottom - top))
            level = (level + trust * blurred_edge(side, sigma)) / 2
        found = edge_level(values, sigma=sigma, trust=trust, factor=factor)
        same(found, values, slow(values, half_way(values, level), factor))


def test_the_component_of_any_raster() -> None:
    rng = np.random.default_rng(5)
    for values in maps(60, seed=5):
        fine = upsample(values, 6)
        threshold = float(rng.choice(fine.ravel()))
        peak = peak_of(values)
        expected = slow_component(fine, threshold, peak, 6)
        mask, box = component_at(fine, threshold, peak, values.shape)
        np.testing.assert_array_equal(mask, expected)
        assert box == tight(expected, 6)


def test_the_mask_of_box_fit_is_what_is_high_inside_the_box() -> None:
    for values in maps(120, seed=6):
        if values.min() == values.max():
            continue
        found = box_fit(values)
        left, top, right, bottom = found.box
        ys, xs = ((np.arange(n * 16) + 0.5) / 16 for n in values.shape)
        inside = np.outer((top < ys) & (ys < bottom), (left < xs) & (xs < right))
        half = (float(np.median(values)) + float(values.max())) / 2
        high = inside & (upsample(values, 16) > half)
        mask = high if high.any() else inside
        same(found, values, (found.box, mask, score(values, mask)))


def hull_of(cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Corners of the convex hull of the cells' corners, (x, y), in order (monotone chain)."""
    points = sorted({(c + i, r + j) for r, c in cells for i in (0, 1) for j in (0, 1)})

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


def doubled_area(hull: list[tuple[int, int]]) -> int:
    ahead = [*hull[1:], hull[0]]
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(hull, ahead, strict=True))


@pytest.mark.parametrize("most", [7, 17])
def test_the_papers_region(most: int) -> None:
    """Every component's hull in whole numbers, every sub-cell against every side of the largest."""
    for values in maps(150, seed=7, most=most):
        wide = values.astype(np.float64)
        labels, count = ndimage.label(wide > wide.mean(), np.ones((3, 3)))
        found = paper(values)
        if not count:
            same(found, values, slow(np.zeros_like(values) + values.flat[0], 0.0, 1))
            continue
        ranked = []
        for label in range(1, count + 1):
            cells = [(int(r), int(c)) for r, c in np.argwhere(labels == label)]
            mass = float(values[labels == label].sum(dtype=np.float64))
            # Label 1 is the first from the top left.
            ranked.append((doubled_area(hull_of(cells)), mass, -label, hull_of(cells)))
        hull = max(ranked)[3]
        factor = sub_cells(values.shape)
        # Twice the sub-cells' centres in sub-cells: whole numbers too.
        y, x = (2 * np.indices(np.multiply(values.shape, factor)) + 1).astype(np.int64)
        mask = np.ones(y.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(hull, [*hull[1:], hull[0]], strict=True):
            mask &= (bx - ax) * (y - 2 * factor * ay) >= (by - ay) * (x - 2 * factor * ax)
        xs, ys = zip(*hull, strict=True)
        box = (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys)))
        same(found, values, (box, mask, score(values, mask)))
