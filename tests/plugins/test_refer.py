import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, drawn, pixels, rectangle, refusal, sorted_out
from PIL import Image

from vg_engine.plugins.datasets import counts
from vg_engine.plugins.datasets.refer import refcoco, refcocog, refcocoplus

RUNS = {"size": [HEIGHT, WIDTH], "counts": [5 * 30 + 2, 4, 26, 4, 30 * 40 - (5 * 30 + 2) - 34]}
IDS = ["refcoco-unc-1-10", "refcoco-unc-1-11"]


def annotation(number, image, bbox, category=1, segmentation=None):
    left, top, width, height = bbox
    outline = segmentation or [rectangle(left, top, left + width, top + height)]
    held = {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0}
    return {**held, "segmentation": outline, "area": width * height}


def photo(number):
    size = {"width": WIDTH, "height": HEIGHT}
    return {"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "license": 1, **size}


CUPS = [rectangle(3, 4, 10, 9), rectangle(6, 6, 15, 12)]
INSTANCES = {
    "info": {"year": 2014},
    "licenses": [{"id": 1}],
    "images": [photo(581857), photo(9)],
    "annotations": [
        annotation(16, 581857, [3, 4, 7, 5]),
        annotation(17, 581857, [3, 4, 12, 8], category=2, segmentation=CUPS),
        annotation(18, 9, [5, 2, 2, 4], category=3, segmentation=RUNS),
        annotation(19, 9, [0.5, 0.25, 10.5, 20.25]),
        annotation(99, 9, [1, 1, 5, 5]),
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}],
}


def reference(number, ann, image, split, *texts):
    description = [
        {"tokens": text.split(), "raw": text.title(), "sent_id": 10 * number + place, "sent": text}
        for place, text in enumerate(texts)
    ]
    held = {"ref_id": number, "ann_id": ann, "image_id": image, "split": split, "category_id": 1}
    sent_ids = [sentence["sent_id"] for sentence in description]
    name = f"COCO_train2014_{image:012d}_{ann}.jpg"
    return {**held, "file_name": name, "sentences": description, "sent_ids": sent_ids}


REFS = [
    reference(1, 16, 581857, "val", "the man", "left caf\xe9 man"),
    reference(2, 17, 581857, "testA", "two cups"),
    reference(3, 18, 9, "testAB", "small thing"),
    reference(4, 19, 9, "testB", "b"),
    reference(5, 16, 581857, "train", "man"),
]


@pytest.fixture
def build(tmp_path):
    def make(
        refs=REFS,
        instances=INSTANCES,
        *,
        name="refcoco",
        by="unc",
        pictures="refer/images/mscoco/images/train2014",
    ):
        folder = tmp_path / "refer" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, 2))
        (folder / "instances.json").write_text(json.dumps(instances))
        if pictures:
            (tmp_path / pictures).mkdir(parents=True, exist_ok=True)
            for image in INSTANCES["images"]:
                picture = Image.new("RGB", (WIDTH, HEIGHT), "red")
                picture.save(tmp_path / pictures / image["file_name"])
        return folder.parent

    return make


def test_one_sentence_is_one_sample(build):
    root = build()
    data = refcoco(root)
    samples, faults = sorted_out(data)
    assert not faults
    assert list(samples) == IDS
    one, other = samples.values()
    assert (one.text, other.text) == ("the man", "left café man")
    assert one.picture == other.picture == "581857"
    assert one.target == other.target == "16"
    assert dict(one.groups) == {"split": "val", "category": "person"}
    assert one.boxes.tolist() == [[3.0, 4.0, 10.0, 9.0]]
    assert np.array_equal(drawn(one), pixels((3, 4, 10, 9)))
    assert one.mask().ignored is None
    with Image.open(one.open()) as picture:
        assert picture.size == (WIDTH, HEIGHT)
    assert data.name == f"refcoco:{root}?by=unc&split=val"
    assert [record.id for record in data] == list(samples)  # and again, in the same order


