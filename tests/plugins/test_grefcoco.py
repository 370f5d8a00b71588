import copy
import json
import pickle

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, drawn, pixels, rectangle, refusal, sorted_out

from vg_engine.plugins.datasets.grefcoco import grefcoco

BOXES = {1: (3, 4, 10, 9), 2: (6, 6, 15, 12), 3: (30, 20, 38, 28), 4: (0, 0, 40, 30)}


def annotation(number):
    left, top, right, bottom = BOXES[number]
    bbox = [left, top, right - left, bottom - top]
    held = {"id": number, "image_id": 5, "category_id": 1 if number < 3 else 2, "iscrowd": 0}
    return {**held, "bbox": bbox, "segmentation": [rectangle(*BOXES[number])]}


INSTANCES = {
    "images": [{"id": 5, "file_name": "COCO_a.jpg", "width": WIDTH, "height": HEIGHT}],
    "annotations": [annotation(number) for number in BOXES],
    "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}],
}


def reference(number, ann_id, *texts, **more):
    description = [
        {"sent": text, "sent_id": 10 * number + n, "raw": "R"} for n, text in enumerate(texts)
    ]
    held = {"ref_id": number, "ann_id": ann_id, "category_id": [1], "image_id": 5, "split": "val"}
    return {**held, "sentences": description, "file_name": "COCO_a_1.jpg", **more}


@pytest.fixture
def build(tmp_path):
    def make(*refs, instances=INSTANCES):
        folder = tmp_path / "grefcoco"
        folder.mkdir(exist_ok=True)
        (tmp_path / "images" / "train2014").mkdir(parents=True, exist_ok=True)
        (folder / "grefs(unc).json").write_text(json.dumps(refs))
        (folder / "instances.json").write_text(json.dumps(instances))
        return tmp_path

    return make


def read(root, **options):
    """Samples by their texts, which come once here; faults by their ids."""
    samples, faults = sorted_out(grefcoco(root, **options))
    return {one.text: one for one in samples.values()}, faults


def boxes(sample):
    assert sample.boxes.shape[1] == 4
    return [tuple(box) for box in sample.boxes.tolist()]


def test_several_one_and_none_are_meant(build):
    root = build(
        reference(1, [3, 2, 1], "all things", "everything"),
        reference(2, [2], "the cup"),
        reference(3, [-1], "the giraffe"),
        reference(4, [2, 1], "cups"),
    )
    samples, faults = read(root)
    assert not faults
    ids = [f"grefcoco-unc-{name}" for name in ("1-10", "1-11", "2-20", "3-30", "4-40")]
    assert [sample.id for sample in samples.values()] == ids
    many, everything, cup, none, cups = samples.values()
    assert boxes(many) == [BOXES[number] for number in (1, 2, 3)]
    assert np.array_equal(drawn(many), pixels(BOXES[1], BOXES[2], BOXES[3]))
    assert many.target == everything.target == "1+2+3"
    assert dict(many.groups) == {"split": "val", "category": "several", "target": "many"}
    assert boxes(cup) == [BOXES[2]]
    assert np.array_equal(drawn(cup), pixels(BOXES[2]))
    assert (cup.target, cup.groups["target"], cup.groups["category"]) == ("2", "one", "cup")
    assert boxes(none) == []
    assert np.array_equal(drawn(none), pixels())
    assert (none.target, dict(none.groups)) == ("none", {"split": "val", "target": "none"})
    assert not none.same_target(cup)
    assert cups.groups["category"] == "cup"
    assert cup.open() == root / "images" / "train2014" / "COCO_a.jpg"


def test_how_the_sentences_mix_is_said(build):
    root = build(
        reference(1, [3, 2], "a", "b", "c"),
        reference(2, [2], "d"),
        reference(3, [-1], "e", "f"),
        reference(4, [-1], split="val"),
        reference(5, [-1], "g", split="train"),
    )
    mixture, silent = grefcoco(root).statements
    assert mixture.startswith("6 sentences, of which 2 mean none, 1 mean one, 3 mean many;")
    assert "without a sentence: 1" in silent


