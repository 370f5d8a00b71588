"""Small pictures for reports."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.html.thumbnails import Outline, Style, data_uri, head_tiles, overlay

GREY = 90
Size = tuple[int, int]


def grey(width: int, height: int) -> Picture:
    return Picture(np.full((height, width, 3), GREY, np.uint8))


def hot(row: int, column: int, cell: float = 100.0, left: float = 0.0) -> SoftMap:
    """A 6 x 6 map with one cell, of `cell` pixels each way, that begins at `left`."""
    values = np.zeros((6, 6), np.float32)
    values[row, column] = 1.0
    return SoftMap(values, Affine((cell, cell), (left, 0.0)))


def changed(image: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(image).astype(int) - GREY).max(axis=2)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((600, 300), (320, 160)),
        ((30, 60), (160, 320)),
        ((1, 1), (320, 320)),
        ((1, 5000), (8, 320)),
        ((3000, 2), (320, 8)),
    ],
)
def test_pictures_have_the_size_they_are_shown_at(size: Size, shown: Size) -> None:
    picture = grey(*size)
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    everything = [Outline(box, style, "漢字 and more") for style in ("answer", "truth", "other")]
    drawn = overlay(picture, hot(0, 0, max(size) / 6), everything, (0.2, 0.2))
    assert (drawn.size, drawn.mode) == (shown, "RGB")
    assert (picture.pixels == GREY).all()
    assert overlay(picture, max_side=64).size == tuple(max(8, round(s / 5)) for s in shown)


def test_the_map_lies_where_the_model_looked() -> None:
    # The grid spans more than the picture: its first column is padding.
    strength = changed(overlay(grey(500, 600), hot(2, 4, left=-100.0)))
    y, x = np.unravel_index(strength.argmax(), strength.shape)
    assert 300 <= x * 600 / 320 < 400
    assert 200 <= y * 600 / 320 < 300
    assert strength[:, :60].max() < 6, "far from it, the picture is itself"


def test_boxes_differ_in_more_than_colour() -> None:
    box = (100.0, 100.0, 500.0, 400.0)
    edge = round(100 * 320 / 600)

    def upper(style: Style) -> np.ndarray:
        image = np.asarray(overlay(grey(600, 600), None, [Outline(box, style)])).astype(int)
        return image[edge, edge + 4 : round(500 * 320 / 600) - 4]

    answer, truth, other = upper("answer"), upper("truth"), upper("other")
    assert (answer[:, 1] > answer[:, 0] + 60).all(), "one unbroken turquoise line"
    white = truth.min(axis=1) > 200
    assert 0.3 < white.mean() < 0.8
    assert np.count_nonzero(np.diff(white.astype(int)) == 1) > 8, "dashes"
    assert (other[:, 0] > other[:, 2] + 40).all(), "one unbroken amber line"


def test_boxes_that_cannot_be_drawn_do_no_harm() -> None:
    picture = grey(60, 60)
    blank = np.asarray(overlay(picture))
    lost = [Outline((math.nan, 0.0, 5.0, 5.0), style, "x") for style in ("answer", "truth")]
    assert np.array_equal(np.asarray(overlay(picture, None, lost)), blank)
    wide = [Outline((-50.0, -9.0, 900.0, 70.0), style, "far") for style in ("answer", "truth")]
    drawn = changed(overlay(picture, None, wide))
    assert drawn[:3].max() > 60, "its edge is seen at the picture's"


def test_the_peak_and_the_label_are_seen() -> None:
    labelled = Outline((100.0, 100.0, 200.0, 200.0), label="0.86")
    strength = changed(overlay(grey(320, 320), None, [labelled], (250.0, 250.0)))
    assert strength[250, 250] > 60
    assert strength[84:98, 101:112].max() > 60, "the plate above the corner"
    assert strength[:70].max() == 0


def test_two_labels_at_one_place_are_both_seen() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    one = changed(overlay(grey(320, 320), None, [Outline(box, label="A")])) > 60
    both = changed(
        overlay(grey(320, 320), None, [Outline(box, label="A"), Outline(box, label="B")])
    )
    above = np.s_[80:97]
    assert one[above].any()
    assert np.count_nonzero(both[above] > 60) > 1.8 * np.count_nonzero(one[above])


def test_what_cannot_be_drawn_is_named() -> None:
    maps = SoftMap(np.zeros((2, 6, 6), np.float32), Affine((1.0, 1.0), (0.0, 0.0)))
    with pytest.raises(InputError, match="render takes one map"):
        overlay(grey(6, 6), maps)
    with pytest.raises(HeadsError, match="no map of L9H9"):
        head_tiles(grey(9, 9), head_maps(), [Head(9, 9)])


def head_maps() -> HeadMaps:
    values = np.stack([hot(0, 0).values, hot(5, 5).values, np.zeros((6, 6), np.float32)])
    maps = SoftMap(values, Affine((100.0, 100.0), (0.0, 0.0)))
    heads = (Head(0, 1), Head(2, 3), Head(4, 5))
    return HeadMaps("the cup", heads, maps, np.array([0.5, 0.4, 0.0], np.float32))


def test_each_head_gets_its_own_tile() -> None:
    tiles = head_tiles(grey(600, 600), head_maps(), [Head(2, 3), Head(0, 1)])
    assert [tile.caption for tile in tiles] == ["L2H3", "L0H1"]
    for tile, corner in zip(tiles, (150, 10), strict=True):
        assert tile.image.size == (160, 160)
        brightness = np.asarray(tile.image).astype(int).sum(axis=2)
        assert brightness[corner, corner] > 3 * GREY
        assert brightness[80, 80] < 0.7 * 3 * GREY, "the picture is dimmed"


def test_pictures_travel_inside_the_page() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    uri = data_uri(image)
    assert uri.startswith("data:image/jpeg;base64,")
    opened = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert np.abs(np.asarray(opened).astype(int) - noise).mean() < 20
    assert uri == data_uri(image)
