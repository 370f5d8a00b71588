"""The forms in which the hub holds referring expressions: what each row means."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from dataset_files import HEIGHT, WIDTH, drawn, good, pixels, rectangle, refusal
from hub_rows import LMMS, PICTURE, TEXT, TEXTS, WHOLE, columns, lmms, picture, shade, write
from PIL import Image
from pycocotools import mask as coco

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.parquet import parquet

NAME = "COCO_train2014_000000000005.jpg"
NUMBERS, NUMBERS32 = pa.list_(pa.float64()), pa.list_(pa.float32())
RUNS = pa.struct({"counts": TEXT, "size": pa.list_(pa.int32())})
SENTENCE = pa.struct({"raw": TEXT, "sent": TEXT, "sent_id": WHOLE, "tokens": TEXTS})
REFCOCO = pa.schema(
    [
        *columns(TEXT, "file_name split raw_anns raw_image_info raw_sentences image_path"),
        *columns(TEXT, "global_image_id anns_id"),
        *columns(WHOLE, "ann_id ref_id image_id category_id"),
        *[("sent_ids", pa.list_(WHOLE)), ("sentences", pa.list_(SENTENCE))],
        *[("bbox", NUMBERS), ("captions", TEXTS)],
    ]
)
ANNOTATION = pa.struct(
    [
        *columns(WHOLE, "category_id id image_id iscrowd"),
        *[("area", pa.float64()), ("bbox", NUMBERS), ("segmentation", pa.list_(NUMBERS))],
    ]
)
REFERENCE = pa.struct(
    [
        *columns(WHOLE, "ann_id category_id image_id ref_id"),
        *[("file_name", TEXT), ("split", TEXT)],
        *[("sent_ids", pa.list_(WHOLE)), ("sentences", pa.list_(SENTENCE))],
    ]
)
BENCHMARK = pa.schema(
    {
        "ref_list": pa.list_(pa.struct({"ann_info": ANNOTATION, "ref_info": REFERENCE})),
        "image_info": pa.struct({"file_name": TEXT, "height": WHOLE, "id": WHOLE, "width": WHOLE}),
        "image": PICTURE,
    }
)
THING = pa.struct(
    [
        *columns(WHOLE, "id image_id"),
        *columns(TEXT, "category supercategory label"),
        *[("sentences", TEXTS), ("bbox", NUMBERS32), ("mask", RUNS)],
    ]
)
REFCOCO_M = pa.schema(
    {"image": PICTURE, "image_id": WHOLE, "file_name": TEXT, "samples": pa.list_(THING)}
)


def square(left, top, side):
    return rectangle(left, top, left + side, top + side)


def sentence(number, text):
    return {"raw": f"{text}!", "sent": text, "sent_id": number, "tokens": (text or "").split()}


def refcoco(number=5, **changes):
    annotation = {"bbox": [3, 4, 5, 5], "segmentation": [square(3, 4, 5)], "iscrowd": 0, "id": 70}
    name = f"COCO_train2014_{number:012d}.jpg"
    ids = {"ann_id": 70, "ref_id": 30, "image_id": number, "split": "testA", "category_id": 1}
    return {
        **ids,
        "file_name": name.replace(".jpg", "_7.jpg"),
        "sentences": [sentence(1, "left"), sentence(2, "cup left")],
        "raw_anns": json.dumps(annotation),
        "raw_image_info": json.dumps({"file_name": name, "height": HEIGHT, "width": WIDTH}),
        "image_path": f"coco/train2014/{name}",
        "bbox": [3.0, 4.0, 8.0, 9.0],
        **changes,
    }


def reference(number, annotation=None, **changes):
    place = {"bbox": [3.0, 4.0, 5.0, 5.0], "segmentation": [square(3, 4, 5)], "area": 25.0}
    ann_info = {"id": number, "image_id": 5, "category_id": 1, "iscrowd": 0, **place}
    sentences = [sentence(number, "left"), sentence(number + 50, "cup")]
    names = {"file_name": NAME.replace(".jpg", "_7.jpg"), "split": "val", "sentences": sentences}
    ref_info = {"ann_id": number, "category_id": 1, "image_id": 5, "ref_id": 100 + number, **names}
    return {"ann_info": {**ann_info, **(annotation or {})}, "ref_info": {**ref_info, **changes}}


def benchmark(*references):
    info = {"file_name": NAME, "height": HEIGHT, "id": 5, "width": WIDTH}
    return {"ref_list": list(references), "image_info": info, "image": picture()}


def thing(number, left, **changes):
    encoded = coco.encode(np.asfortranarray(pixels((left, 4, left + 5, 9)).astype(np.uint8)))
    mask = {"counts": encoded["counts"].decode(), "size": [HEIGHT, WIDTH]}
    truth = {"id": number, "image_id": 5, "bbox": [float(left), 4.0, 5.0, 5.0], "mask": mask}
    names = {"category": "cup", "supercategory": "kitchen", "label": "mug"}
    return {**truth, **names, "sentences": ["left", "cup left"], **changes}


def refcoco_m(*things):
    return {"image": picture(), "image_id": 5, "file_name": NAME, "samples": list(things)}


@pytest.fixture
def save(tmp_path):
    """Write a file of one split of these rows."""
    return lambda schema, *rows: write(tmp_path / "val.parquet", schema, *rows)


@pytest.fixture
def pictures(tmp_path):
    """A folder of COCO's pictures without the folders that the rows name."""
    folder = tmp_path / "train2014"
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / NAME)
    return folder


