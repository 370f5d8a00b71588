"""The criteria against a plain reading of their definitions, in exact arithmetic.

The oracles know lists of Python numbers and nothing of numpy or of the code. Every float32 is a
whole number of 2^-149, so sums, means and distances to the chord are whole numbers and fractions
without rounding; only the logarithms are floats.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from vg_engine.core.attention.criteria import elbow, image_attention, spatial_entropy
from vg_engine.core.attention.head_maps import head_maps
from vg_engine.core.attention.maps import smooth
from vg_engine.core.contract.inputs import Query
from vg_engine.core.geometry import Frame, View
from vg_engine.core.heads import Head

Grid = list[list[float]]
Cell = tuple[int, int]

# The oracles --------------------------------------------------------------------------------------


def whole(value: float, places: int = 149) -> int:
    """A number of so many binary places as a whole number of its last place's units, exactly."""
    above, below = value.as_integer_ratio()
    assert 2**places % below == 0
    return above * (2**places // below)


def attention(grid: Grid) -> float:
    """Criterion 1, S_img: the sum of the image entries."""
    return math.fsum(value for line in grid for value in line)


def furthest_below_chord(values: Sequence[int]) -> int:
    """Where the sorted curve lies furthest below its chord; 0 if it nowhere does.

    The perpendicular distance is the cross product of the chord with the way to the point, over
    the chord's length, which is the same for all points.
    """
    curve = sorted(values)
    run, rise = len(curve) - 1, curve[-1] - curve[0]
    best, where = 0, 0
    for i, value in enumerate(curve):
        below = i * rise - run * (value - curve[0])
        if below > best:  # of equal distances the lowest index
            best, where = below, i
    return where


def components(above: set[Cell], connectivity: int) -> list[list[Cell]]:
    """Flood fill."""
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    if connectivity == 4:
        steps = [(r, c) for r, c in steps if 0 in (r, c)]
    left, found = set(above), []
    while left:
        border = [left.pop()]
        component = []
        while border:
            row, col = border.pop()
            component.append((row, col))
            for down, right in steps:
                near = (row + down, col + right)
                if near in left:
                    left.remove(near)
                    border.append(near)
        found.append(component)
    return found


def entropy(
    grid: Grid, *, cut: float = 1.0, connectivity: int = 8, weighting: str = "area"
) -> float:
    """Criterion 2: -sum P ln P over the components above the map's own mean."""
    units = [[whole(value) for value in line] for line in grid]
    cells = sum(len(line) for line in units)
    level = Fraction(cut) * Fraction(sum(map(sum, units)), cells)
    above = {
        (r, c) for r, line in enumerate(units) for c, value in enumerate(line) if value > level
    }
    found = components(above, connectivity)
    if not found:
        return math.inf
    if len(found) == 1:
        return 0.0
    if weighting == "area":
        sizes = [Fraction(len(component)) for component in found]
    else:
        sizes = [Fraction(sum(units[r][c] for r, c in component)) for component in found]
    shares = [float(size / sum(sizes)) for size in sizes]
    assert math.isclose(math.fsum(shares), 1.0)
    return -math.fsum(share * math.log(share) for share in shares)


# The maps -----------------------------------------------------------------------------------------


def shapes(rng: np.random.Generator) -> tuple[int, int]:
    """Mostly small, square and not; every eighth as large as a real grid."""
    most = 25 if rng.random() < 0.12 else 12
    rows, cols = (int(n) for n in rng.integers(1, most, 2))
    return (1, cols) if rng.random() < 0.1 else (rows, rows) if rng.random() < 0.2 else (rows, cols)


def of_every_kind(rng: np.random.Generator, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """One map of each kind."""
    noise = rng.random(shape, dtype=np.float32)
    yield noise
    yield noise**16  # peaked
    yield smooth(noise, float(rng.uniform(0.5, 3)), 7)
    yield np.zeros(shape)  # no attention at all
    yield np.full(shape, noise.flat[0])  # constant
    yield np.full(shape, np.float32(1 / noise.size))
    one = np.full(shape, noise.flat[-1])
    one.flat[rng.integers(noise.size)] *= np.float32(1 + 2.0**-23)
    yield one  # one cell, higher by one rounding
    yield np.where(noise == noise.max(), 1.0, 0.0)  # one cell
    yield np.where(noise == noise.max(), 0.0, noise.flat[0])  # all but one cell
    yield np.indices(shape).sum(axis=0) % 2  # checkerboard
    yield rng.integers(0, 4, shape)  # plateaus: many a cell equals the mean
    yield rng.integers(0, 3, shape) * 0.1
    yield (rng.random(shape) < 0.05) * noise  # sinks
    logits = rng.normal(0, rng.uniform(0.5, 4), shape)
    yield np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    yield 10.0 ** rng.uniform(-40, 0, shape)  # down to subnormal numbers
    yield rng.pareto(1.0, shape)


def stacks(count: int, seed: int) -> Iterator[np.ndarray]:
    """Several maps of one shape each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        maps = [one.astype(np.float32) for one in of_every_kind(rng, shapes(rng))]
        order = rng.permutation(len(maps))
        yield np.stack([maps[i] for i in order[: int(rng.integers(1, len(maps) + 1))]])


# Entropy ------------------------------------------------------------------------------------------


def test_the_entropy_is_the_definitions_on_thousands_of_maps() -> None:
    seen = 0
    for maps in stacks(500, seed=0):
        expected = [entropy(one.tolist()) for one in maps]
        np.testing.assert_allclose(spatial_entropy(maps), expected, rtol=0, atol=1e-9)
        seen += len(maps)
    assert seen > 3000


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("weighting", ["area", "mass"])
@pytest.mark.parametrize("cut", [0.5, 1.0, 2.0])  # products without rounding
def test_the_entropys_options_are_their_definitions(
    cut: float, weighting: str, connectivity: int
) -> None:
    for maps in stacks(40, seed=1):
        options = {"cut": cut, "connectivity": connectivity, "weighting": weighting}
        expected = [entropy(one.tolist(), **options) for one in maps]
        np.testing.assert_allclose(spatial_entropy(maps, **options), expected, rtol=0, atol=1e-9)


def test_a_constant_map_has_no_component() -> None:
    rng = np.random.default_rng(2)
    for shape in [(1, 1), (1, 30), (3, 1), (7, 11), (24, 24), (37, 41)]:
        levels = 10.0 ** rng.uniform(-44, 35, 400)
        maps = np.broadcast_to(levels[:, None, None], (400, *shape)).astype(np.float32)
        assert np.isposinf(spatial_entropy(maps)).all()
        turned = np.ascontiguousarray(maps.transpose(0, 2, 1)).transpose(0, 2, 1)
        assert np.isposinf(spatial_entropy(turned)).all()


def test_a_maps_entropy_does_not_depend_on_its_neighbours() -> None:
    for maps in stacks(60, seed=3):
        alone = np.concatenate([spatial_entropy(maps[i : i + 1]) for i in range(len(maps))])
        np.testing.assert_allclose(spatial_entropy(maps), alone, rtol=0, atol=1e-12)


@pytest.fixture(params=[1, 2, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """OpenCV labels a sheet in as many stripes as it may use threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(request.param)
    yield request.param
    cv2.setNumThreads(before)


@pytest.mark.parametrize("shape", [(1, 40), (2, 9), (5, 5), (24, 24), (31, 1)])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_threads_change_nothing(threads: int, shape: tuple[int, int], connectivity: int) -> None:
    rng = np.random.default_rng([*shape, threads])
    maps = rng.random((300, *shape), dtype=np.float32)
    maps[rng.random(300) < 0.2] = 0.5  # some without a component
    found = spatial_entropy(maps, connectivity=connectivity)
    for i in range(0, 300, 3):
        expected = entropy(maps[i].tolist(), connectivity=connectivity)
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_a_whole_models_heads_at_once() -> None:
    rng = np.random.default_rng(4)
    maps = np.concatenate(
        [
            rng.random((400, 24, 24), dtype=np.float32),
            smooth(rng.random((300, 24, 24), dtype=np.float32), 1.0, 7),
            np.full((100, 24, 24), 0.3, np.float32),
            rng.pareto(0.7, (224, 24, 24)).astype(np.float32),
        ]
    )[rng.permutation(1024)]
    found = spatial_entropy(maps)
    for i in range(0, 1024, 8):
        assert found[i] == pytest.approx(entropy(maps[i].tolist()), abs=1e-9)


# S_img --------------------------------------------------------------------------------------------


def test_image_attention_is_the_sum() -> None:
    for maps in stacks(100, seed=5):
        expected = [attention(one.tolist()) for one in maps]
        np.testing.assert_allclose(image_attention(maps), expected, rtol=2.0**-23, atol=2.0**-149)


# The elbow ----------------------------------------------------------------------------------------


def test_the_elbow_is_the_furthest_point_on_thousands_of_curves() -> None:
    rng = np.random.default_rng(6)
    for i in range(3000):
        count = int(rng.integers(1, 1100 if i % 10 == 0 else 40))
        values = rng.beta(rng.uniform(0.2, 3), rng.uniform(0.2, 6), count)
        if i % 3:
            values = values.astype(np.float32)
        if i % 7 == 0:  # a narrow band far from 0
            values = (1.0 + values * 1e-5).astype(values.dtype)
        exact = [float(value) for value in values]
        found = elbow(values)
        assert found.index == furthest_below_chord([whole(value, 1074) for value in exact])
        assert found.threshold == sorted(exact)[found.index]
        assert found.keeps(values).tolist() == [value >= found.threshold for value in exact]


@pytest.mark.parametrize("parts", [1, 7, 8, 10, 1000])
def test_of_equal_distances_the_lowest_index_counts_and_rounding_has_no_say(parts: int) -> None:
    """The oracle knows the whole numbers that are meant, the code floats near their fractions."""
    rng = random.Random(parts)
    for _ in range(3000):
        meant = [rng.randint(0, 16) for _ in range(rng.randint(1, 30))]
        floats = np.array([value / parts for value in meant])
        assert elbow(floats).index == furthest_below_chord(meant)


# Several views ------------------------------------------------------------------------------------


def tiles(rng: np.random.Generator) -> tuple[list[View], int, tuple[int, int]]:
    """A thumbnail and tiles of one picture, on keys in any order; how many keys; its size."""
    width, height = (int(n) for n in rng.integers(60, 400, 2))
    down, across = (int(n) for n in rng.integers(1, 4, 2))
    side = int(rng.integers(2, 6))
    picture = Frame.of(width, height)
    frames = [picture.resize(100.0, 100.0)]  # squashed whole
    canvas = picture.resize(across * 100.0, down * 100.0)
    frames += [
        canvas.crop(c * 100.0, r * 100.0, 100.0, 100.0) for r in range(down) for c in range(across)
    ]
    keys = int(len(frames) * side * side + rng.integers(1, 20))
    order = rng.permutation(keys)
    views = []
    for i, frame in enumerate(frames):
        cells = order[i * side * side : (i + 1) * side * side].reshape(side, side)
        views.append(frame.view(cells))
    return views, keys, (width, height)


def test_the_criteria_of_several_views() -> None:
    """S_img sums over all views; the entropy is the fused map's, at the finest grid."""
    rng = np.random.default_rng(7)
    heads = tuple(Head(layer, head) for layer in range(2) for head in range(4))
    for i in range(300):
        views, keys, size = tiles(rng)
        logits = rng.normal(0, rng.uniform(0.1, 4), (len(heads), 1, keys))
        if i % 5 == 0:
            logits[0] = 0  # looks everywhere alike
        rows = torch.from_numpy(logits).softmax(dim=-1).float()
        if i % 5 == 1:
            rows[1] = 0  # looks at nothing
        observed = head_maps(Query(0, "a cat", 0, (0,)), heads, rows, views, size)
        numbers = [row[0] for row in rows.tolist()]
        for head in range(len(heads)):
            seen = math.fsum(numbers[head][key] for view in views for key in view.positions.flat)
            assert observed.image_attention[head] == pytest.approx(seen, rel=2.0**-23)
        found = spatial_entropy(observed.maps.values)
        expected = [entropy(one.tolist()) for one in observed.maps.values]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        if i % 5 == 1:
            assert found[1] == math.inf
