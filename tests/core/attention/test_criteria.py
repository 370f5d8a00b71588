"""The criteria against a plain reading of their definitions, in exact arithmetic."""

import math
import random
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
import torch
from plain_entropy import entropy, whole

from vg_engine.core.attention.criteria import (
    Elbow,
    common_change,
    elbow,
    image_attention,
    overlap,
    sensitivity,
    spatial_entropy,
)
from vg_engine.core.attention.head_maps import head_maps
from vg_engine.core.attention.maps import smooth
from vg_engine.core.contract.inputs import Query
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Affine, Frame, View, fuse
from vg_engine.core.heads import Head


def of_every_kind(rng: np.random.Generator, shape: tuple[int, int]) -> Iterator[np.ndarray]:
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
    """Several maps of one shape each: mostly small, every eighth as large as a real grid."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows, cols = (int(n) for n in rng.integers(1, 25 if rng.random() < 0.12 else 12, 2))
        shape = (1 if rng.random() < 0.1 else cols if rng.random() < 0.2 else rows, cols)
        maps = [one.astype(np.float32) for one in of_every_kind(rng, shape)]
        order = rng.permutation(len(maps))
        yield np.stack([maps[i] for i in order[: int(rng.integers(1, len(maps) + 1))]])


# Spatial entropy ----------------------------------------------------------------------------------


def test_the_entropy_is_the_definitions_on_thousands_of_maps() -> None:
    seen = 0
    for maps in stacks(500, seed=0):
        found = spatial_entropy(maps)
        expected = [entropy(one.tolist()) for one in maps]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert (np.copysign(1.0, found) == 1.0).all(), "no -0"
        seen += len(maps)
    assert seen > 3000


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("weighting", ["area", "mass"])
@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0, 2.0])  # products without rounding
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


def test_the_entropy_at_the_edges_of_what_it_takes() -> None:
    maps = np.random.default_rng(6).random((9, 20, 7)).astype(np.float32)
    pieces = maps[::2, 1::3, ::-2]  # not in one piece of memory
    np.testing.assert_array_equal(spatial_entropy(pieces), spatial_entropy(pieces.copy()))
    assert np.isposinf(spatial_entropy(maps, cut=1e300)).all(), "beyond every float32"
    assert spatial_entropy(maps[:3, :0]).tolist() == [math.inf] * 3
    assert spatial_entropy(maps[:0]).shape == (0,)
    with pytest.raises(InputError, match="connectivity"):
        spatial_entropy(maps, connectivity=6)


# S_img, overlap, sensitivity ----------------------------------------------------------------------


def test_image_attention_is_the_sum() -> None:
    for maps in stacks(100, seed=5):
        expected = [math.fsum(one.ravel().tolist()) for one in maps]
        found = image_attention(maps)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2.0**-23, atol=2.0**-149)


def plain_overlap(a: np.ndarray, b: np.ndarray) -> float:
    p, q = a.ravel().tolist(), b.ravel().tolist()
    return sum(min(x / sum(p), y / sum(q)) for x, y in zip(p, q, strict=True))


def test_sensitivity_is_one_minus_the_sum_of_minima() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.random((2, 200, 4, 5)) ** 3).astype(np.float32)
    b[0] = 7 * a[0]  # the same, but for its scale
    a[1], b[1] = 0, 0
    a[1, 0, 0] = b[1, 3, 3] = 0.2  # nothing in common
    a[2] = 0  # no mass: nothing is known
    found = sensitivity(a, b)
    assert found[:3] == pytest.approx([0, 1, 0], abs=1e-7)
    expected = np.array([plain_overlap(*pair) for pair in zip(a[3:], b[3:], strict=True)])
    np.testing.assert_allclose(found[3:], 1 - expected, atol=1e-9)
    np.testing.assert_allclose(overlap(a, b)[3:], expected, atol=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, sensitivity(b, a), atol=1e-12)


def test_common_change_is_the_cosine_with_the_others() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 6, 3, 4)).astype(np.float32)
    weights = rng.random(6)
    wide = zip(a.astype(float), b.astype(float), strict=True)
    change = [x / x.sum() - y / y.sum() for x, y in wide]
    for i in range(6):
        others = sum(weights[j] * change[j] for j in range(6) if j != i)
        cosine = (change[i] * others).sum() / np.sqrt((change[i] ** 2).sum() * (others**2).sum())
        assert common_change(a, b, weights)[i] == pytest.approx(max(0.0, cosine), abs=1e-9)
    np.testing.assert_array_equal(common_change(a, a, np.ones(6)), 0)
    np.testing.assert_array_equal(common_change(a[:1], b[:1], np.ones(1)), 0)


# The elbow ----------------------------------------------------------------------------------------


def furthest_below_chord(values: Sequence[int]) -> int:
    """The index at which the sorted curve lies furthest below its chord; 0 if it never does.

    The perpendicular distance is the cross product of the chord with the way to the point, over
    the chord's length, which is the same for all points.
    """
    curve = sorted(values)
    run, rise = len(curve) - 1, curve[-1] - curve[0]
    below = [i * rise - run * (value - curve[0]) for i, value in enumerate(curve)]
    return below.index(max(below))  # of equal distances the lowest index


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


@pytest.mark.parametrize(
    "values",
    [
        [0.3],
        [0.1, 0.9],
        [0.4] * 7,
        [0.0, 1.0, 1.0, 1.0],  # concave: nowhere below its chord
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],  # straight, but for rounding
        list(np.sqrt(np.linspace(0, 1, 50))),
    ],
)
def test_a_curve_without_an_elbow_keeps_all(values: list[float]) -> None:
    array = np.array(values)
    found = elbow(array)
    assert found == Elbow(0, min(values))
    assert found.keeps(array).all()


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [0.2, math.inf]])
def test_an_elbow_of_nothing_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="finite"):
        elbow(np.array(values, np.float64))


# Several views ------------------------------------------------------------------------------------


def tiles(rng: np.random.Generator) -> tuple[list[View], int, tuple[int, int]]:
    """A thumbnail and tiles of one picture, on keys in any order; how many keys; its size."""
    width, height = (int(n) for n in rng.integers(60, 400, 2))
    down, across = (int(n) for n in rng.integers(1, 4, 2))
    side = int(rng.integers(2, 6))
    picture = Frame.of(width, height)
    canvas = picture.resize(across * 100.0, down * 100.0)
    corners = [(c * 100.0, r * 100.0) for r in range(down) for c in range(across)]
    frames = [picture.resize(100.0, 100.0)]  # squashed whole
    frames += [canvas.crop(*corner, 100.0, 100.0) for corner in corners]
    keys = int(len(frames) * side * side + rng.integers(1, 20))
    places = rng.permutation(keys)[: len(frames) * side * side].reshape(-1, side, side)
    views = [frame.view(cells) for frame, cells in zip(frames, places, strict=True)]
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
        for head, (numbers,) in enumerate(rows.tolist()):
            seen = math.fsum(numbers[key] for view in views for key in view.positions.flat)
            assert observed.image_attention[head] == pytest.approx(seen, rel=2.0**-23)
        found = spatial_entropy(observed.maps.values)
        expected = [entropy(one.tolist()) for one in observed.maps.values]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        if i % 5 == 1:
            assert found[1] == math.inf


def test_even_attention_over_tiles_has_no_component() -> None:
    """Tiles of odd sizes at odd places, most with a thumbnail: rounding must not make blobs."""
    rng = np.random.default_rng(0)
    for _ in range(600):
        down, across = (int(n) for n in rng.integers(1, 4, 2))
        cells, value = int(rng.integers(2, 9)), np.float32(rng.random() / 577)
        wide, high = (float(side) for side in rng.uniform(7, 90, 2))
        left, top = (float(corner) for corner in rng.uniform(-40, 40, 2))
        places = [
            ((wide, high), (left + column * wide * cells, top + row * high * cells))
            for row in range(down)
            for column in range(across)
        ]
        if len(places) > 1 and rng.random() < 0.7:
            places.append(((wide * across, high * down), (left, top)))
        grid = np.arange(cells * cells).reshape(cells, cells)
        views = [View(grid + i * grid.size, Affine(*place)) for i, place in enumerate(places)]
        maps = [np.full((1, cells, cells), value, np.float32) for _ in views]
        assert spatial_entropy(fuse(views, maps).values).tolist() == [np.inf]
