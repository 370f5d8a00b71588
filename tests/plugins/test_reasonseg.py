import json
import re
from pathlib import Path

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, refusal, sorted_out
from PIL import Image

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.reasonseg import reasonseg


def rectangle(left, top, right, bottom):
    """Corners of a rectangle whose last pixels are `right` and `bottom`."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def shape(label, points):
    return {"label": label, "points": points, "shape_type": "polygon", "image_name": "a.jpg"}


def write(root, stem="a", **changes):
    """A picture and its annotation; a value of ... leaves its key out."""
    shapes = [shape("target", rectangle(2, 3, 10, 12))]
    record = {"text": ["what is it"], "is_sentence": False, "shapes": shapes, **changes}
    folder = root / "val"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{stem}.jpg")
    wanted = {key: value for key, value in record.items() if value is not ...}
    (folder / f"{stem}.json").write_text(json.dumps(wanted), encoding="utf-8")
    return root


def one(root, kind=Sample):
    (found,) = reasonseg(root)
    assert isinstance(found, kind), found
    return found


def truth(sample):
    drawn = sample.mask()
    assert not (drawn.mask & drawn.ignored).any()
    return np.where(drawn.ignored, 255, drawn.mask)


def test_one_question(tmp_path):
    sample = one(write(tmp_path))
    assert (sample.id, sample.picture, sample.target) == ("a-0", "a", "a")
    assert sample.text == "what is it"
    assert sample.groups == {"kind": "short"}
    assert sample.boxes.tolist() == [[2.0, 3.0, 11.0, 13.0]]
    assert Path(sample.open()) == tmp_path / "val" / "a.jpg"


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_smaller_shapes_lie_over_larger_ones_whatever_their_order(tmp_path, order):
    """Target, a hole that is ignored in it, and a target again within the hole."""
    areas = [("Target", 0, 0, 29, 19), ("ignore_this", 4, 4, 20, 15), ("target", 6, 6, 9, 9)]
    expected = np.zeros((HEIGHT, WIDTH), dtype=int)
    for row, column in np.ndindex(HEIGHT, WIDTH):
        for label, left, top, right, bottom in areas:  # large ones first
            if left <= column <= right and top <= row <= bottom:
                expected[row, column] = 255 if "ignore" in label else 1
    shapes = [shape(label, rectangle(*corners)) for label, *corners in areas]
    sample = one(write(tmp_path, shapes=[shapes[index] for index in order]))
    assert np.array_equal(truth(sample), expected)


def test_points_are_cut_to_whole_pixels_and_outlines_belong(tmp_path):
    """A right triangle with fractions: pixels with column + row <= 10 of the cut corners."""
    points = [[0.9, 0.9], [10.7, 0.2], [0.4, 10.999]]
    sample = one(write(tmp_path, shapes=[shape("target", points)]))
    expected = [[int(x + y <= 10) for x in range(WIDTH)] for y in range(HEIGHT)]
    assert np.array_equal(truth(sample), expected)
    assert sample.boxes.tolist() == [[0.0, 0.0, 11.0, 11.0]]


def test_flags_are_dropped_even_without_points_and_shapes_beyond_the_picture_cut(tmp_path):
    shapes = [shape("Flag", []), shape("target", rectangle(5, 5, 6, 6)), shape("flag", [[1, 1]])]
    assert truth(one(write(tmp_path, shapes=shapes))).sum() == 4
    sample = one(write(tmp_path, shapes=[shape("target", rectangle(-5, 25, 99, 99))]))
    assert sample.boxes.tolist() == [[0.0, 25.0, WIDTH, HEIGHT]]


def test_a_file_without_a_target_is_an_empty_truth(tmp_path):
    for shapes in ([], [shape("flag", [])], [shape("ignore", rectangle(1, 1, 5, 5))]):
        sample = one(write(tmp_path, shapes=shapes))
        assert sample.boxes.shape == (0, 4)
        assert not sample.mask().mask.any()


def test_the_first_text_is_asked_and_all_on_request_also_in_cp1252(tmp_path):
    sample = one(write(tmp_path, text=["first", "second"], is_sentence=True))
    assert (sample.text, sample.groups) == ("first", {"kind": "long"})
    first, second = reasonseg(tmp_path, texts="all")
    assert (first.text, second.text) == ("first", "second")
    assert first.same_target(second)
    assert first.id == sample.id != second.id
    file = write(tmp_path) / "val" / "a.json"
    text = file.read_text().replace("what is it", "what\x92s the caf\xe9")
    file.write_bytes(text.encode("latin-1"))
    assert one(tmp_path).text == "what\u2019s the caf\u00e9"


def test_a_turned_picture_is_measured_upright_and_one_too_large_not_drawn_on(tmp_path):
    file = write(tmp_path) / "val" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(file, exif=exif)
    assert truth(one(tmp_path)).shape == (WIDTH, HEIGHT)
    Image.new("1", (8100, 8100)).save(file, "PNG")
    assert "8100 x 8100, too large" in one(tmp_path, Fault).error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shapes": ...}, "has no shapes"),
        ({"shapes": {}}, "has no shapes"),
        ({"shapes": [{"points": [[1, 1]]}]}, "without a label"),
        ({"shapes": [{"label": "target"}]}, "without points"),
        ({"shapes": [shape("target", [])]}, "without points"),
        ({"shapes": [shape("target", [[1.0]])]}, "no [x, y]"),
        ({"shapes": [shape("target", [[1.0, 1e300]])]}, "no [x, y]"),
        ({"shapes": [shape("target", [[1.0, 1.0], [1e9, 5.0], [5.0, 1e9]])]}, "no [x, y]"),
        ({"shapes": [{"label": "target", "points": ["ab"]}]}, "not a list of numbers"),
        ({"shapes": [shape("target", [[0.1, 0.1], [0.5, 0.1], [1, 1]])]}, "lies in one pixel"),
        ({"shapes": [shape("target", []) | {"shape_type": "rectangle"}]}, "is no polygon"),
        ({"imageWidth": HEIGHT, "imageHeight": WIDTH}, f"a picture of {HEIGHT} x {WIDTH}, but"),
        ({"text": ...}, "no list of texts"),
        ({"text": []}, "no list of texts"),
        ({"text": "what"}, "no list of texts"),
        ({"is_sentence": ...}, "is_sentence"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, changes, words):
    found = one(write(tmp_path, **changes), Fault)
    assert found.id == "a"
    assert words in found.error


def test_one_broken_file_does_not_stop_the_others(tmp_path):
    for stem in "abcde":
        write(tmp_path, stem)
    folder = tmp_path / "val"
    (folder / "a.json").write_text("{")
    (folder / "b.jpg").write_bytes(b"no picture")
    (folder / "c.json").unlink()
    (folder / "d.jpg").unlink()
    samples, faults = sorted_out(reasonseg(tmp_path))
    assert (list(faults), list(samples)) == (["a", "b", "c", "d"], ["e-0"])
    assert "a.json is not JSON" in faults["a"]
    assert "b.jpg is not a picture" in faults["b"]
    assert "has no c.json" in faults["c"]
    assert "has no d.jpg" in faults["d"]


def test_endings_in_capitals_are_read_and_hidden_files_are_not(tmp_path):
    folder = write(tmp_path) / "val"
    (folder / "a.jpg").rename(folder / "a.JPG")
    for name in ("._a.json", "._a.jpg"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert one(tmp_path).image == str(folder / "a.JPG")


def test_splits_are_named_when_the_wrong_one_is_asked(tmp_path):
    write(tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    write(tmp_path, "b")
    (tmp_path / "explanatory").mkdir()
    (tmp_path / "explanatory" / "train.json").write_text("[]")
    message = refusal(reasonseg, tmp_path, split="train")
    assert re.search(r"no split 'train'.*test, val$", message)
    data = reasonseg(tmp_path, split="test")
    assert data.name == f"reasonseg:{tmp_path}?split=test&texts=first"
    assert reasonseg(tmp_path, split="test").revision == data.revision
    assert reasonseg(tmp_path, split="test", texts="all").revision != data.revision
    before = reasonseg(tmp_path, split="val").revision
    assert reasonseg(write(tmp_path, "b", text=["other"]), split="val").revision != before


def test_what_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "empty").mkdir()
    for path, options, words in (
        (None, {}, "write reasonseg:/data"),
        (tmp_path / "x", {}, "no such folder"),
        (tmp_path / "val", {}, "name the folder above it and split=val"),
        (tmp_path / "val" / "a.json", {}, "name its folder"),
        (tmp_path / "empty", {}, "no split lies in"),
        (tmp_path, {"texts": "one"}, "known: all, first"),
    ):
        assert words in refusal(reasonseg, path, **options)