def test_lmms_asks_the_answers(save):
    file = save(LMMS, lmms(5, bbox=[3.5, 4.0, 5.0, 5.25]), lmms(6))
    first, second, third, _ = good(parquet(file))
    assert [first.text, second.text] == ["the left one", "a cup"]
    assert first.boxes.tolist() == [[3.5, 4.0, 8.5, 9.25]]
    assert (first.picture, third.picture) == ("5", "6")
    assert first.same_target(second)
    assert len({first.id, second.id, third.id}) == 3, "question_id is no name: it repeats"
    assert (shade(first), shade(third)) == (5, 6)


def test_lmms_outlines_are_masks_where_they_are_whole(save):
    first_of_two, wide = square(3, 4, 2), {"bbox": [3.0, 4.0, 19.0, 2.0]}
    unknown = [
        lmms(1, segmentation=first_of_two, **wide),
        lmms(2, segmentation=[*first_of_two, *square(20, 4, 2), 1.0], **wide),
        lmms(3, iscrowd=1),
        lmms(4, segmentation=[]),
        lmms(5, segmentation=None),
    ]
    whole, *others = good(parquet(save(LMMS, lmms(0), *unknown)))[::2]
    assert np.array_equal(drawn(whole), pixels((3, 4, 8, 9)))
    assert [one.mask for one in others] == [None] * 5


def test_refcoco_rows_whose_pictures_may_lie_as_the_rows_say(tmp_path, save, pictures):
    data = parquet(save(REFCOCO, refcoco()), images=str(pictures))
    assert data.statements == ()
    first, second = good(data)
    assert (first.id, second.id) == ("30-1", "30-2")
    assert (first.text, second.text) == ("left", "cup left")
    assert first.boxes.tolist() == [[3, 4, 8, 9]]
    assert (first.picture, first.target, first.groups) == ("5", "70", {"split": "testA"})
    assert first.image == str(pictures / NAME)
    assert np.array_equal(drawn(first), pixels((3, 4, 8, 9)))
    (tmp_path / "coco").mkdir()
    pictures.rename(tmp_path / "coco" / "train2014")
    file = save(REFCOCO, refcoco(), refcoco(6, ref_id=31))
    first, _, missing = parquet(file, images=str(tmp_path))
    assert Path(first.image).is_file()
    assert "COCO_train2014_000000000006.jpg is not in" in missing.error


@pytest.mark.parametrize(
    ("bbox", "fits"),
    [
        ([3.0, 4.0, 8.0, 9.0], True),  # xyxy
        ([3.0, 4.0, 5.0, 5.0], True),  # xywh, the annotation's own
        ([3.001, 4.0, 8.001, 9.0], True),
        ([4.0, 3.0, 9.0, 8.0], False),  # yxyx
        ([0.1, 0.2, 0.3, 0.4], False),  # shares of the picture
        ([3.0, 4.0, 8.0], False),
    ],
)
def test_refcoco_boxes_are_held_against_the_annotation(save, pictures, bbox, fits):
    found = list(parquet(save(REFCOCO, refcoco(bbox=bbox)), images=str(pictures)))
    if fits:
        assert [one.boxes.tolist() for one in found] == [[[3, 4, 8, 9]]] * 2
    else:
        assert ["is neither the box of raw_anns" in one.error for one in found] == [True]


def test_refcoco_needs_its_pictures_and_no_other_form_does(tmp_path, save):
    file = save(REFCOCO, refcoco())
    message = refusal(parquet, file)
    assert "holds no pictures" in message
    assert "images=" in message
    assert "no such folder" in refusal(parquet, file, images=str(tmp_path / "nowhere"))
    assert "leave images= out" in refusal(parquet, save(LMMS, lmms()), images=str(tmp_path))


def test_benchmark_rows_are_pictures(tmp_path):
    overlapping = {"segmentation": [square(3, 4, 5), square(5, 4, 5)], "bbox": [3, 4, 7, 5]}
    crowd = {"iscrowd": 1, "segmentation": [[4.0, 2.0, 1194.0]]}
    row = benchmark(reference(1, overlapping), reference(2), reference(3, crowd))
    name = "refcoco_unc_val-00000-of-00001-2c68b2dca7cc4d2b.parquet"
    found = good(parquet(write(tmp_path / name, BENCHMARK, row)))
    assert [one.id for one in found] == ["101-1", "101-51", "102-2", "102-52", "103-3", "103-53"]
    assert {one.picture for one in found} == {"5"}
    assert [one.target for one in found] == ["1", "1", "2", "2", "3", "3"]
    assert found[0].boxes.tolist() == [[3, 4, 10, 9]]
    assert np.array_equal(drawn(found[0]), pixels((3, 4, 10, 9)))
    assert found[4].mask is None
    assert found[0].groups == {"split": "val"}


