"""A user's own lines: what they may hold, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco  # type: ignore[import-untyped]

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets.jsonl import KEYS, jsonl

SMALL = {"image": "a.png", "text": "the cup"}


def write(folder: Path, *records: dict[str, Any] | str | bytes) -> Path:
    lines = [each if isinstance(each, str | bytes) else json.dumps(each) for each in records]
    file = folder / "questions.jsonl"
    file.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return file


def read(folder: Path, *records: dict[str, Any] | str | bytes, **options: str) -> list[Any]:
    return list(jsonl(write(folder, *records), **options))


def one(folder: Path, **changes: Any) -> Sample:
    (found,) = read(folder, {**SMALL, **changes})
    assert isinstance(found, Sample), found
    return found


def drawn(sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    truth = sample.mask()
    assert truth.ignored is None
    return truth.mask


def test_a_short_line_is_enough(tmp_path: Path) -> None:
    sample = one(tmp_path)
    assert (sample.id, sample.text, sample.picture) == ("1", "the cup", "a.png")
    assert sample.image == str(tmp_path / "a.png")
    assert sample.boxes is None
    assert sample.mask is None
    assert sample.target is None
    assert sample.groups == {}


def test_everything_a_line_may_say(tmp_path: Path) -> None:
    more = {"id": 7, "picture": "p", "target": 12, "groups": {"kind": "colour", "size": "s"}}
    sample = one(tmp_path, box=[1, 2.5, 3, 4], **more)
    assert (sample.id, sample.picture, sample.target) == ("7", "p", "12")
    assert sample.groups == more["groups"]
    assert np.array_equal(np.asarray(sample.boxes), [[1, 2.5, 3, 4]])
    assert set(KEYS) >= {*SMALL, *more, "box"}


def test_boxes_several_none_and_unknown(tmp_path: Path) -> None:
    two = one(tmp_path, boxes=[[0, 0, 1, 1], [2, 2, 9, 9]]).boxes
    assert two is not None
    assert two.tolist() == [[0, 0, 1, 1], [2, 2, 9, 9]]
    nothing = one(tmp_path, boxes=[]).boxes
    assert nothing is not None
    assert nothing.shape == (0, 4)
    assert one(tmp_path, boxes=None, box=None).boxes is None


def test_xywh_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    record = {**SMALL, "box": [10, 20, 30, 5]}
    (found,) = read(tmp_path, record, boxes="xywh")
    assert found.boxes.tolist() == [[10, 20, 40, 25]]
    (found,) = read(tmp_path, record)
    assert isinstance(found, Fault)
    assert "empty as xyxy; was it written as xywh?" in found.error


def test_paths_are_relative_to_the_file_and_one_picture_has_one_name(tmp_path: Path) -> None:
    near, dotted, far = read(
        tmp_path,
        {**SMALL, "image": "pics/a.png"},
        {**SMALL, "image": "./pics/../pics/a.png"},
        {**SMALL, "image": "/elsewhere/a.png"},
    )
    assert near.image == str(tmp_path / "pics" / "a.png")
    assert near.picture == dotted.picture != far.picture
    assert far.image == "/elsewhere/a.png"


def test_byte_order_mark_blank_lines_and_dos_ends(tmp_path: Path) -> None:
    line = json.dumps(SMALL).encode()
    file = tmp_path / "dos.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n   \r\n" + line + b"\r\n")
    assert [record.id for record in jsonl(file)] == ["1", "4"]


def test_text_stays_as_it_stands(tmp_path: Path) -> None:
    assert (
        one(tmp_path, text="  l'\u00e9l\u00e9phant \u8c61 ").text
        == "  l'\u00e9l\u00e9phant \u8c61 "
    )


@pytest.mark.parametrize("compressed", [True, False])
def test_run_length_masks(tmp_path: Path, compressed: bool) -> None:
    mask = np.zeros((6, 9), np.uint8)
    mask[1:4, 2:8] = 1
    rle = coco.encode(np.asfortranarray(mask))
    counts: Any = rle["counts"].decode()
    if not compressed:
        flat, counts, last = mask.ravel(order="F").tolist(), [0], 0
        for value in flat:
            if value != last:
                counts.append(0)
                last = value
            counts[-1] += 1
    sample = one(tmp_path, mask={"size": [6, 9], "counts": counts})
    assert np.array_equal(drawn(sample), mask)


def test_polygons_that_overlap_are_one_mask(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    squares = [[2, 2, 8, 2, 8, 8, 2, 8], [5, 2, 12, 2, 12, 8, 5, 8]]
    found = drawn(one(tmp_path, mask=squares))
    expected = np.zeros((10, 20), dtype=bool)
    expected[2:8, 2:12] = True
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_a_mask_may_be_a_picture(tmp_path: Path, mode: str) -> None:
    values = np.zeros((5, 7), np.uint16 if mode == "I;16" else np.uint8)
    values[1:3, 2:6] = 1
    picture = Image.fromarray(values * (255 if mode == "1" else 1))
    if mode in ("1", "P"):
        picture = picture.convert(mode)
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks" / "m.png")
    assert np.array_equal(drawn(one(tmp_path, mask="masks/m.png")), values > 0)


def test_a_mask_picture_that_cannot_be_one(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "rgb.png")
    Image.new("L", (5, 5)).save(tmp_path / "lossy.jpg")
    for name, words in (("rgb.png", "3 channels"), ("lossy.jpg", "not a picture of PNG")):
        with pytest.raises(InputError, match=words):
            drawn(one(tmp_path, mask=name))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a record"),
        ("null", "not a record"),
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
        ({**SMALL, "groups": {"a": 1}}, "groups"),
        ({**SMALL, "box": [1, 2, 3, 4], "boxes": []}, "both box and boxes"),
        ({**SMALL, "box": [1, 2, 3]}, "four numbers"),
        ({**SMALL, "box": []}, "four numbers"),
        ({**SMALL, "box": {"xmin": 1}}, "not a list of numbers"),
        ({**SMALL, "box": "1,2,3,4"}, "not a list of numbers"),
        ({**SMALL, "box": [1, 2, 3, "4"]}, "not a number"),
        ({**SMALL, "box": [1, 2, 3, True]}, "not a number"),
        ({**SMALL, "box": [[1, 2, 3, 4]]}, "not a number"),
        ({**SMALL, "box": [5, 2, 3, 4]}, "empty as xyxy"),
        ({**SMALL, "box": [1, 4, 3, 4]}, "empty as xyxy"),
        ('{"image": "a", "text": "b", "box": [0, 0, NaN, 1]}', "not finite"),
        ('{"image": "a", "text": "b", "box": [0, 0, 1e999, 1]}', "not finite"),
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
        ({**SMALL, "mask": [[1, 2, 3, 4, 5, "6"]]}, "not a number"),
    ],
)
def test_a_broken_line_is_told_by_its_number(
    tmp_path: Path, line: dict[str, Any] | str | bytes, words: str
) -> None:
    before, fault, after = read(tmp_path, SMALL, line, SMALL)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(fault, Fault)
    assert fault.id == "line 2"
    assert fault.error.startswith("line 2: ")
    assert words in fault.error
    assert "\n" not in fault.error
    assert len(fault.error) < 300


def test_ids_are_used_once_and_sentences_are_not_empty(tmp_path: Path) -> None:
    first, second, third, blank = read(
        tmp_path, {**SMALL, "id": "3"}, {**SMALL, "id": 3}, SMALL, {**SMALL, "text": "  "}
    )
    assert isinstance(first, Sample)
    assert isinstance(second, Fault)
    assert isinstance(third, Fault), "the third line's own number was taken by the first"
    assert isinstance(blank, Fault)
    assert "no expression" in blank.error


def test_unknown_keys_are_mentioned_once(tmp_path: Path) -> None:
    lines = [{**SMALL, "bbox": [1], "x": 1}, {**SMALL, "bbox": [1]}, "{", "[1]"]
    data = jsonl(write(tmp_path, *lines))
    first, second = data.statements
    assert "line 1 has a key 'bbox'" in first
    assert "did you mean box" in first
    assert "'x'" in second
    assert jsonl(write(tmp_path, SMALL)).statements == ()


def test_a_set_is_known_by_what_it_holds(tmp_path: Path) -> None:
    def revision(*records: Any, **options: str) -> str:
        return jsonl(write(tmp_path, *records), **options).revision

    first = revision(SMALL)
    assert revision(SMALL) == first
    assert revision({**SMALL, "id": "x"}) != first
    assert revision(SMALL, boxes="xywh") != first


def test_names_can_be_written_again(tmp_path: Path) -> None:
    file = write(tmp_path, SMALL)
    assert jsonl(file).name == f"jsonl:{file}"
    assert jsonl(file, boxes="xywh").name == f"jsonl:{file}?boxes=xywh"


def test_records_come_lazily_and_again(tmp_path: Path) -> None:
    data: DataSet = jsonl(write(tmp_path, SMALL, SMALL))
    reading = iter(data)
    assert next(reading).id == "1"
    assert [record.id for record in data] == ["1", "2"]
    assert next(reading).id == "2"


def test_what_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\xef\xbb\xbf\n \n")
    wide = tmp_path / "wide.jsonl"
    wide.write_text(json.dumps(SMALL), encoding="utf-16")
    for path, options, words in (
        (None, {}, "jsonl needs a file: write jsonl:"),
        (tmp_path / "x.jsonl", {}, "no such file"),
        (tmp_path, {}, "is a folder"),
        (empty, {}, "is empty; write lines"),
        (wide, {}, "save it as UTF-8"),
        (empty, {"boxes": "cxcywh"}, "did you mean xywh"),
    ):
        with pytest.raises(InputError, match=words) as raised:
            jsonl(path, **options)
        assert "\n" not in str(raised.value)
