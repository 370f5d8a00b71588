import json

import pytest
from dataset_files import refusal

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets.coco_file import CocoFile, xyxy

PICTURE = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
POLYGONS = [[1, 2, 5.25, 2, 5, 7], [9, 9]]
RUNS = {"size": [30, 40], "counts": [1200]}
ANNOTATION = {"id": 4, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 0}
HELD = {
    "images": [PICTURE],
    "annotations": [
        {**ANNOTATION, "segmentation": POLYGONS},
        {**ANNOTATION, "id": 5, "segmentation": RUNS, "iscrowd": 1},
        {"id": 6, "image_id": 1},
    ],
    "categories": [{"id": 2, "name": "cup", "supercategory": "kitchen"}],
}


@pytest.fixture
def write(tmp_path):
    def written(held):
        file = tmp_path / "instances.json"
        file.write_text(held if isinstance(held, str) else json.dumps(held))
        return file

    return written


def test_a_file_is_held_by_its_ids(write):
    coco = CocoFile.read(write(HELD))
    assert list(coco.images) == [1]
    image = coco.images[1]
    assert (image.id, image.file_name, image.width, image.height) == (1, "a.jpg", 40, 30)
    assert image.size == (40, 30)
    assert dict(coco.categories) == {2: "cup"}
    assert list(coco.annotations) == [4, 5, 6]
    first, crowd, bare = coco.annotations.values()
    assert (first.id, first.image_id, first.category_id, first.iscrowd) == (4, 1, 2, False)
    assert first.bbox == [1, 2, 3, 4]
    assert first.segmentation == POLYGONS
    assert (crowd.segmentation, crowd.iscrowd) == (RUNS, True)
    assert (bare.category_id, bare.bbox, bare.segmentation) == (None, None, None)


def test_what_is_held_may_be_less_and_the_revision_is_of_the_bytes(write):
    file = write(HELD)
    coco = CocoFile.read(file, annotations={5, 77})
    assert (list(coco.annotations), list(coco.images)) == ([5], [1])
    assert CocoFile.read(file, annotations=()).annotations == {}
    assert CocoFile.read(file).revision == coco.revision
    assert CocoFile.read(write(json.dumps(HELD) + " ")).revision != coco.revision
    bare = {key: HELD[key] for key in ("images", "annotations")}
    assert CocoFile.read(write(bare)).categories == {}


@pytest.mark.parametrize(
    "segmentation", [7, "x", [1.0, 2.0], [["a", 1]], [[None]], [[10**400, 1]], [{"x": 1}], {}]
)
def test_what_is_no_outline_is_held_as_it_is(write, segmentation):
    held = {**HELD, "annotations": [{**ANNOTATION, "segmentation": segmentation}]}
    assert CocoFile.read(write(held)).annotations[4].segmentation == segmentation


@pytest.mark.parametrize(
    ("change", "description"),
    [
        ({"images": None}, "no list 'images'"),
        ({"annotations": {}}, "no list 'annotations'"),
        ({"categories": None}, "no list 'categories'"),
        ({"images": [7]}, "no mapping, at 0"),
        ({"annotations": [None]}, "no mapping, at 0"),
        ({"images": [{**PICTURE, "id": "a1"}]}, "'id' of picture 0"),
        ({"images": [{**PICTURE, "id": True}]}, "'id' of picture 0"),
        ({"images": [{**PICTURE, "file_name": ""}]}, "has no 'file_name'"),
        ({"images": [{**PICTURE, "file_name": 7}]}, "has no 'file_name'"),
        ({"images": [{**PICTURE, "width": None}]}, "'width' of the picture of id 1"),
        ({"images": [{**PICTURE, "height": 0}]}, "is 40 x 0 pixels"),
        ({"images": [PICTURE, PICTURE]}, "two pictures have the id 1"),
        ({"annotations": [ANNOTATION, ANNOTATION]}, "two annotations have the id 4"),
        ({"annotations": [{**ANNOTATION, "id": 1.5}]}, "'id' of annotation 0"),
        ({"annotations": [{"id": 4, "image_id": None}]}, "'image_id' of the annotation of id 4"),
        ({"annotations": [{"id": 4}]}, "'image_id' of the annotation of id 4"),
        ({"categories": [{"id": "b", "name": "cup"}]}, "'id' of category 0"),
        (
            {"categories": [{"id": 2, "name": "cup"}, {"id": 2, "name": "mug"}]},
            "two categories have the id 2",
        ),
        ({"categories": [{"id": 2}]}, "has no 'name'"),
    ],
)
def test_a_file_of_another_form_is_refused(write, change, description):
    message = refusal(CocoFile.read, write({**HELD, **change}))
    assert description in message
    assert "instances.json" in message


def test_what_is_no_json_is_refused(write):
    whole, number = json.dumps(HELD), '{"images": ' + "9" * 5_000 + "}"
    for text in ("", "{", whole[:-5], "nul", "[" * 100_000, number):
        assert "instances.json is not JSON" in refusal(CocoFile.read, write(text))
    file = write([HELD])
    assert "instances.json holds no mapping" in refusal(CocoFile.read, file)
    file.write_bytes(b'{"images": "\xff\xfe"}')
    assert "is not JSON" in refusal(CocoFile.read, file)
    file.unlink()
    assert "cannot be read" in refusal(CocoFile.read, file)


def test_a_box_becomes_xyxy():
    assert xyxy([1, 2.5, 3, 4]) == (1.0, 2.5, 4.0, 6.5)
    assert xyxy((0, 0, 1e-3, 7)) == (0.0, 0.0, 1e-3, 7.0)
    for box in (None, [1, 2, 3], [1, 2, 3, 0], [1, 2, -3, 4]):
        with pytest.raises(InputError):
            xyxy(box)
