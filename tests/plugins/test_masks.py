import itertools
import sys

import numpy as np
import pytest
from dataset_files import pixels, rectangle, refusal
from hypothesis import given
from hypothesis import strategies as st

from vg_engine.plugins.datasets.masks import from_segmentation

coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is in the extra data")

WIDTH, HEIGHT = SIZE = (30, 20)
SIDES = st.integers(1, 12)
POINT = st.tuples(
    st.floats(-5, WIDTH + 5, allow_nan=False), st.floats(-5, HEIGHT + 5, allow_nan=False)
)
BOX = (3, 4, 10, 9)


def runs(mask):
    """Run lengths down the columns, from zeros on."""
    counts, last = [0], False
    for value in mask.ravel(order="F").tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def encode(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_polygons_that_overlap_are_one_object():
    boxes = BOX, (6, 6, 15, 12), (20, 1, 25, 3)
    for some in (boxes[:1], boxes):
        mask = from_segmentation([rectangle(*box) for box in some], SIZE)
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, pixels(*some, size=SIZE))
    assert np.array_equal(from_segmentation([], SIZE), pixels(size=SIZE))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(st.lists(st.lists(POINT, min_size=3, max_size=8), min_size=1, max_size=4))
def test_polygons_are_drawn_as_pycocotools_draws_each(points):
    polygons = [list(itertools.chain(*polygon)) for polygon in points]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for polygon in polygons:
        (run,) = coco.frPyObjects([polygon], HEIGHT, WIDTH)
        expected |= coco.decode(run) > 0
    assert np.array_equal(from_segmentation(polygons, SIZE), expected)


@pytest.mark.parametrize("short", [[], [5, 5], [15, 15, 25, 18]])
def test_polygons_of_fewer_than_three_points_enclose_nothing(short):
    whole = rectangle(*BOX)
    for polygons in ([whole, short], [short, whole]):
        assert np.array_equal(from_segmentation(polygons, SIZE), pixels(BOX, size=SIZE))
    assert "three points" in refusal(from_segmentation, [short], SIZE)


@given(st.integers(0, 2**32 - 1), SIDES, SIDES, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_run_lengths_are_their_pixels(seed, width, height, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    text = encode(mask)["counts"]
    for counts in (runs(mask), text, text.decode()):
        found = from_segmentation({"size": [height, width], "counts": counts}, (width, height))
        assert found.dtype == np.bool_
        assert np.array_equal(found, mask)


def test_run_lengths_of_large_masks_are_read():
    mask = np.zeros((700, 900), bool)
    mask[100:600, 50:800] = True
    mask[300:310] ^= True
    assert np.array_equal(from_segmentation(encode(mask), (900, 700)), mask)


AREA = WIDTH * HEIGHT
WRONG_SUMS = [], [3, 4], [0, AREA + 1], [-3, AREA + 3], [10**30]
WRONG_TYPES = [True, AREA - 1], [1.0, AREA - 1], ["600"], None, 7
WRONG_TEXTS = "", b"", "o" * 100, "P", "\u20ac", " 1", b"\xff\xff"
WHOLE = encode(pixels(BOX, size=SIZE))["counts"].decode()
CUT_SHORT = [WHOLE[:length] for length in range(len(WHOLE))]


@pytest.mark.parametrize(
    "counts", [*WRONG_SUMS, *WRONG_TYPES, *WRONG_TEXTS, *CUT_SHORT, WHOLE + "1"]
)
def test_broken_run_lengths_are_refused(counts):
    broken = {"size": [HEIGHT, WIDTH], "counts": counts}
    assert "run lengths" in refusal(from_segmentation, broken, SIZE)


@pytest.mark.parametrize("size", [[WIDTH, HEIGHT], None, 5, [HEIGHT], "20", [HEIGHT, WIDTH, 1]])
def test_run_lengths_of_another_size_are_refused(size):
    counts = [WIDTH * HEIGHT]
    assert "height first" in refusal(from_segmentation, {"size": size, "counts": counts}, SIZE)


WRONG_VALUES = ["5", None, True, float("nan"), float("inf"), 10**400, 1e9, -1e9]


@pytest.mark.parametrize(
    "segmentation",
    [
        *(None, "abc", 7, (1, 2), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [{"x": 1}], ["111111"]),
        *([[[1, 1], [5, 1], [5, 5]]], [[1, 1, 5, 1, 5]], [[1, 1, 5, 1, 5, 5, 9]]),
        *([[1, 1, value, 1, 5, 5]] for value in WRONG_VALUES),
        [[1, 1, 5, -1e9, 5, 5]],
    ],
)
def test_what_is_no_segmentation_is_refused(segmentation):
    refusal(from_segmentation, segmentation, SIZE)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (10**6, 10**6)])
def test_pictures_of_no_or_of_too_many_pixels_are_refused(size):
    assert "width and height" in refusal(from_segmentation, [], size)


def test_without_pycocotools_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    message = refusal(from_segmentation, [rectangle(*BOX)], SIZE)
    assert "pip install 'vg-engine[data]'" in message
    box = pixels(BOX, size=SIZE)
    mask = from_segmentation({"size": [HEIGHT, WIDTH], "counts": runs(box)}, SIZE)
    assert np.array_equal(mask, box)