@pytest.mark.parametrize(
    ("split", "texts", "together"),
    [
        ("val", [("the man", "val"), ("left café man", "val")], None),
        ("train", [("man", "train")], None),
        ("testA", [("two cups", "testA"), ("small thing", "testAB")], "testA and testAB"),
        ("testB", [("small thing", "testAB"), ("b", "testB")], "testAB and testB"),
        ("testAB", [("small thing", "testAB")], None),
        (
            "test",
            [("two cups", "testA"), ("small thing", "testAB"), ("b", "testB")],
            "testA and testAB and testB",
        ),
    ],
)
def test_a_split_of_several_letters_belongs_to_each(build, split, texts, together):
    data = refcoco(build(), split=split)
    samples, faults = sorted_out(data)
    assert not faults
    assert [(one.text, one.groups["split"]) for one in samples.values()] == texts
    description = [
        line.partition(" together;")[0] for line in data.statements if "together" in line
    ]
    assert description == ([f"split {split} is {together}"] if together else [])


def test_masks_are_unions_and_run_lengths(build):
    cups, small, plain = sorted_out(refcoco(build(), split="test"))[0].values()
    assert np.array_equal(drawn(cups), pixels((3, 4, 10, 9), (6, 6, 15, 12)))
    assert np.array_equal(drawn(small), pixels((5, 2, 7, 6)))
    assert plain.boxes.tolist() == [[0.5, 0.25, 11.0, 20.5]]
    broken = {"size": [HEIGHT, WIDTH], "counts": [1]}
    samples, _ = sorted_out(refcoco(build(instances=changed(segmentation=broken))))
    assert "run lengths" in refusal(samples[IDS[0]].mask)  # drawn only when it is asked for
    # A category that the file does not name keeps its number.
    assert [one.groups["category"] for one in (cups, small, plain)] == ["cup", "3", "person"]


@pytest.mark.parametrize(
    "pictures",
    [
        *("refer/images/train2014", "refer/train2014", "refer/coco/train2014"),
        *("refer/refcoco/images/train2014", "train2014", "coco/images/train2014"),
    ],
)
def test_pictures_are_looked_for(build, tmp_path, pictures):
    (tmp_path / "refer/images/mscoco/images/train2014").mkdir(parents=True)  # left over, empty
    samples, _ = sorted_out(refcoco(build(pictures=pictures)))
    name = "COCO_train2014_000000581857.jpg"
    assert {one.open() for one in samples.values()} == {tmp_path / pictures / name}


def test_the_folder_of_the_pictures_can_be_named(build, tmp_path):
    root = build(pictures="far/away/train2014")
    for images in (tmp_path / "far/away/train2014", tmp_path / "far/away"):
        data = refcoco(root, images=str(images))
        assert all(Path(one.open()).is_file() for one in sorted_out(data)[0].values())
        assert data.name.endswith(f"&images={images}")
    assert "is no folder" in refusal(refcoco, root, images=str(tmp_path / "none"))


def test_no_pictures_at_all_are_missed_at_once_and_one_when_it_is_opened(build, tmp_path):
    root = build(pictures=None)
    message = refusal(refcoco, root)
    for description in (
        str(root),
        str(root / "refcoco"),
        str(tmp_path),
        "images/train2014",
        "images=",
    ):
        assert description in message
    pictures = root / "images/mscoco/images/train2014"
    pictures.mkdir(parents=True)
    samples, faults = sorted_out(refcoco(root))
    assert list(samples) == IDS
    assert not faults
    assert not any(Path(one.open()).exists() for one in samples.values())


def test_each_set_has_its_own_folder_which_can_be_named(build):
    root = build(name="refcoco+")
    assert list(sorted_out(refcocoplus(root))[0]) == ["refcoco+-unc-1-10", "refcoco+-unc-1-11"]
    build(name="refcocog", by="umd")
    data = refcocog(root)
    assert list(sorted_out(data)[0]) == ["refcocog-umd-1-10", "refcocog-umd-1-11"]
    assert data.name == f"refcocog:{root}?by=umd&split=val"
    message = refusal(refcocoplus, root / "refcocog")
    assert "is the folder of refcocog; write refcocog:" in message
    assert list(sorted_out(refcocog(root / "refcocog"))[0]) == list(sorted_out(data)[0])
    (root / "refcocog").rename(root / "mine")
    assert list(sorted_out(refcocog(root / "mine"))[0]) == list(sorted_out(data)[0])