def test_refcoco_m_has_masks_of_its_own(save):
    found = good(parquet(save(REFCOCO_M, refcoco_m(thing(7, 3), thing(8, 20)))))
    assert [one.id for one in found] == ["7-0", "7-1", "8-0", "8-1"]
    assert found[2].boxes.tolist() == [[20, 4, 25, 9]]
    assert np.array_equal(drawn(found[2]), pixels((20, 4, 25, 9)))
    assert found[0].same_target(found[1])
    assert not found[0].same_target(found[2])
    assert found[0].groups == {"category": "cup"}


FINE = {
    "lmms": (LMMS, lmms()),
    "refcoco": (REFCOCO, refcoco(ref_id=99)),
    "benchmark": (BENCHMARK, benchmark(reference(40))),
    "refcoco-m": (REFCOCO_M, refcoco_m(thing(40, 3))),
}


@pytest.mark.parametrize(
    ("form", "row", "words"),
    [
        ("lmms", lmms(bbox=[3.0, 4.0, 0.0, 5.0]), "empty as xywh"),
        ("lmms", lmms(answer=None), "no list of sentences"),
        ("lmms", lmms(answer=[]), "no list of sentences"),
        ("lmms", lmms(answer=[None]), "no list of sentences"),
        ("refcoco", refcoco(raw_anns="{"), "not of the form refcoco"),
        ("refcoco", refcoco(raw_anns=None), "not of the form refcoco"),
        ("refcoco", refcoco(raw_anns="{}"), "KeyError: 'bbox'"),
        ("refcoco", refcoco(sentences=None), "sentences are not a list"),
        (
            "benchmark",
            benchmark(reference(1, {"id": 2})),
            "annotation has the id 2",
        ),
        ("benchmark", benchmark(reference(1, {"bbox": [38, 4, 9, 9]})), "lies outside"),
        ("benchmark", benchmark(reference(1, sentences=None)), "sentences are not a list"),
        ("refcoco-m", refcoco_m(thing(1, 3, mask=None)), "not of the form refcoco-m"),
        ("refcoco-m", refcoco_m(thing(1, 3, sentences=[])), "no list of sentences"),
    ],
)
def test_a_broken_row_does_not_stop_the_others(save, pictures, form, row, words):
    schema, fine = FINE[form]
    images = {"images": str(pictures)} if form == "refcoco" else {}
    fault, *others = parquet(save(schema, row, fine), **images)
    assert fault.id.startswith("row 0")
    assert fault.error.startswith(f"{fault.id}")
    assert words in fault.error
    assert [type(one) for one in others] == [Sample, Sample]


def test_a_broken_reference_or_sentence_or_one_that_repeats_spares_the_others(save):
    row = benchmark(reference(1, {"bbox": []}), reference(2), reference(3, ann_id=9))
    ids = ["row 0 reference 0", "102-2", "102-52", "row 0 reference 2"]
    assert [one.id for one in parquet(save(BENCHMARK, row))] == ids
    description = [sentence(1, None), sentence(2, ""), {**sentence(3, ""), "raw": ""}]
    first, second, third = parquet(save(BENCHMARK, benchmark(reference(1, sentences=description))))
    assert (first.text, second.text) == ("None!", "!")
    assert isinstance(third, Fault)
    row = benchmark(reference(1))
    found = [type(one) for one in parquet(save(BENCHMARK, row, row))]
    assert found == [Sample, Sample, Fault, Fault]


def test_columns_tell_the_form(tmp_path, save):
    file = save(LMMS, lmms())
    assert parquet(file, form="lmms").revision == parquet(file).revision
    both = pa.schema([*LMMS, REFCOCO_M.field("samples")])
    mixed = write(tmp_path / "mixed.parquet", both, {**lmms(), "samples": []})
    assert len(good(parquet(mixed, form="lmms"))) == 2
    other = write(tmp_path / "other.parquet", pa.schema([("a", WHOLE)]), {"a": 1})
    for path, form, *words in (
        (file, "refcoco-m", "question_id", "no known form", "refcoco-m needs image, samples"),
        (file, "refcocom", "form=refcocom is not known; did you mean"),
        (other, "", "columns a are of no known form", "lmms needs"),
        (mixed, "", "write form=lmms"),
    ):
        message = refusal(parquet, path, **({"form": form} if form else {}))
        assert all(word in message for word in words), message
    for number, (schema, row) in enumerate([FINE["lmms"], FINE["refcoco-m"]]):
        write(tmp_path / "parts" / f"val-0000{number}-of-00002.parquet", schema, row)
    assert "other columns" in refusal(parquet, tmp_path / "parts")
