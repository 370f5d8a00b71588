"""The forms in which the hub holds referring expressions: what each row means."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco  # type: ignore[import-untyped]

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets.parquet import parquet

WIDTH, HEIGHT = 40, 30

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, WHOLE, NUMBERS = pa.string(), pa.int64(), pa.list_(pa.float64())
SENTENCE = pa.struct({"raw": TEXT, "sent": TEXT, "sent_id": WHOLE, "tokens": pa.list_(TEXT)})
LMMS = pa.schema(
    [
        ("question_id", pa.string()),
        ("image", PICTURE),
        ("question", pa.string()),
        ("answer", pa.list_(pa.string())),
        ("segmentation", pa.list_(pa.float32())),
        ("bbox", pa.list_(pa.float32())),
        ("iscrowd", pa.int8()),
        ("file_name", pa.string()),
    ]
)
REFCOCO = pa.schema(
    [
        ("sent_ids", pa.list_(pa.int64())),
        ("file_name", pa.string()),
        ("ann_id", pa.int64()),
        ("ref_id", pa.int64()),
        ("image_id", pa.int64()),
        ("split", pa.string()),
        ("sentences", pa.list_(SENTENCE)),
        ("category_id", pa.int64()),
        ("raw_anns", pa.string()),
        ("raw_image_info", pa.string()),
        ("raw_sentences", pa.string()),
        ("image_path", pa.string()),
        ("bbox", pa.list_(pa.float64())),
        ("captions", pa.list_(pa.string())),
        ("global_image_id", pa.string()),
        ("anns_id", pa.string()),
    ]
)
ANNOTATION = pa.struct(
    {
        "area": pa.float64(),
        "bbox": NUMBERS,
        "category_id": WHOLE,
        "id": WHOLE,
        "image_id": WHOLE,
        "iscrowd": WHOLE,
        "segmentation": pa.list_(NUMBERS),
    }
)
REFERENCE = pa.struct(
    {
        "ann_id": WHOLE,
        "category_id": WHOLE,
        "file_name": TEXT,
        "image_id": WHOLE,
        "ref_id": WHOLE,
        "sent_ids": pa.list_(WHOLE),
        "sentences": pa.list_(SENTENCE),
        "split": TEXT,
    }
)
BENCHMARK = pa.schema(
    {
        "ref_list": pa.list_(pa.struct({"ann_info": ANNOTATION, "ref_info": REFERENCE})),
        "image_info": pa.struct({"file_name": TEXT, "height": WHOLE, "id": WHOLE, "width": WHOLE}),
        "image": PICTURE,
    }
)
REFCOCO_M = pa.schema(
    [
        ("image", PICTURE),
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        (
            "samples",
            pa.list_(
                pa.struct(
                    [
                        ("id", pa.int64()),
                        ("image_id", pa.int64()),
                        ("category", pa.string()),
                        ("supercategory", pa.string()),
                        ("label", pa.string()),
                        ("sentences", pa.list_(pa.string())),
                        ("bbox", pa.list_(pa.float32())),
                        (
                            "mask",
                            pa.struct([("counts", pa.string()), ("size", pa.list_(pa.int32()))]),
                        ),
                    ]
                )
            ),
        ),
    ]
)


def picture(shade: int = 0) -> dict[str, Any]:
    """A picture as the hub stores it; its shade tells which."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, shade)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def shade(sample: Sample) -> int:
    data = sample.open()
    assert isinstance(data, bytes)
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0])


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def pixels(left: int, top: int, side: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for row in range(top, top + side):
        for column in range(left, left + side):
            mask[row, column] = True
    return mask


def sentence(number: int, text: str | None) -> dict[str, Any]:
    return {"raw": f"{text}!", "sent": text, "sent_id": number, "tokens": (text or "").split()}


def lmms(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "question_id": "1",
        "image": picture(number % 256),
        "question": "Please say what the box holds.",
        "answer": ["the left one", "a cup"],
        "segmentation": square(3, 4, 5),
        "bbox": [3.0, 4.0, 5.0, 5.0],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_{number:012d}_7.jpg",
        **changes,
    }


def refcoco(number: int = 5, **changes: Any) -> dict[str, Any]:
    annotation = {"bbox": [3, 4, 5, 5], "segmentation": [square(3, 4, 5)], "iscrowd": 0, "id": 70}
    name = f"COCO_train2014_{number:012d}.jpg"
    return {
        "sent_ids": [1, 2],
        "file_name": name.replace(".jpg", "_7.jpg"),
        "ann_id": 70,
        "ref_id": 30,
        "image_id": number,
        "split": "testA",
        "sentences": [sentence(1, "left"), sentence(2, "cup left")],
        "category_id": 1,
        "raw_anns": json.dumps(annotation),
        "raw_image_info": json.dumps({"file_name": name, "height": HEIGHT, "width": WIDTH}),
        "raw_sentences": "[]",
        "image_path": f"coco/train2014/{name}",
        "bbox": [3.0, 4.0, 8.0, 9.0],
        "captions": ["a room"],
        "global_image_id": f"coco.{number}",
        "anns_id": "70",
        **changes,
    }


def reference(number: int, annotation: dict[str, Any], **changes: Any) -> dict[str, Any]:
    ann_info = {
        "area": 25.0,
        "bbox": [3.0, 4.0, 5.0, 5.0],
        "category_id": 1,
        "id": number,
        "image_id": 5,
        "iscrowd": 0,
        "segmentation": [square(3, 4, 5)],
        **annotation,
    }
    ref_info = {
        "ann_id": number,
        "category_id": 1,
        "file_name": "COCO_train2014_000000000005_7.jpg",
        "image_id": 5,
        "ref_id": 100 + number,
        "sent_ids": [number],
        "sentences": [sentence(number, "left"), sentence(number + 50, "cup")],
        "split": "val",
        **changes,
    }
    return {"ann_info": ann_info, "ref_info": ref_info}


def benchmark(*references: dict[str, Any]) -> dict[str, Any]:
    info = {"file_name": "COCO_train2014_000000000005.jpg", "height": HEIGHT, "id": 5}
    return {
        "ref_list": list(references),
        "image_info": {**info, "width": WIDTH},
        "image": picture(),
    }


def thing(number: int, left: int, **changes: Any) -> dict[str, Any]:
    runs = coco.encode(np.asfortranarray(pixels(left, 4, 5).astype(np.uint8)))
    return {
        "id": number,
        "image_id": 5,
        "category": "cup",
        "supercategory": "kitchen",
        "label": "cup",
        "sentences": ["left", "cup left"],
        "bbox": [float(left), 4.0, 5.0, 5.0],
        "mask": {"counts": runs["counts"].decode(), "size": [HEIGHT, WIDTH]},
        **changes,
    }


def refcoco_m(*things: dict[str, Any]) -> dict[str, Any]:
    name = "COCO_train2014_000000000005.jpg"
    return {"image": picture(), "image_id": 5, "file_name": name, "samples": list(things)}


def write(file: Path, schema: pa.Schema, *rows: dict[str, Any], group: int = 100) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, row_group_size=group)
    return file