def test_the_split_of_google_is_warned_of(build):
    root = build(name="refcocog", by="google")
    (description,) = [
        line for line in refcocog(root, by="google").statements if "google share" in line
    ]
    assert "no test" in description
    assert "by=umd" in description
    build(by="google")
    (line,) = [line for line in refcoco(root, by="google").statements if "google share" in line]
    assert "no test" not in line


def test_counts_are_held_to_the_published_ones(build, tmp_path, monkeypatch):
    root = build()
    sentences, references = refcoco(root).statements
    assert "2 sentences here but 10,834 as published" in sentences
    assert "1 references here but 3,811 as published" in references
    held = {"refcoco": {"unc": {"splits": {"val": {"sentences": 2, "references": 1}}}}}
    file = tmp_path / "counts.yaml"
    file.write_text(json.dumps(held))
    monkeypatch.setattr(counts, "_FILE", file)
    assert refcoco(root).statements == ()
    assert refcoco(root, split="testA").statements != ()  # two splits, and nothing published


def changed(**more):
    """The instances with another annotation 16."""
    held = copy.deepcopy(INSTANCES)
    held["annotations"][0].update(more)
    return held


def without(what, number):
    return {**INSTANCES, what: [row for row in INSTANCES[what] if row["id"] != number]}


@pytest.mark.parametrize(
    ("instances", "description"),
    [
        (without("annotations", 16), "annotation 16 is not in instances.json"),
        (without("images", 581857), "picture 581857 is not in instances.json"),
        (changed(image_id=9), "annotation 16 is of picture 9"),
        (changed(bbox=[30, 4, 15, 5], segmentation=[]), "outside its picture"),
        (changed(bbox=[3, 4, 10, 9]), "far from its own outline"),  # xyxy
        (changed(bbox=[20, 15, 7, 5]), "far from its own outline"),
        (changed(bbox=[3, 4, 37, 26]), "far from its own outline"),
        (changed(bbox=[3, 4, -7, 5]), "is empty as xywh"),
        (changed(bbox=None), "not a list of numbers"),
    ],
)
def test_a_wrong_truth_makes_a_fault_of_every_sentence(build, instances, description):
    _, faults = sorted_out(refcoco(build(instances=instances)))
    assert list(faults) == IDS
    assert all(description in error for error in faults.values())


@pytest.mark.parametrize(
    ("changes", "box"),
    [
        ({"bbox": [3, 4, 9, 6]}, [3, 4, 12, 10]),  # loose, but about the same place
        # Over the edge by its rounding.
        (
            {"bbox": [30, 20, 10.4, 10.6], "segmentation": [rectangle(30, 20, 40, 30)]},
            [30, 20, 40, 30],
        ),
        ({"segmentation": None}, [3, 4, 10, 9]),
        ({"segmentation": []}, [3, 4, 10, 9]),
    ],
)
def test_a_truth_that_is_not_exact_will_do(build, changes, box):
    samples, _ = sorted_out(refcoco(build(instances=changed(**changes))))
    assert [one.boxes.tolist() for one in samples.values()] == [[box]] * 2
    outlined = bool(changes.get("segmentation", True))
    assert all((one.mask is not None) == outlined for one in samples.values())


def test_sentences_that_cannot_be_used_spare_the_others(build):
    odd = reference(6, 16, 581857, "val", "a", "b", "c")
    odd["sentences"][0].update(sent="  ", raw="The Man!")
    del odd["sentences"][1]["sent"]
    odd["sentences"][2].update(sent="", raw=" ")
    again, silent = reference(1, 17, 581857, "val", "other"), reference(7, 16, 581857, "val")
    data = refcoco(build([*REFS, odd, again, silent, reference(8, -1, 9, "val", "none")]))
    samples, faults = sorted_out(data)
    assert list(samples) == [*IDS, "refcoco-unc-6-60", "refcoco-unc-6-61"]
    assert [one.text for one in samples.values()][2:] == ["The Man!", "B"]
    assert list(faults) == ["refcoco-unc-6-62", IDS[0], "refcoco-unc-8-80"]
    assert "no expression" in faults["refcoco-unc-6-62"]
    assert "annotation -1 is not in" in faults["refcoco-unc-8-80"]  # no target is no answer here
    assert data.statements[0].startswith("references without a sentence: 1;")


