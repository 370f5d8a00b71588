import io
import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from dataset_files import pixels
from PIL import Image

from vg_engine.core.contract.results import Grounding, Instance
from vg_engine.core.errors import InputError, OutputError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.plugins.exporters.masks import from_rle, to_png, to_rle
from vg_engine.plugins.exporters.records import to_detections, to_line, to_record
from vg_engine.plugins.files import JsonLines, prepare_folder, write_whole

MASK = pixels((3, 2, 7, 4), size=(8, 6))


def grounding(score=0.5, **changes):
    fields = {
        "expression": "the cup",
        "size": (8, 6),
        "instances": (Instance((2.6, 2.0, 7.00049, 4.0), score, (4.5, 3.25), MASK),),
        "soft_map": SoftMap(np.ones((3, 4), np.float32), Affine((2.0, 2.0), (0.0, 0.0))),
        "presence": score,
        "heads": (Head(1, 2), Head(3, 4)),
        "notes": ("a note",),
        "timings": {"read": 0.25},
        "provenance": {"model": PurePosixPath("a/b"), "k": np.int64(3), "x": (1, float("nan"))},
    }
    return Grounding(**{**fields, **changes})


def test_a_record_is_json():
    record = to_record(grounding(), id=7, image=Path("cup.png"))
    again = json.loads(to_line(record))
    assert again == record
    assert list(again)[:3] == ["id", "image", "expression"]
    assert again["box"] == [2.6, 2.0, 7.0, 4.0] == again["boxes"][0]
    assert again["heads"] == ["L1H2", "L3H4"]
    assert again["provenance"] == {"model": "a/b", "k": 3, "x": [1, None]}
    assert again["image"] == "cup.png"
    assert np.array_equal(from_rle(again["masks"][0]), MASK)


def test_detections_hold_the_box_in_whole_pixels_best_first_and_none_is_said():
    nothing = grounding(threshold=0.9)
    record = to_record(nothing)
    assert (record["found"], record["box"], record["boxes"]) == (False, None, [])
    assert to_detections([nothing]) == []
    answers = to_detections([grounding(score=0.2), grounding(expression="b", score=0.9)])
    assert [answer["label"] for answer in answers] == ["b", "the cup"]
    assert answers[0]["box"] == {"xmin": 2, "ymin": 2, "xmax": 8, "ymax": 4}


def test_run_lengths_are_those_of_coco_and_pictures_black_and_white():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is in the extra dev")
    generator = np.random.default_rng(0)
    sparse = [(1, 1, 0.5), (1, 1, 0), (7, 5, 0.5), (40, 300, 0.99), (640, 480, 0.9), (9, 1, 0.3)]
    masks = [generator.random((height, width)) > share for height, width, share in sparse]
    blob = np.zeros((700, 900), bool)
    blob[100:600, 50:800] = True
    for mask in [*masks, np.zeros((30, 20), bool), np.ones((30, 20), bool), blob]:
        rle = to_rle(mask)
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle["counts"] == theirs["counts"].decode()
        assert np.array_equal(from_rle(rle), mask)
    with Image.open(io.BytesIO(to_png(MASK))) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.where(MASK, 255, 0))


def test_files_appear_whole_and_what_was_written_stays_when_the_work_is_stopped(tmp_path):
    assert write_whole(tmp_path / "a.png", b"1").read_bytes() == b"1"
    with JsonLines(tmp_path / "r.jsonl") as lines:
        lines.write({"a": 1})
        lines.write({"ä": 2})
        assert not (tmp_path / "r.jsonl").exists()
    assert (tmp_path / "r.jsonl").read_text(encoding="utf-8") == '{"a": 1}\n{"ä": 2}\n'

    def stopped():
        with JsonLines(tmp_path / "stopped.jsonl") as lines:
            lines.write({"a": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "stopped.jsonl").read_text() == '{"a": 1}\n'
    with pytest.raises(ValueError, match="early"), JsonLines(tmp_path / "no.jsonl"):
        raise ValueError("early")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.png", "r.jsonl", "stopped.jsonl"]


def test_what_cannot_be_written_is_said(tmp_path):
    file = write_whole(tmp_path / "file", b"x")
    refused = pytest.raises(OutputError, match="cannot be written")
    with pytest.raises(OutputError, match=r"cannot be written .*--out"):
        prepare_folder(file / "below")
    with refused:
        write_whole(tmp_path / "none" / "a.png", b"1")
    with refused, JsonLines(tmp_path / "none" / "r.jsonl") as lines:
        lines.write({})
    assert prepare_folder(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("size", [None, [2.0, 2.0], ["2", "2"], [2]])
def test_run_lengths_without_a_size_are_told(size):
    with pytest.raises(InputError, match=r"COCO's size is \[height, width\]"):
        from_rle({"size": size, "counts": "13"})