def good(data: DataSet) -> list[Sample]:
    found = list(data)
    faults = [one for one in found if isinstance(one, Fault)]
    assert not faults, faults
    return [one for one in found if isinstance(one, Sample)]


def drawn(sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    return sample.mask().mask


def boxes(sample: Sample) -> list[Any]:
    assert sample.boxes is not None
    return sample.boxes.tolist()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of COCO's pictures without the folders that the rows name."""
    folder = tmp_path / "train2014"
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "COCO_train2014_000000000005.jpg")
    return folder


def test_lmms_asks_the_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms(5, bbox=[3.5, 4.0, 5.0, 5.25]), lmms(6))
    first, second, third, _ = good(parquet(file))
    assert [first.text, second.text] == ["the left one", "a cup"]
    assert boxes(first) == [[3.5, 4.0, 8.5, 9.25]]
    assert (first.picture, third.picture) == ("5", "6")
    assert first.same_target(second)
    assert len({first.id, second.id, third.id}) == 3, "question_id is no name: it repeats"
    assert (shade(first), shade(third)) == (5, 6)


def test_lmms_outlines_are_masks_where_they_are_whole(tmp_path: Path) -> None:
    parts = [*square(3, 4, 2), *square(20, 4, 2)]
    first_of_two = lmms(1, segmentation=square(3, 4, 2), bbox=[3.0, 4.0, 19.0, 2.0])
    both = lmms(2, segmentation=[*parts, 1.0], bbox=[3.0, 4.0, 19.0, 2.0])
    file = write(
        tmp_path / "val.parquet",
        LMMS,
        lmms(0),
        first_of_two,
        both,
        lmms(3, iscrowd=1),
        lmms(4, segmentation=[]),
        lmms(5, segmentation=None),
    )
    whole, *others = good(parquet(file))[::2]
    assert np.array_equal(drawn(whole), pixels(3, 4, 5))
    assert [one.mask for one in others] == [None] * 5