@pytest.mark.parametrize(
    ("change", "description"),
    [
        ({"split": None}, "states no split"),
        ({"split": 3}, "states no split"),
        ({"ref_id": None}, "no 'ref_id'"),
        ({"ref_id": [1]}, "no 'ref_id'"),
        ({"image_id": "581857"}, "'image_id' of reference 1"),
        ({"ann_id": [16]}, "'ann_id' of reference 1"),
        ({"ann_id": None}, "'ann_id' of reference 1"),
        ({"sentences": None}, "no list 'sentences'"),
        ({"sentences": ["a"]}, "no 'sent_id'"),
        ({"sentences": [{"sent": "a"}]}, "no 'sent_id'"),
    ],
)
def test_a_reference_that_cannot_be_read_is_a_fault(build, change, description):
    refs = [{**REFS[0], **change}, reference(7, 17, 581857, "val", "x")]
    samples, faults = sorted_out(refcoco(build(refs)))
    assert [one.text for one in samples.values()] == ["x"]
    assert list(faults) == ["refcoco-unc-record-0"]
    assert description in faults["refcoco-unc-record-0"]


def test_no_target_is_no_answer_here(build):
    _, faults = sorted_out(refcoco(build([reference(1, -1, 9, "val", "a")])))
    assert "annotation -1 is not in" in faults["refcoco-unc-1-10"]


def test_what_does_not_exist_is_said_with_what_does(build, tmp_path):
    root = build()
    build(by="google")
    (tmp_path / "bare" / "refcoco").mkdir(parents=True)
    for call, folder, options, *words in (
        (refcoco, root, {"split": "minival"}, "'minival'", "testA, testAB, testB, train, val"),
        (refcoco, root, {"by": "umd"}, "refs(google).p, refs(unc).p"),
        (refcoco, root, {"by": "../refcoco/refs(unc"}, "'../refcoco/refs(unc' "),
        (refcocog, root, {}, "'refcocog'", "'images', 'refcoco'"),
        (refcoco, None, {}, "needs a folder: write refcoco:/data/refer"),
        (refcoco, root / "refcoco" / "refs(unc).p", {}, "is a file"),
        (refcoco, tmp_path / "bare", {}, "it holds nothing"),
    ):
        message = refusal(call, folder, **options)
        assert all(word in message for word in words), message
    instances = root / "refcoco" / "instances.json"
    instances.write_text(json.dumps(INSTANCES)[:-30])
    assert "instances.json is not JSON" in refusal(refcoco, root)
    instances.unlink()
    assert "has no instances.json" in refusal(refcoco, root)


@pytest.mark.parametrize(
    ("data", "description"),
    [
        (pickle.dumps(REFS, 2)[:-1], "complete pickle"),
        (b"", "complete pickle"),
        (b"cos\nsystem\n(S'ls'\ntR.", "'os.system'"),
        (pickle.dumps({"refs": REFS}, 2), "no list of references"),
        (pickle.dumps([], 2), "no list of references"),
        (pickle.dumps("x", 0), "no list of references"),
        (pickle.dumps([1, None, "x"], 2), "no split 'val'"),
    ],
)
def test_references_that_cannot_be_read_are_refused(build, data, description):
    root = build()
    (root / "refcoco" / "refs(unc).p").write_bytes(data)
    message = refusal(refcoco, root)
    assert description in message
    assert "refs(unc).p" in message


def test_files_are_read_once_and_make_the_revision(build):
    root = build()
    data = refcoco(root)
    shutil.rmtree(root / "refcoco")
    assert len(list(data)) == len(list(data)) == 2
    assert refcoco(build(), split="train").revision == data.revision
    assert refcoco(build(REFS[:1])).revision != data.revision
    assert refcoco(build(instances=without("annotations", 99))).revision != data.revision
