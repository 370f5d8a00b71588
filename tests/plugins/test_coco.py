import json

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, drawn, pixels, rectangle, refusal
from PIL import Image

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.coco import coco


def square(number):
    return number, number, number + 5, number + 5


def annotation(number, **changes):
    """The square of 5 pixels whose left top corner is (number, number), in picture 1."""
    place = {"bbox": [number, number, 5, 5], "segmentation": [rectangle(*square(number))]}
    held = {"id": number, "image_id": 1, "category_id": 0, "area": 25, "iscrowd": 0}
    return {**held, **place, **changes}


@pytest.fixture
def write(tmp_path):
    def written(*annotations):
        (tmp_path / "pics").mkdir(exist_ok=True)
        images = []
        for number in (1, 2):
            name = f"pics/{number:012d}.jpg"
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name)
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        zebra = {"id": 0, "name": "zebra", "supercategory": "animal"}
        hydrant = {"id": 90, "name": "fire hydrant", "supercategory": "outdoor"}
        held = {"info": {"year": 2017}, "licenses": [{"id": 1}], "images": images}
        held |= {"annotations": annotations, "categories": [zebra, hydrant]}
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(held))
        return file

    return written


@pytest.fixture
def read(write):
    return lambda *annotations, **options: list(coco(write(*annotations), **options))


def test_every_annotation_is_a_sample(read, tmp_path):
    first, second = read(annotation(3), annotation(9, category_id=90, image_id=2))
    assert (first.id, first.text, first.groups) == ("3", "zebra", {"category": "zebra"})
    assert first.picture == "1"
    assert first.image == str(tmp_path / "pics" / "000000000001.jpg")
    assert first.boxes.tolist() == [[3, 3, 8, 8]]
    assert (second.text, second.picture) == ("fire hydrant", "2")
    assert not first.same_target(second)


def test_a_category_of_a_picture_means_all_its_boxes(read):
    given = annotation(3), annotation(20, category_id=90), annotation(5), annotation(7, image_id=2)
    both, hydrant, elsewhere = read(*given, each="category")
    assert [one.id for one in (both, hydrant, elsewhere)] == ["1-0", "1-90", "2-0"]
    assert both.boxes.tolist() == [[3, 3, 8, 8], [5, 5, 10, 10]]
    assert hydrant.boxes.tolist() == [[20, 20, 25, 25]]
    assert elsewhere.picture != both.picture == hydrant.picture


def test_categories_of_one_name_are_asked_together(write):
    file = write(annotation(3), annotation(9, category_id=90))
    file.write_text(file.read_text().replace("fire hydrant", "zebra"))
    (both,) = coco(file, each="category")
    assert both.boxes.tolist() == [[3, 3, 8, 8], [9, 9, 14, 14]]


def test_numbers_as_other_tools_write_them(read):
    given = annotation(3.0, category_id=0.0, image_id="1", iscrowd="0", caption="it")
    (one,) = read(given, text="caption")
    assert (one.id, one.picture, one.text, one.groups) == ("3", "1", "it", {"category": "zebra"})


def test_masks_of_overlapping_things_are_one(read):
    counts = [9 * HEIGHT + 9, 2, HEIGHT * WIDTH - 9 * HEIGHT - 11]
    runs = {"size": [HEIGHT, WIDTH], "counts": counts}
    given = annotation(3), annotation(5), annotation(9, segmentation=runs)
    (both,) = read(*given, each="category")
    expected = pixels(square(3), square(5), (9, 9, 10, 11))
    assert np.array_equal(drawn(both), expected)
    assert np.array_equal(drawn(both), expected), "drawing twice changes nothing"


@pytest.mark.parametrize("missing", [[], None])
def test_without_every_outline_there_is_no_mask(read, missing):
    given = [annotation(3), annotation(5, segmentation=missing)]
    (both,) = read(*given, each="category")
    assert both.mask is None
    assert [one.mask is None for one in read(*given)] == [False, True]


@pytest.mark.parametrize("each", ["annotation", "category"])
def test_crowds_are_left_out_and_counted(write, each):
    file = write(annotation(3), annotation(5, iscrowd=1), annotation(7, iscrowd=1))
    data = coco(file, each=each)
    (only,) = data
    assert only.boxes.tolist() == [[3, 3, 8, 8]]
    assert "2 annotations of crowds (iscrowd) are left out" in data.statements


