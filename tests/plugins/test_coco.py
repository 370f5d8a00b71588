"""Detection sets in COCO's format, as annotations and as categories of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.coco import coco

WIDTH, HEIGHT = 40, 30


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    """The square of 5 pixels whose left top corner is (number, number), in picture 1."""
    far = number + 5
    return {
        "id": number,
        "image_id": 1,
        "category_id": 0,
        "bbox": [number, number, 5, 5],
        "segmentation": [[number, number, far, number, far, far, number, far]],
        "area": 25,
        "iscrowd": 0,
        **changes,
    }


def square(number: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for row in range(number, number + 5):
        for column in range(number, number + 5):
            mask[row, column] = True
    return mask


def write(folder: Path, *annotations: dict[str, Any]) -> Path:
    (folder / "pics").mkdir(exist_ok=True)
    images = []
    for number in (1, 2):
        name = f"pics/{number:012d}.jpg"
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
    held = {
        "info": {"year": 2017},
        "licenses": [{"id": 1}],
        "images": images,
        "annotations": list(annotations),
        "categories": [
            {"id": 0, "name": "zebra", "supercategory": "animal"},
            {"id": 90, "name": "fire hydrant", "supercategory": "outdoor"},
        ],
    }
    file = folder / "instances.json"
    file.write_text(json.dumps(held))
    return file


def read(folder: Path, *annotations: dict[str, Any], **options: str) -> list[Any]:
    return list(coco(write(folder, *annotations), **options))


def drawn(sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    return sample.mask().mask


def test_every_annotation_is_a_sample(tmp_path: Path) -> None:
    first, second = read(tmp_path, annotation(3), annotation(9, category_id=90, image_id=2))
    assert (first.id, first.text, first.groups) == ("3", "zebra", {"category": "zebra"})
    assert first.picture == "1"
    assert first.image == str(tmp_path / "pics" / "000000000001.jpg")
    assert first.boxes.tolist() == [[3, 3, 8, 8]]
    assert (second.text, second.picture) == ("fire hydrant", "2")
    assert not first.same_target(second)


def test_a_category_of_a_picture_means_all_its_boxes(tmp_path: Path) -> None:
    given = [
        annotation(3),
        annotation(20, category_id=90),
        annotation(5),
        annotation(7, image_id=2),
    ]
    both, hydrant, elsewhere = read(tmp_path, *given, each="category")
    assert [one.id for one in (both, hydrant, elsewhere)] == ["1-0", "1-90", "2-0"]
    assert both.boxes.tolist() == [[3, 3, 8, 8], [5, 5, 10, 10]]
    assert hydrant.boxes.tolist() == [[20, 20, 25, 25]]
    assert elsewhere.picture != both.picture == hydrant.picture


def test_masks_of_overlapping_things_are_one(tmp_path: Path) -> None:
    runs = {
        "size": [HEIGHT, WIDTH],
        "counts": [9 * HEIGHT + 9, 2, HEIGHT * WIDTH - 9 * HEIGHT - 11],
    }
    (both,) = read(
        tmp_path, annotation(3), annotation(5), annotation(9, segmentation=runs), each="category"
    )
    expected = square(3) | square(5)
    expected[9:11, 9] = True
    assert np.array_equal(drawn(both), expected)
    assert np.array_equal(drawn(both), expected), "drawing twice changes nothing"


def test_without_every_outline_there_is_no_mask(tmp_path: Path) -> None:
    for missing in ({"segmentation": []}, {"segmentation": None}):
        given = [annotation(3), annotation(5, **missing)]
        (both,) = read(tmp_path, *given, each="category")
        assert both.mask is None
        whole, bare = read(tmp_path, *given)
        assert whole.mask is not None
        assert bare.mask is None


def test_crowds_are_left_out_and_counted(tmp_path: Path) -> None:
    file = write(tmp_path, annotation(3), annotation(5, iscrowd=1), annotation(7, iscrowd=1))
    for each in ("annotation", "category"):
        data = coco(file, each=each)
        (only,) = data
        assert isinstance(only, Sample)
        assert np.array_equal(np.asarray(only.boxes), [[3, 3, 8, 8]])
        assert "2 annotations of crowds (iscrowd) are left out" in data.statements


@pytest.mark.parametrize(
    ("text", "said"),
    [("category", "fire hydrant"), ("the {category}", "the fire hydrant"), ("{category}s", None)],
)
def test_words_around_the_category(tmp_path: Path, text: str, said: str | None) -> None:
    (one,) = read(tmp_path, annotation(3, category_id=90), text=text)
    assert one.text == (said or "fire hydrants")


def test_sentences_of_the_annotations(tmp_path: Path) -> None:
    given = [
        annotation(1, caption="the left one"),
        annotation(2, caption=None),
        annotation(3),
        annotation(4, caption="  "),
        annotation(5, caption="a", category_id=77),
    ]
    first, second, third, fourth, fifth = read(tmp_path, *given, text="caption")
    assert first.text == "the left one"
    for fault in (second, third, fourth):
        assert isinstance(fault, Fault)
    assert second.error == "it has no caption; ask text=category"
    assert isinstance(fifth, Sample)
    assert fifth.groups == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 9}, "picture 9 is not in the file"),
        ({"category_id": 9}, "category 9 is not in the file"),
        ({"category_id": None}, "category None"),
        ({"bbox": [1, 2, 0, 4]}, "is empty as xywh"),
        ({"bbox": [1, 2, 3]}, "four numbers"),
        ({"bbox": None}, "not a list of numbers"),
        ({"bbox": [38, 3, 9, 9]}, "lies outside its picture of 40 x 30"),
    ],
)
def test_one_broken_annotation_does_not_stop_the_others(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    given = [annotation(3), annotation(5, **changes), annotation(7, category_id=90)]
    before, fault, after = read(tmp_path, *given)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(fault, Fault)
    assert fault.id == "annotation 5"
    assert words in fault.error


def test_boxes_that_stick_out_by_rounding_are_cut(tmp_path: Path) -> None:
    (one,) = read(tmp_path, annotation(3, bbox=[-0.4, 3, 40.9, 27.5]))
    assert one.boxes.tolist() == [[0, 3, 40, 30]]


def test_a_broken_box_spoils_its_category_alone(tmp_path: Path) -> None:
    given = [annotation(3), annotation(5, bbox=[]), annotation(7, category_id=90)]
    fault, sample = read(tmp_path, *given, each="category")
    assert isinstance(fault, Fault)
    assert fault.id == "category 0 of picture 1"
    assert isinstance(sample, Sample)


def test_pictures_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    file = write(tmp_path, annotation(3))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(InputError, match=r"holds no pics/000000000001.jpg.*images="):
        coco(file, images=str(elsewhere))
    (tmp_path / "pics").rename(elsewhere / "pics")
    (one,) = coco(file, images=str(elsewhere))
    assert isinstance(one, Sample)
    assert one.image == str(elsewhere / "pics" / "000000000001.jpg")


def test_what_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, annotation(3))
    broken = tmp_path / "broken.json"
    broken.write_text(file.read_text()[:-40])
    for path, options, words in (
        (None, {}, "coco needs a file"),
        (tmp_path / "x.json", {}, "no such file"),
        (broken, {}, "not JSON"),
        (file, {"images": str(tmp_path / "x")}, "no such folder"),
        (file, {"each": "image"}, "known: annotation, category"),
        (file, {"text": "name"}, "phrase that holds"),
        (file, {"text": "{category} {category}"}, "once"),
        (file, {"text": "caption", "each": "category"}, "ask each=annotation"),
    ):
        with pytest.raises(InputError, match=words) as raised:
            coco(path, **options)
        assert "\n" not in str(raised.value)


def test_a_set_is_known_by_what_it_holds(tmp_path: Path) -> None:
    file = write(tmp_path, annotation(3, text="a & b"))
    data = coco(file, text="the {category}", each="category")
    assert data.name == f"coco:{file}?each=category&text=the {{category}}"
    assert data.revision == coco(file, text="the {category}", each="category").revision
    others = [coco(file), coco(file, each="category"), coco(file, text="text")]
    others.append(coco(write(tmp_path, annotation(4))))
    assert len({data.revision, *(other.revision for other in others)}) == 5