def test_refcoco_rows(tmp_path: Path, pictures: Path) -> None:
    file = write(tmp_path / "test.parquet", REFCOCO, refcoco())
    first, second = good(parquet(file, images=str(pictures)))
    assert (first.id, second.id) == ("30-1", "30-2")
    assert (first.text, second.text) == ("left", "cup left")
    assert boxes(first) == [[3, 4, 8, 9]]
    assert (first.picture, first.target, first.groups) == ("5", "70", {"split": "testA"})
    assert first.image == str(pictures / "COCO_train2014_000000000005.jpg")
    assert np.array_equal(drawn(first), pixels(3, 4, 5))


def test_refcoco_pictures_may_lie_as_the_rows_say(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "coco").mkdir()
    pictures.rename(tmp_path / "coco" / "train2014")
    file = write(tmp_path / "test.parquet", REFCOCO, refcoco(), refcoco(6, ref_id=31))
    first, _, missing = parquet(file, images=str(tmp_path))
    assert isinstance(first, Sample)
    assert Path(str(first.image)).is_file()
    assert isinstance(missing, Fault)
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
def test_refcoco_boxes_are_held_against_the_annotation(
    tmp_path: Path, pictures: Path, bbox: list[float], fits: bool
) -> None:
    file = write(tmp_path / "test.parquet", REFCOCO, refcoco(bbox=bbox))
    found = list(parquet(file, images=str(pictures)))
    if fits:
        assert [boxes(one) for one in found if isinstance(one, Sample)] == [[[3, 4, 8, 9]]] * 2
    else:
        (fault,) = found
        assert isinstance(fault, Fault)
        assert "is neither the box of raw_anns" in fault.error


def test_refcoco_needs_its_pictures_and_no_other_form_does(tmp_path: Path) -> None:
    file = write(tmp_path / "test.parquet", REFCOCO, refcoco())
    with pytest.raises(InputError, match=r"holds no pictures.*images="):
        parquet(file)
    with pytest.raises(InputError, match="no such folder"):
        parquet(file, images=str(tmp_path / "nowhere"))
    inside = write(tmp_path / "val.parquet", LMMS, lmms())
    with pytest.raises(InputError, match="leave images= out"):
        parquet(inside, images=str(tmp_path))


def test_benchmark_rows_are_pictures(tmp_path: Path) -> None:
    overlapping = {"segmentation": [square(3, 4, 5), square(5, 4, 5)], "bbox": [3, 4, 7, 5]}
    crowd = {"iscrowd": 1, "segmentation": [[4.0, 2.0, 1194.0]]}
    row = benchmark(reference(1, overlapping), reference(2, {}), reference(3, crowd))
    file = write(
        tmp_path / "refcoco_unc_val-00000-of-00001-2c68b2dca7cc4d2b.parquet", BENCHMARK, row
    )
    found = good(parquet(file))
    assert [one.id for one in found] == ["101-1", "101-51", "102-2", "102-52", "103-3", "103-53"]
    assert {one.picture for one in found} == {"5"}
    assert [one.target for one in found] == ["1", "1", "2", "2", "3", "3"]
    assert boxes(found[0]) == [[3, 4, 10, 9]]
    assert np.array_equal(drawn(found[0]), pixels(3, 4, 5) | pixels(5, 4, 5))
    assert found[4].mask is None
    assert found[0].groups == {"split": "val"}


def test_refcoco_m_has_masks_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "validation.parquet", REFCOCO_M, refcoco_m(thing(7, 3), thing(8, 20)))
    found = good(parquet(file))
    assert [one.id for one in found] == ["7-0", "7-1", "8-0", "8-1"]
    assert boxes(found[2]) == [[20, 4, 25, 9]]
    assert np.array_equal(drawn(found[2]), pixels(20, 4, 5))
    assert found[0].same_target(found[1])
    assert not found[0].same_target(found[2])
    assert found[0].groups == {"category": "cup"}


