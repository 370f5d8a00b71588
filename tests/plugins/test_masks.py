import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets.masks import from_segmentation

coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is in the extra data")

SIZE = (30, 20)
WIDTH, HEIGHT = SIZE
SIDES = st.integers(1, 12)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            mask[row, column] = any(x <= column < r and y <= row < b for x, y, r, b in boxes)
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, from zeros on."""
    counts, last = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if bool(mask[row, column]) != last:
                counts.append(0)
                last = not last
            counts[-1] += 1
    return counts


def refusal(segmentation: object, size: tuple[int, int] = SIZE) -> str:
    with pytest.raises(InputError) as raised:
        from_segmentation(segmentation, size)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_polygon_is_its_pixels() -> None:
    mask = from_segmentation([rectangle(3, 4, 10, 9)], SIZE)
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, pixels((3, 4, 10, 9)))


def test_polygons_that_overlap_are_one_object() -> None:
    boxes = (3, 4, 10, 9), (6, 6, 15, 12), (20, 1, 25, 3)
    mask = from_segmentation([rectangle(*box) for box in boxes], SIZE)
    assert np.array_equal(mask, pixels(*boxes))
    assert mask.sum() < sum((r - x) * (b - y) for x, y, r, b in boxes)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.floats(-5, WIDTH + 5, allow_nan=False),
                st.floats(-5, HEIGHT + 5, allow_nan=False),
            ),
            min_size=3,
            max_size=8,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_polygons_are_drawn_as_pycocotools_draws_each(points: list[Any]) -> None:
    polygons = [[value for point in polygon for value in point] for polygon in points]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for polygon in polygons:
        (run,) = coco.frPyObjects([polygon], HEIGHT, WIDTH)
        expected |= coco.decode(run) > 0
    assert np.array_equal(from_segmentation(polygons, SIZE), expected)


def test_nothing_outlined_is_an_empty_mask() -> None:
    mask = from_segmentation([], SIZE)
    assert mask.shape == (HEIGHT, WIDTH)
    assert not mask.any()


@pytest.mark.parametrize("short", [[], [5, 5], [15, 15, 25, 18]])
def test_polygons_of_fewer_than_three_points_enclose_nothing(short: list[float]) -> None:
    whole = rectangle(3, 4, 10, 9)
    for polygons in ([whole, short], [short, whole]):
        assert np.array_equal(from_segmentation(polygons, SIZE), pixels((3, 4, 10, 9)))
    assert "three points" in refusal([short])


@given(st.integers(0, 2**32 - 1), SIDES, SIDES, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_run_lengths_are_their_pixels(seed: int, width: int, height: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    size = [height, width]
    forms: list[object] = [runs(mask), encoded["counts"], encoded["counts"].decode()]
    for counts in forms:
        found = from_segmentation({"size": size, "counts": counts}, (width, height))
        assert found.dtype == np.bool_
        assert np.array_equal(found, mask)


def test_run_lengths_of_large_masks_are_read() -> None:
    mask = np.zeros((700, 900), bool)
    mask[100:600, 50:800] = True
    mask[300:310] ^= True
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(from_segmentation(encoded, (900, 700)), mask)


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [3, 4],
        [0, WIDTH * HEIGHT + 1],
        [-3, WIDTH * HEIGHT + 3],
        [10**30],
        [True, WIDTH * HEIGHT - 1],
        [1.0, WIDTH * HEIGHT - 1],
        ["600"],
        None,
        7,
        "",
        b"",
        "o" * 100,
        "P",
        "\u20ac",
        " 1",
        b"\xff\xff",
    ],
)
def test_broken_run_lengths_are_refused(counts: object) -> None:
    assert "run lengths" in refusal({"size": [HEIGHT, WIDTH], "counts": counts})


def test_run_lengths_that_are_cut_short_are_refused() -> None:
    encoded = coco.encode(np.asfortranarray(pixels((3, 4, 10, 9)).astype(np.uint8)))
    text = encoded["counts"].decode()
    for length in range(len(text)):
        refusal({"size": [HEIGHT, WIDTH], "counts": text[:length]})
    refusal({"size": [HEIGHT, WIDTH], "counts": text + "1"})


@pytest.mark.parametrize("size", [[WIDTH, HEIGHT], None, 5, [HEIGHT], "20", [HEIGHT, WIDTH, 1]])
def test_run_lengths_of_another_size_are_refused(size: object) -> None:
    assert "height first" in refusal({"size": size, "counts": [WIDTH * HEIGHT]})


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "abc",
        7,
        (1, 2),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [[[1, 1], [5, 1], [5, 5]]],
        [[1, 1, 5, 1, 5]],
        [[1, 1, 5, 1, 5, 5, 9]],
        [[1, 1, "5", 1, 5, 5]],
        [[1, 1, None, 1, 5, 5]],
        [[1, 1, True, 1, 5, 5]],
        [[1, 1, float("nan"), 1, 5, 5]],
        [[1, 1, float("inf"), 1, 5, 5]],
        [[1, 1, 10**400, 1, 5, 5]],
        [[1, 1, 1e9, 1, 5, 5]],
        [[1, 1, 5, -1e9, 5, 5]],
        [{"x": 1}],
        ["111111"],
    ],
)
def test_what_is_no_segmentation_is_refused(segmentation: object) -> None:
    refusal(segmentation)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (10**6, 10**6)])
def test_pictures_of_no_or_of_too_many_pixels_are_refused(size: tuple[int, int]) -> None:
    assert "width and height" in refusal([], size)


def test_without_pycocotools_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert "pip install 'vg-engine[data]'" in refusal([rectangle(3, 4, 10, 9)])
    counts = runs(pixels((3, 4, 10, 9)))
    mask = from_segmentation({"size": [HEIGHT, WIDTH], "counts": counts}, SIZE)
    assert np.array_equal(mask, pixels((3, 4, 10, 9)))
