"""The criteria, against plain readings of the paper's definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vg_engine.core.attention.criteria import (
    Elbow,
    common_change,
    elbow,
    image_attention,
    overlap,
    sensitivity,
    spatial_entropy,
)
from vg_engine.core.errors import InputError

PLAIN = settings(derandomize=True, deadline=None, max_examples=150, database=None)


# The elbow ---------------------------------------------------------------------------------------


def plain_elbow(values: list[float]) -> tuple[int, float]:
    """Perpendicular distance of every point to the chord, by hand."""
    curve = sorted(values)
    n = len(curve)
    if n < 3 or curve[0] == curve[-1]:
        return 0, curve[0]
    # Scaled to the unit square, which moves no maximum and keeps tiny ranges exact.
    rise = [(v - curve[0]) / (curve[-1] - curve[0]) for v in curve]
    best, where = 1e-9, 0
    for i in range(n):
        run = i / (n - 1)
        below = (run - rise[i]) / math.sqrt(2)
        if below > best + 1e-12:
            best, where = below, i
    return where, curve[where]


def test_the_elbow_of_a_known_curve() -> None:
    values = np.array([0.9, 0.0, 0.1, 0.05, 0.8, 0.02])
    # Sorted 0 .02 .05 .1 .8 .9 under a chord of slope .18: below it by 0 .16 .31 .44 -.08 0.
    assert elbow(values) == Elbow(3, 0.1)
    np.testing.assert_array_equal(elbow(values).keeps(values), [1, 0, 1, 0, 1, 0])


@PLAIN
@given(st.lists(st.integers(0, 1000).map(lambda i: i / 1000), min_size=1, max_size=60))
def test_the_elbow_is_the_point_furthest_below_the_chord(values: list[float]) -> None:
    found = elbow(np.array(values))
    index, threshold = plain_elbow(values)
    curve = sorted(values)
    if found.index != index:  # equal distances, told apart by rounding alone
        chord = [
            curve[0] + (curve[-1] - curve[0]) * i / (len(curve) - 1) for i in range(len(curve))
        ]
        assert chord[found.index] - curve[found.index] == pytest.approx(
            chord[index] - threshold, abs=1e-9
        )
    assert found.threshold == curve[found.index]


def test_the_elbow_on_many_heads() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        values = rng.beta(0.3, rng.uniform(0.3, 6), size=int(rng.integers(3, 1100)))
        values = values.astype(np.float32)
        assert tuple(vars(elbow(values)).values()) == plain_elbow([float(v) for v in values])


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


def test_float32_values_keep_their_own_threshold() -> None:
    values = np.array([0.1, 0.1, 0.1, 0.7], np.float32)
    assert elbow(values).index == 2
    assert elbow(values).keeps(values).all(), "the threshold itself is reached"


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [0.2, math.inf]])
def test_an_elbow_of_nothing_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="finite"):
        elbow(np.array(values, np.float64))


# Spatial entropy ---------------------------------------------------------------------------------


def plain_components(above: np.ndarray, connectivity: int) -> list[list[tuple[int, int]]]:
    """Flood fill by hand."""
    rows, cols = above.shape
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    if connectivity == 8:
        steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    left = {(r, c) for r in range(rows) for c in range(cols) if above[r, c]}
    components = []
    while left:
        start = min(left)
        left.remove(start)
        component, border = [start], [start]
        while border:
            r, c = border.pop()
            for dr, dc in steps:
                near = (r + dr, c + dc)
                if near in left:
                    left.remove(near)
                    component.append(near)
                    border.append(near)
        components.append(component)
    return components


def plain_entropy(
    values: np.ndarray, cut: float = 1.0, connectivity: int = 8, weighting: str = "area"
) -> float:
    wide = values.astype(np.float64)
    above = wide > cut * (math.fsum(wide.ravel()) / wide.size)
    components = plain_components(above, connectivity)
    if not components:
        return math.inf
    if weighting == "area":
        sizes = [float(len(component)) for component in components]
    else:
        sizes = [math.fsum(float(wide[cell]) for cell in component) for component in components]
    total = math.fsum(sizes)
    return -math.fsum(s / total * math.log(s / total) for s in sizes)


SHAPES = [(1, 1), (1, 7), (6, 1), (2, 2), (5, 9), (9, 5), (14, 14)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("weighting", ["area", "mass"])
@pytest.mark.parametrize("cut", [0.0, 1.0, 1.7])
def test_entropy_is_the_naive_loop(
    shape: tuple[int, int], connectivity: int, weighting: str, cut: float
) -> None:
    rng = np.random.default_rng([*shape, connectivity])
    maps = rng.random((60, *shape)).astype(np.float32) ** rng.integers(1, 6, (60, 1, 1))
    maps = maps.astype(np.float32)
    maps[0] = 0  # nothing at all
    maps[1] = 0.1  # nothing above the mean
    maps[2] = rng.integers(0, 2, shape)  # plateaus
    maps[3] *= 1e-6
    found = spatial_entropy(maps, cut=cut, connectivity=connectivity, weighting=weighting)
    expected = [plain_entropy(one, cut, connectivity, weighting) for one in maps]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@PLAIN
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
        elements=st.integers(0, 3).map(float),
    ),
    st.sampled_from([4, 8]),
)
def test_entropy_of_small_numbers(maps: np.ndarray, connectivity: int) -> None:
    found = spatial_entropy(maps, connectivity=connectivity)
    expected = [plain_entropy(one, connectivity=connectivity) for one in maps]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_one_component_is_exactly_zero_and_none_is_infinite() -> None:
    maps = np.zeros((3, 7, 7), np.float32)
    maps[0, 2:5, 2:4] = 0.3
    maps[1] = 0.1
    found = spatial_entropy(maps)
    assert found.tolist() == [0.0, math.inf, math.inf]
    assert math.copysign(1.0, found[0]) == 1.0


def test_diagonal_cells_touch_at_eight_and_not_at_four() -> None:
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 1, 1] = maps[0, 2, 2] = 1.0
    assert spatial_entropy(maps)[0] == 0.0
    assert spatial_entropy(maps, connectivity=4)[0] == pytest.approx(math.log(2))


def test_neighbouring_maps_never_touch() -> None:
    maps = np.ones((200, 3, 5), np.float32)
    maps[:, 1, 2] = 0  # a ring that runs along every border of its map
    assert (spatial_entropy(maps) == 0).all()


def test_entropy_does_not_depend_on_scale() -> None:
    maps = np.random.default_rng(5).random((40, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(spatial_entropy(maps), spatial_entropy(maps * 2.0**-20))


def test_maps_without_cells_have_no_component() -> None:
    assert spatial_entropy(np.ones((3, 0, 4), np.float32)).tolist() == [math.inf] * 3


def test_maps_that_do_not_lie_in_one_piece_of_memory() -> None:
    maps = np.random.default_rng(6).random((9, 20, 7)).astype(np.float32)
    pieces = maps[::2, 1::3, ::-2]
    np.testing.assert_array_equal(spatial_entropy(pieces), spatial_entropy(pieces.copy()))


def test_a_cut_beyond_every_float32_leaves_no_component() -> None:
    maps = np.random.default_rng(7).random((3, 4, 4)).astype(np.float32)
    assert spatial_entropy(maps, cut=1e300).tolist() == [math.inf] * 3


def test_no_head_has_no_entropy_and_wrong_words_are_refused() -> None:
    maps = np.ones((1, 3, 3), np.float32)
    assert spatial_entropy(maps[:0]).shape == (0,)
    with pytest.raises(InputError, match="connectivity"):
        spatial_entropy(maps, connectivity=6)


# S_img, overlap, sensitivity ---------------------------------------------------------------------


def test_image_attention_is_the_plain_sum() -> None:
    maps = np.random.default_rng(2).random((5, 6, 7)).astype(np.float32)
    expected = [math.fsum(float(v) for v in one.ravel()) for one in maps]
    np.testing.assert_allclose(image_attention(maps), expected, rtol=1e-6)
    assert image_attention(maps).dtype == np.float32


def plain_overlap(a: np.ndarray, b: np.ndarray) -> float:
    p = [float(v) for v in a.ravel()]
    q = [float(v) for v in b.ravel()]
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
    for i in range(3, 200):
        assert found[i] == pytest.approx(1 - plain_overlap(a[i], b[i]), abs=1e-9)
        assert overlap(a, b)[i] == pytest.approx(plain_overlap(a[i], b[i]), abs=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, sensitivity(b, a), atol=1e-12)


def test_common_change_is_the_cosine_with_the_others() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 6, 3, 4)).astype(np.float32)
    weights = rng.random(6)
    change = [
        x / x.sum() - y / y.sum() for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    for i in range(6):
        others = sum(weights[j] * change[j] for j in range(6) if j != i)
        cosine = (change[i] * others).sum() / np.sqrt((change[i] ** 2).sum() * (others**2).sum())
        assert common_change(a, b, weights)[i] == pytest.approx(max(0.0, cosine), abs=1e-9)


def test_common_change_knows_the_herd_from_the_stray() -> None:
    a, b = np.full((2, 4, 4, 4), 0.01, np.float32)
    a[:3, 0, 0] = b[:3, 3, 3] = 1.0  # three heads move alike
    a[3, 0, 3] = b[3, 3, 0] = 1.0  # one elsewhere
    found = common_change(a, b, np.ones(4))
    assert found[:3].min() > 0.85
    assert found[3] < 0.1
    np.testing.assert_array_equal(common_change(a, a, np.ones(4)), 0)
    np.testing.assert_array_equal(common_change(a[:1], b[:1], np.ones(1)), 0)
