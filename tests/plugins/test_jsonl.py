import json

import numpy as np
import pytest
from dataset_files import drawn, pixels, rectangle, refusal
from PIL import Image
from pycocotools import mask as coco

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.jsonl import KEYS, jsonl

SMALL = {"image": "a.png", "text": "the cup"}


@pytest.fixture
def write(tmp_path):
    def written(*records):
        lines = [each if isinstance(each, str | bytes) else json.dumps(each) for each in records]
        file = tmp_path / "questions.jsonl"
        file.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
        return file

    return written


@pytest.fixture
def one(write):
    """The sample of the one line that says this."""

    def read(**changes):
        (found,) = jsonl(write({**SMALL, **changes}))
        assert isinstance(found, Sample), found
        return found

    return read


def test_a_short_line_is_enough(one, tmp_path):
    sample = one()
    assert (sample.id, sample.text, sample.picture) == ("1", "the cup", "a.png")
    assert sample.image == str(tmp_path / "a.png")
    assert (sample.boxes, sample.mask, sample.target) == (None, None, None)
    assert sample.groups == {}


def test_everything_a_line_may_say(one):
    more = {"id": 7, "picture": "p", "target": 12, "groups": {"kind": "colour", "size": "s"}}
    text = "  l'\u00e9l\u00e9phant \u8c61 "
    sample = one(box=[1, 2.5, 3, 4], text=text, **more)
    assert (sample.id, sample.picture, sample.target) == ("7", "p", "12")
    assert sample.text == text
    assert sample.groups == more["groups"]
    assert sample.boxes.tolist() == [[1, 2.5, 3, 4]]
    assert set(KEYS) >= {*SMALL, *more, "box"}


def test_numbers_as_pandas_writes_them_are_names_and_addresses_are_kept(one):
    sample = one(id=2.0, groups={"year": 2014, "kind": None}, image="https://example.org/a.png")
    assert (sample.id, sample.groups) == ("2", {"year": "2014"})
    assert sample.image == "https://example.org/a.png"


def test_boxes_several_none_and_unknown(one):
    boxes = [[0, 0, 1, 1], [2, 2, 9, 9]]
    assert one(boxes=boxes).boxes.tolist() == boxes
    assert one(boxes=[]).boxes.shape == (0, 4)
    assert one(boxes=None, box=None).boxes is None


def test_xywh_is_asked_for_and_never_guessed(write):
    file = write({**SMALL, "box": [10, 20, 30, 5]})
    (found,) = jsonl(file, boxes="xywh")
    assert found.boxes.tolist() == [[10, 20, 40, 25]]
    (fault,) = jsonl(file)
    assert "empty as xyxy; was it written as xywh?" in fault.error


def test_paths_are_relative_to_the_file_and_one_picture_has_one_name(write, tmp_path):
    names = "pics/a.png", "./pics/../pics/a.png", "/elsewhere/a.png"
    near, dotted, far = jsonl(write(*({**SMALL, "image": name} for name in names)))
    assert near.image == str(tmp_path / "pics" / "a.png")
    assert near.picture == dotted.picture != far.picture
    assert far.image == "/elsewhere/a.png"