@pytest.mark.parametrize(
    ("ann_id", "more", "meant"),
    [
        ([-1], {}, []),
        (-1, {}, []),
        ([-1, -1], {}, []),
        ([], {}, []),
        ([-1], {"no_target": True}, []),
        ([], {"no_target": True}, []),
        ([-1], {"no_target": False}, []),
        (3, {}, [3]),
        ([2, 2], {"no_target": False}, [2]),
    ],
)
def test_one_and_nothing_are_written_in_several_ways(build, ann_id, more, meant):
    samples, faults = read(build(reference(1, ann_id, "a", **more)))
    assert not faults
    expected = [BOXES[number] for number in meant]
    assert boxes(samples["a"]) == expected
    assert np.array_equal(drawn(samples["a"]), pixels(*expected))
    assert samples["a"].groups["target"] == ("one" if meant else "none")


@pytest.mark.parametrize(
    ("ann_id", "more", "name", "description"),
    [
        ([1, -1], {}, "record-0", "nothing at once"),
        ([1], {"no_target": True}, "record-0", "nothing at once"),
        (["1"], {}, "record-0", "'ann_id' of reference 1"),
        ([1.5], {}, "record-0", "'ann_id' of reference 1"),
        (None, {}, "record-0", "'ann_id' of reference 1"),
        ([1, 77], {}, "1-10", "annotation 77 is not in instances.json"),
        ([-1], {"image_id": 6}, "1-10", "picture 6 is not in instances.json"),
    ],
)
def test_what_cannot_be_used_is_a_fault(build, ann_id, more, name, description):
    root = build(reference(1, ann_id, "a", **more), reference(2, [2], "b"))
    samples, faults = read(root)
    assert list(samples) == ["b"]
    assert list(faults) == [f"grefcoco-unc-{name}"]
    assert description in faults[f"grefcoco-unc-{name}"]


def test_a_crowd_is_left_out_and_an_unknown_outline_makes_the_mask_unknown(build):
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"][3]["iscrowd"] = 1
    instances["annotations"][0]["segmentation"] = []
    meant = [2, 4], [4], [1, 2], [2]
    refs = [reference(number, ann_ids, "abcd"[number]) for number, ann_ids in enumerate(meant)]
    a, b, c, d = read(build(*refs, instances=instances))[0].values()
    assert boxes(a) == [BOXES[2]]
    assert np.array_equal(drawn(a), pixels(BOXES[2]))
    assert boxes(b) == [BOXES[4]]
    assert c.mask is None
    assert d.mask is not None


def test_splits_and_their_lack(build):
    splits = ("train", "val", "testA", "testB")
    root = build(*(reference(n, [1], split, split=split) for n, split in enumerate(splits)))
    for split in splits:
        assert list(read(root, split=split)[0]) == [split]
    assert list(read(root, split="test")[0]) == ["testA", "testB"]
    assert "there is testA, testB, train, val" in refusal(grefcoco, root, split="testC")
    assert "there is grefs(unc).json" in refusal(grefcoco, root, by="umd")


def test_references_that_cannot_be_read_are_refused(build):
    root = build()
    file = root / "grefcoco" / "grefs(unc).json"
    for text in ("", "[", "[{}", "\xff", "{}", "[]", "7", "[" * 100_000):
        file.write_bytes(text.encode("latin-1"))
        assert "grefs(unc).json" in refusal(grefcoco, root)
    file.unlink()
    file = file.with_suffix(".p")  # of plain data a pickle will do
    file.write_bytes(pickle.dumps([reference(1, [2], "pickled")], 2))
    assert boxes(read(root)[0]["pickled"]) == [BOXES[2]]
    file.write_bytes(b"cos\nsystem\n.")
    assert "'os.system'" in refusal(grefcoco, root)


def test_the_revision_is_of_both_files(build):
    one = reference(1, [1], "a")
    first = grefcoco(build(one)).revision
    assert grefcoco(build(one)).revision == first
    assert grefcoco(build(reference(1, [2], "a"))).revision != first
    assert grefcoco(build(one, instances={**INSTANCES, "info": 1})).revision != first