@pytest.mark.parametrize(
    ("schema", "make", "words"),
    [
        (LMMS, lambda: lmms(bbox=[3.0, 4.0, 0.0, 5.0]), "empty as xywh"),
        (LMMS, lambda: lmms(bbox=[float("nan"), 4.0, 1.0, 5.0]), "not finite"),
        (LMMS, lambda: lmms(bbox=None), "not a list of numbers"),
        (LMMS, lambda: lmms(answer=None), "no list of sentences"),
        (LMMS, lambda: lmms(answer=[]), "no list of sentences"),
        (LMMS, lambda: lmms(answer=[None]), "no list of sentences"),
        (REFCOCO, lambda: refcoco(raw_anns="{"), "not of the form refcoco"),
        (REFCOCO, lambda: refcoco(raw_anns=None), "not of the form refcoco"),
        (REFCOCO, lambda: refcoco(raw_anns="{}"), "KeyError: 'bbox'"),
        (REFCOCO, lambda: refcoco(sentences=None), "sentences are not a list"),
        (BENCHMARK, lambda: benchmark(reference(1, {"id": 2})), "means annotation 1 and brings 2"),
        (BENCHMARK, lambda: benchmark(reference(1, {"bbox": [38, 4, 9, 9]})), "lies outside"),
        (
            BENCHMARK,
            lambda: benchmark(reference(1, {}, sentences=None)),
            "sentences are not a list",
        ),
        (REFCOCO_M, lambda: refcoco_m(thing(1, 3, mask=None)), "not of the form refcoco-m"),
        (REFCOCO_M, lambda: refcoco_m(thing(1, 3, sentences=[])), "no list of sentences"),
    ],
)
def test_a_broken_row_does_not_stop_the_others(
    tmp_path: Path, pictures: Path, schema: pa.Schema, make: Callable[[], Any], words: str
) -> None:
    fine: dict[int, dict[str, Any]] = {
        id(LMMS): lmms(),
        id(REFCOCO): refcoco(ref_id=99),
        id(BENCHMARK): benchmark(reference(40, {})),
        id(REFCOCO_M): refcoco_m(thing(40, 3)),
    }
    file = write(tmp_path / "val.parquet", schema, make(), fine[id(schema)])
    images = {"images": str(pictures)} if schema is REFCOCO else {}
    fault, *others = parquet(file, **images)
    assert isinstance(fault, Fault)
    assert fault.id.startswith("row 0")
    assert fault.error.startswith(f"{fault.id}")
    assert words in fault.error
    assert len(others) == 2
    assert all(isinstance(one, Sample) for one in others)


def test_a_broken_reference_spares_its_picture(tmp_path: Path) -> None:
    row = benchmark(reference(1, {"bbox": []}), reference(2, {}), reference(3, {}, ann_id=9))
    found = list(parquet(write(tmp_path / "val.parquet", BENCHMARK, row)))
    assert [one.id for one in found] == [
        "row 0 reference 0",
        "102-2",
        "102-52",
        "row 0 reference 2",
    ]


def test_sentences_fall_back_to_raw_and_empty_ones_are_faults(tmp_path: Path) -> None:
    said = [sentence(1, None), sentence(2, ""), {**sentence(3, ""), "raw": ""}]
    row = benchmark(reference(1, {}, sentences=said))
    first, second, third = parquet(write(tmp_path / "val.parquet", BENCHMARK, row))
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert (first.text, second.text) == ("None!", "!")
    assert isinstance(third, Fault)


def test_columns_tell_the_form(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms())
    assert parquet(file, form="lmms").revision == parquet(file).revision
    with pytest.raises(
        InputError, match=r"question_id.*no known form.*refcoco-m needs image, samples"
    ):
        parquet(file, form="refcoco-m")
    with pytest.raises(InputError, match="form=refcocom is not known; did you mean"):
        parquet(file, form="refcocom")
    other = write(tmp_path / "other.parquet", pa.schema([("a", pa.int64())]), {"a": 1})
    with pytest.raises(InputError, match=r"columns a are of no known form.*lmms needs"):
        parquet(other)
    both = pa.schema([*LMMS, REFCOCO_M.field("samples")])
    mixed = write(tmp_path / "mixed.parquet", both, {**lmms(), "samples": []})
    with pytest.raises(InputError, match="write form=lmms"):
        parquet(mixed)
    assert len(good(parquet(mixed, form="lmms"))) == 2


def test_files_of_other_columns_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "val-00000-of-00002.parquet", LMMS, lmms())
    write(tmp_path / "val-00001-of-00002.parquet", REFCOCO_M, refcoco_m(thing(1, 3)))
    with pytest.raises(InputError, match="other columns"):
        parquet(tmp_path)


def test_ids_that_repeat_are_faults(tmp_path: Path) -> None:
    row = benchmark(reference(1, {}))
    found = list(parquet(write(tmp_path / "val.parquet", BENCHMARK, row, row)))
    assert [isinstance(one, Fault) for one in found] == [False, False, True, True]