def test_masks_are_run_lengths_and_polygons_that_overlap(one, tmp_path):
    mask = pixels((2, 1, 8, 4), size=(9, 6))
    text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for counts in (text, [2 * 6 + 1, *[3, 3] * 5, 3, 6 + 2]):
        sample = one(mask={"size": [6, 9], "counts": counts})
        assert np.array_equal(drawn(sample), mask)
        assert sample.mask().ignored is None
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    squares = [rectangle(2, 2, 8, 8), rectangle(5, 2, 12, 8)]
    assert np.array_equal(drawn(one(mask=squares)), pixels((2, 2, 12, 8), size=(20, 10)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_a_mask_may_be_a_picture_of_one_channel_without_loss(one, tmp_path, mode):
    values = pixels((2, 1, 6, 3), size=(7, 5)).astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(values * (255 if mode == "1" else 1))
    if mode in ("1", "P"):
        picture = picture.convert(mode)
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks" / "m.png")
    sample = one(mask="masks/m.png")
    assert np.array_equal(drawn(sample), values > 0)
    assert sample.mask().ignored is None
    Image.new("RGB", (5, 5)).save(tmp_path / "rgb.png")
    Image.new("L", (5, 5)).save(tmp_path / "lossy.jpg")
    for name, words in (("rgb.png", "3 channels"), ("lossy.jpg", "not a picture of PNG")):
        assert words in refusal(one(mask=name).mask)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a record"),
        (b'{"image": "a", "text": "caf\xe9"}', "not UTF-8"),
        ({"text": "x"}, "names no image"),
        ({**SMALL, "image": ""}, "names no image"),
        ({**SMALL, "image": 3}, "image is no text"),
        ({"image": "a"}, "names no text"),
        ({**SMALL, "text": None}, "names no text"),
        ({**SMALL, "text": ["a", "b"]}, "text is no text"),
        ({**SMALL, "id": 1.5}, "its id"),
        ({**SMALL, "id": True}, "its id"),
        ({**SMALL, "target": {}}, "its target"),
        ({**SMALL, "picture": ""}, "its picture"),
        ({**SMALL, "groups": ["a"]}, "groups"),
        ({**SMALL, "groups": {"a": 1.5}}, "its group 'a'"),
        ('{"image": "a", "text": "b", "box": [0, 0, 1, 2], "box": []}', "key 'box' twice"),
        ('{"image": "a", "text": "b", "id": NaN}', "its id"),
        ({**SMALL, "mask": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}, "lies in one pixel"),
        ({**SMALL, "box": [1, 2, 3, 4], "boxes": []}, "both box and boxes"),
        ({**SMALL, "box": [1, 2, 3]}, "four numbers"),
        ({**SMALL, "box": "1,2,3,4"}, "not a list of numbers"),
        ({**SMALL, "box": [1, 2, 3, "4"]}, "not a number"),
        ({**SMALL, "box": [1, 2, 3, True]}, "not a number"),
        ({**SMALL, "box": [5, 2, 3, 4]}, "empty as xyxy"),
        ({**SMALL, "box": [1, 4, 3, 4]}, "empty as xyxy"),
        ('{"image": "a", "text": "b", "box": [0, 0, NaN, 1]}', "not finite"),
        ('{"image": "a", "text": "b", "box": [0, 0, 1%s, 1]}' % ("0" * 400), "not finite"),
        ({**SMALL, "boxes": [1, 2, 3, 4]}, "a single box is called box"),
        ({**SMALL, "boxes": {}}, "not a list of lists"),
        ({**SMALL, "mask": "nowhere.png"}, "no file"),
        ({**SMALL, "mask": ""}, "mask is unknown"),
        ({**SMALL, "mask": 3}, "mask is unknown"),
        ({**SMALL, "mask": []}, "mask is unknown"),
        ({**SMALL, "mask": {"counts": "a"}}, "mask is unknown"),
        ({**SMALL, "mask": {"size": [2, 2]}}, "mask is unknown"),
        ({**SMALL, "mask": [[1, 2, 3, 4]]}, "mask is unknown"),
        ({**SMALL, "mask": [1, 2, 3, 4, 5, 6]}, "not a list of numbers"),
    ],
)
def test_a_broken_line_is_told_by_its_number(write, line, words):
    before, fault, after = jsonl(write(SMALL, line, SMALL))
    assert [type(each) for each in (before, fault, after)] == [Sample, Fault, Sample]
    assert fault.id == "line 2"
    assert not fault.error.startswith("line")  # whoever shows it names the line
    assert words in fault.error
    assert "\n" not in fault.error
    assert len(fault.error) < 300


def test_ids_are_used_once_and_sentences_are_not_empty(write):
    # The third line's own number is taken by the first.
    lines = {**SMALL, "id": "3"}, {**SMALL, "id": 3}, SMALL, {**SMALL, "text": "  "}
    first, *faults = jsonl(write(*lines))
    assert isinstance(first, Sample)
    assert [type(each) for each in faults] == [Fault] * 3
    assert "no expression" in faults[2].error


def test_unknown_keys_are_mentioned_once_and_signs_around_lines_never(write):
    lines = [{**SMALL, "bbox": [1], "x": 1}, {**SMALL, "bbox": [1]}, "{", "[1]"]
    first, second = jsonl(write(*lines)).statements
    assert "line 1 has a key 'bbox'" in first
    assert "did you mean box" in first
    assert "'x'" in second
    assert jsonl(write(SMALL)).statements == ()
    line = json.dumps(SMALL).encode()
    file = write(b"\xef\xbb\xbf" + line + b"\r\n\r\n   \r\n" + line + b"\r\n")
    assert [record.id for record in jsonl(file)] == ["1", "4"]


def test_a_set_is_read_lazily_and_again_and_known_by_what_it_holds(write):
    file = write(SMALL, SMALL)
    data, other = jsonl(file), jsonl(file, boxes="xywh")
    reading = iter(data)
    assert next(reading).id == "1"
    assert [record.id for record in data] == ["1", "2"]
    assert next(reading).id == "2"
    assert (data.name, other.name) == (f"jsonl:{file}", f"jsonl:{file}?boxes=xywh")
    assert jsonl(file).revision == data.revision != other.revision
    assert jsonl(write(SMALL, {**SMALL, "id": "x"})).revision != data.revision


def test_what_is_refused(tmp_path):
    empty, wide = tmp_path / "empty.jsonl", tmp_path / "wide.jsonl"
    empty.write_bytes(b"\xef\xbb\xbf\n \n")
    wide.write_text(json.dumps(SMALL), encoding="utf-16")
    for path, options, words in (
        (None, {}, "jsonl needs a file: write jsonl:"),
        (tmp_path / "x.jsonl", {}, "no such file"),
        (tmp_path, {}, "is a folder"),
        (empty, {}, "is empty; write lines"),
        (wide, {}, "save it as UTF-8"),
        (empty, {"boxes": "cxcywh"}, "did you mean xywh"),
    ):
        assert words in refusal(jsonl, path, **options)