def test_words_around_the_category_or_sentences_of_the_annotations(read):
    description = {"category": "fire hydrant", "the {category}": "the fire hydrant"}
    for text, expected in {**description, "{category}s": "fire hydrants"}.items():
        (one,) = read(annotation(3, category_id=90), text=text)
        assert one.text == expected
    first, second, third, fourth, fifth = read(
        annotation(1, caption="the left one"),
        annotation(2, caption=None),
        annotation(3),
        annotation(4, caption="  "),
        annotation(5, caption="a", category_id=77),
        text="caption",
    )
    assert first.text == "the left one"
    assert [type(each) for each in (second, third, fourth, fifth)] == [Fault, Fault, Fault, Sample]
    assert second.error == "it has no caption; ask text=category"
    assert fifth.groups == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 9}, "picture 9 is not in the file"),
        ({"category_id": 9}, "category 9 is not in the file"),
        ({"category_id": None}, "category None"),
        ({"bbox": [1, 2, 3]}, "four numbers"),
        ({"bbox": [38, 3, 9, 9]}, "lies outside its picture of 40 x 30"),
        ({"bbox": [5, 5, 10, 10]}, "far from its own outline; is it x, y, width, height?"),
        ({"bbox": [0.1, 0.1, 0.4, 0.4]}, "lies in one pixel; if it is shares of the sides"),
    ],
)
def test_one_broken_annotation_does_not_stop_the_others(read, changes, words):
    given = [annotation(3), annotation(5, **changes), annotation(7, category_id=90)]
    before, fault, after = read(*given)
    assert [type(each) for each in (before, fault, after)] == [Sample, Fault, Sample]
    assert fault.id == "annotation 5"
    assert words in fault.error


def test_a_broken_box_spoils_its_category_alone_and_rounding_nothing(read):
    (one,) = read(annotation(3, bbox=[-0.4, 3, 40.9, 27.5], segmentation=None))
    assert one.boxes.tolist() == [[0, 3, 40, 30]]
    given = [annotation(3), annotation(5, bbox=[]), annotation(7, category_id=90)]
    fault, sample = read(*given, each="category")
    assert [type(fault), type(sample)] == [Fault, Sample]
    assert fault.id == "category 0 of picture 1"


def test_pictures_lie_in_a_folder_of_their_own(write, tmp_path):
    file = write(annotation(3))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    message = refusal(coco, file, images=str(elsewhere))
    assert "holds no pics/000000000001.jpg" in message
    assert "images=" in message
    (tmp_path / "pics").rename(elsewhere / "pics")
    (one,) = coco(file, images=str(elsewhere))
    assert one.image == str(elsewhere / "pics" / "000000000001.jpg")


def test_what_is_refused(write, tmp_path):
    file = write(annotation(3))
    broken = tmp_path / "broken.json"
    broken.write_text(file.read_text()[:-40])
    for path, options, words in (
        (None, {}, "coco needs a file"),
        (broken, {}, "not JSON"),
        (file, {"images": str(tmp_path / "x")}, "no such folder"),
        (file, {"each": "image"}, "known: annotation, category"),
        (file, {"text": "name"}, "phrase that holds"),
        (file, {"text": "{category} {category}"}, "once"),
        (file, {"text": "caption", "each": "category"}, "ask each=annotation"),
    ):
        assert words in refusal(coco, path, **options)


def test_a_set_is_known_by_what_it_holds(write):
    file = write(annotation(3, text="a & b"))
    data = coco(file, text="the {category}", each="category")
    assert data.name == f"coco:{file}?each=category&text=the {{category}}"
    assert data.revision == coco(file, text="the {category}", each="category").revision
    others = [coco(file), coco(file, each="category"), coco(file, text="text")]
    others.append(coco(write(annotation(4))))
    assert len({data.revision, *(other.revision for other in others)}) == 5


def test_the_size_that_the_file_states_is_the_pictures(read):
    (sample,) = read(annotation(3))
    sample.check_size((WIDTH, HEIGHT))
    with pytest.raises(InputError, match=rf"for a picture of {WIDTH} x {HEIGHT}, but the upright"):
        sample.check_size((HEIGHT, WIDTH))
