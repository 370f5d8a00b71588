import copy
import itertools
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets import counts
from vg_engine.plugins.datasets.refer import refcoco, refcocog, refcocoplus

WIDTH, HEIGHT = 40, 30
RUNS = {"size": [HEIGHT, WIDTH], "counts": [5 * 30 + 2, 4, 26, 4, 30 * 40 - (5 * 30 + 2) - 34]}


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            mask[row, column] = any(x <= column < r and y <= row < b for x, y, r, b in boxes)
    return mask


def annotation(number: int, image: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    left, top, width, height = bbox
    outline = [rectangle(left, top, left + width, top + height)]
    held = {"id": number, "image_id": image, "category_id": 1, "bbox": bbox, "iscrowd": 0}
    return {**held, "segmentation": outline, "area": width * height, **more}


INSTANCES: dict[str, Any] = {
    "info": {"year": 2014},
    "licenses": [{"id": 1}],
    "images": [
        {"id": 581857, "file_name": "COCO_train2014_000000581857.jpg"},
        {"id": 9, "file_name": "COCO_train2014_000000000009.jpg"},
    ],
    "annotations": [
        annotation(16, 581857, [3, 4, 7, 5]),
        annotation(
            17,
            581857,
            [3, 4, 12, 8],
            category_id=2,
            segmentation=[rectangle(3, 4, 10, 9), rectangle(6, 6, 15, 12)],
        ),
        annotation(18, 9, [5, 2, 2, 4], category_id=3, segmentation=RUNS),
        annotation(19, 9, [0.5, 0.25, 10.5, 20.25]),
        annotation(99, 9, [1, 1, 5, 5]),
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}],
}
for picture in INSTANCES["images"]:
    picture.update(width=WIDTH, height=HEIGHT, license=1)


def reference(
    number: int, ann: int, image: int, split: str, *texts: str, **more: Any
) -> dict[str, Any]:
    said = [
        {"tokens": text.split(), "raw": text.title(), "sent_id": 10 * number + place, "sent": text}
        for place, text in enumerate(texts)
    ]
    held = {"ref_id": number, "ann_id": ann, "image_id": image, "split": split, "category_id": 1}
    name = f"COCO_train2014_{image:012d}_{ann}.jpg"
    sent_ids = [sentence["sent_id"] for sentence in said]
    return {**held, "file_name": name, "sentences": said, "sent_ids": sent_ids, **more}


REFS = [
    reference(1, 16, 581857, "val", "the man", "left caf\xe9 man"),
    reference(2, 17, 581857, "testA", "two cups"),
    reference(3, 18, 9, "testAB", "small thing"),
    reference(4, 19, 9, "testB", "b"),
    reference(5, 16, 581857, "train", "man"),
]


def python_2(value: Any, protocol: int) -> bytes:
    """A pickle as Python 2 wrote it: texts are bytes in Latin-1, everything is memoized."""
    memo = itertools.count(1)

    def put() -> bytes:
        place = next(memo)
        return b"r" + struct.pack("<I", place) if protocol else b"p%d\n" % place

    def write(one: Any) -> bytes:
        match one, protocol:
            case None, _:
                written = b"N"
            case int(), 0:
                written = b"I%d\n" % one
            case int(), _:
                written = b"J" + struct.pack("<i", one)
            case str(), 0:
                written = b"S" + repr(one.encode("latin-1"))[1:].encode() + b"\n" + put()
            case str(), _:
                held = one.encode("latin-1")
                written = b"T" + struct.pack("<i", len(held)) + held + put()
            case list(), 0:
                written = b"(l" + put() + b"".join(write(each) + b"a" for each in one)
            case list(), _:
                written = b"]" + put() + b"(" + b"".join(map(write, one)) + b"e"
            case dict(), 0:
                pairs = [write(key) + write(each) + b"s" for key, each in one.items()]
                written = b"(d" + put() + b"".join(pairs)
            case _:
                pairs = [write(key) + write(each) for key, each in one.items()]
                written = b"}" + put() + b"(" + b"".join(pairs) + b"u"
        return written

    return (b"\x80\x02" if protocol else b"") + write(value) + b"."


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(
        refs: Any = REFS,
        instances: Any = INSTANCES,
        *,
        name: str = "refcoco",
        by: str = "unc",
        protocol: int = 2,
        pictures: str | None = "refer/images/mscoco/images/train2014",
    ) -> Path:
        root = tmp_path / "refer"
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"refs({by}).p").write_bytes(python_2(refs, protocol))
        (folder / "instances.json").write_text(json.dumps(instances))
        if pictures:
            (tmp_path / pictures).mkdir(parents=True, exist_ok=True)
            for image in INSTANCES["images"]:
                picture = Image.new("RGB", (WIDTH, HEIGHT), "red")
                picture.save(tmp_path / pictures / image["file_name"])
        return root

    return make


def read(data: DataSet) -> tuple[dict[str, Sample], dict[str, str]]:
    records = list(data)
    samples = {one.id: one for one in records if isinstance(one, Sample)}
    faults = {one.id: one.error for one in records if isinstance(one, Fault)}
    assert len(samples) + len(faults) == len(records)
    assert not any("\n" in error for error in faults.values())
    return samples, faults


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("protocol", [0, 2])
def test_one_sentence_is_one_sample(build: Build, protocol: int) -> None:
    root = build(protocol=protocol)
    data = refcoco(root)
    samples, faults = read(data)
    assert not faults
    assert list(samples) == ["refcoco-unc-1-10", "refcoco-unc-1-11"]
    one, other = samples.values()
    assert (one.text, other.text) == ("the man", "left café man")
    assert one.picture == other.picture == "581857"
    assert one.target == other.target == "16"
    assert dict(one.groups) == {"split": "val", "category": "person"}
    assert one.boxes is not None
    assert one.boxes.tolist() == [[3.0, 4.0, 10.0, 9.0]]
    assert one.mask is not None
    assert np.array_equal(one.mask().mask, pixels((3, 4, 10, 9)))
    assert one.mask().ignored is None
    with Image.open(one.open()) as picture:  # type: ignore[arg-type]
        assert picture.size == (WIDTH, HEIGHT)
    assert data.name == f"refcoco:{root}?by=unc&split=val"
    assert [record.id for record in data] == list(samples)  # and again, in the same order


def test_a_split_of_several_letters_belongs_to_each(build: Build) -> None:
    root = build()
    first, faults = read(refcoco(root, split="testA"))
    assert [one.text for one in first.values()] == ["two cups", "small thing"]
    second, more = read(refcoco(root, split="testB"))
    assert [one.text for one in second.values()] == ["small thing", "b"]
    assert not faults
    assert not more
    assert [one.groups["split"] for one in second.values()] == ["testAB", "testB"]
    both, _ = read(refcoco(root, split="testAB"))
    assert [one.text for one in both.values()] == ["small thing"]
    train, _ = read(refcoco(root, split="train"))
    assert [one.text for one in train.values()] == ["man"]


def test_test_is_every_test_and_that_is_said(build: Build) -> None:
    data = refcoco(build(), split="test")
    assert len(read(data)[0]) == 3
    (said,) = data.statements
    assert "testA and testAB and testB together" in said
    assert not [line for line in refcoco(build(), split="val").statements if "together" in line]


def test_masks_are_unions_and_run_lengths(build: Build) -> None:
    samples, _ = read(refcoco(build(), split="test"))
    cups, small, plain = samples.values()
    assert cups.mask is not None
    assert small.mask is not None
    assert plain.boxes is not None
    assert np.array_equal(cups.mask().mask, pixels((3, 4, 10, 9), (6, 6, 15, 12)))
    assert np.array_equal(small.mask().mask, pixels((5, 2, 7, 6)))
    assert plain.boxes.tolist() == [[0.5, 0.25, 11.0, 20.5]]
    # A category that the file does not name keeps its number.
    assert [one.groups["category"] for one in samples.values()] == ["cup", "3", "person"]


def test_the_folder_of_the_set_itself_will_do(build: Build, tmp_path: Path) -> None:
    root = build()
    ids = list(read(refcoco(root))[0])
    assert list(read(refcoco(root / "refcoco"))[0]) == ids
    (root / "refcoco").rename(root / "mine")
    assert list(read(refcoco(root / "mine"))[0]) == ids


@pytest.mark.parametrize(
    "pictures",
    [
        "refer/images/train2014",
        "refer/train2014",
        "refer/coco/train2014",
        "refer/refcoco/images/train2014",
        "train2014",
        "coco/images/train2014",
    ],
)
def test_pictures_are_looked_for(build: Build, tmp_path: Path, pictures: str) -> None:
    root = build(pictures=pictures)
    samples, _ = read(refcoco(root))
    name = "COCO_train2014_000000581857.jpg"
    assert {one.open() for one in samples.values()} == {tmp_path / pictures / name}


def test_the_folder_of_the_pictures_can_be_named(build: Build, tmp_path: Path) -> None:
    root = build(pictures="far/away/train2014")
    for images in (tmp_path / "far/away/train2014", tmp_path / "far/away"):
        data = refcoco(root, images=str(images))
        assert all(Path(str(one.open())).is_file() for one in read(data)[0].values())
        assert data.name.endswith(f"&images={images}")
    assert "is no folder" in refusal(lambda: refcoco(root, images=str(tmp_path / "none")))


def test_no_pictures_at_all_are_missed_at_once(build: Build, tmp_path: Path) -> None:
    root = build(pictures=None)
    message = refusal(lambda: refcoco(root))
    for said in (str(root), str(root / "refcoco"), str(tmp_path), "images/train2014", "images="):
        assert said in message


def test_one_picture_is_missed_when_it_is_opened(build: Build) -> None:
    root = build()
    shutil.rmtree(root / "images/mscoco/images/train2014")
    (root / "images/mscoco/images/train2014").mkdir()
    samples, faults = read(refcoco(root))
    assert len(samples) == 2
    assert not faults
    assert not any(Path(str(one.open())).exists() for one in samples.values())


def test_the_plus_set_and_the_long_set_have_their_own_folders(build: Build) -> None:
    root = build(name="refcoco+")
    assert list(read(refcocoplus(root))[0]) == ["refcoco+-unc-1-10", "refcoco+-unc-1-11"]
    build(name="refcocog", by="umd")
    data = refcocog(root)
    assert list(read(data)[0]) == ["refcocog-umd-1-10", "refcocog-umd-1-11"]
    assert data.name == f"refcocog:{root}?by=umd&split=val"
    assert "is the folder of refcocog; write refcocog:" in refusal(
        lambda: refcocoplus(root / "refcocog")
    )


def test_the_split_of_google_is_warned_of(build: Build) -> None:
    root = build(name="refcocog", by="google")
    said = [line for line in refcocog(root, by="google").statements if "google share" in line]
    assert len(said) == 1
    assert "no test" in said[0]
    assert "by=umd" in said[0]
    build(by="google")
    (line,) = [line for line in refcoco(root, by="google").statements if "google share" in line]
    assert "no test" not in line


def test_counts_are_held_to_the_published_ones(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build()
    wrong = refcoco(root).statements
    assert len(wrong) == 2
    assert "2 sentences here but 10,834 as published" in wrong[0]
    assert "1 references here but 3,811 as published" in wrong[1]
    held = {"refcoco": {"unc": {"splits": {"val": {"sentences": 2, "references": 1}}}}}
    file = tmp_path / "counts.yaml"
    file.write_text(json.dumps(held))
    monkeypatch.setattr(counts, "_FILE", file)
    assert refcoco(root).statements == ()
    assert refcoco(root, split="testA").statements != ()  # two splits, and nothing published


def changed(what: str, number: int, **more: Any) -> dict[str, Any]:
    held = copy.deepcopy(INSTANCES)
    for row in held[what]:
        if row["id"] == number:
            row.update(more)
    return held


def without(what: str, number: int) -> dict[str, Any]:
    return {**INSTANCES, what: [row for row in INSTANCES[what] if row["id"] != number]}


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        (without("annotations", 16), "annotation 16 is not in instances.json"),
        (without("images", 581857), "picture 581857 is not in instances.json"),
        (changed("annotations", 16, image_id=9), "annotation 16 is of picture 9"),
        (changed("annotations", 16, bbox=[30, 4, 15, 5], segmentation=[]), "outside its picture"),
        (changed("annotations", 16, bbox=[3, 4, 9, 6]), None),  # loose, but about the same place
        (changed("annotations", 16, bbox=[3, 4, 10, 9]), "far from its own outline"),  # xyxy
        (changed("annotations", 16, bbox=[20, 15, 7, 5]), "far from its own outline"),
        (changed("annotations", 16, bbox=[3, 4, 37, 26]), "far from its own outline"),
        (changed("annotations", 16, bbox=[3, 4, 0, 5]), "is empty as xywh"),
        (changed("annotations", 16, bbox=[3, 4, -7, 5]), "is empty as xywh"),
        (changed("annotations", 16, bbox=[3, 4, 7]), "four numbers"),
        (changed("annotations", 16, bbox=[3, 4, float("nan"), 5]), "not finite"),
        (changed("annotations", 16, bbox=None), "not a list of numbers"),
        (changed("annotations", 16, bbox="3 4 7 5"), "not a list of numbers"),
    ],
)
def test_a_wrong_truth_makes_a_fault_of_every_sentence(
    build: Build, instances: dict[str, Any], said: str | None
) -> None:
    samples, faults = read(refcoco(build(instances=instances)))
    assert {*samples, *faults} == {"refcoco-unc-1-10", "refcoco-unc-1-11"}
    assert bool(faults) == (said is not None)
    assert all(said is not None and said in error for error in faults.values())


def test_a_box_over_the_edge_by_its_rounding_is_cut(build: Build) -> None:
    outline = [rectangle(30, 20, 40, 30)]
    instances = changed("annotations", 16, bbox=[30, 20, 10.4, 10.6], segmentation=outline)
    samples, _ = read(refcoco(build(instances=instances)))
    assert [one.boxes.tolist() for one in samples.values() if one.boxes is not None] == [
        [[30.0, 20.0, 40.0, 30.0]]
    ] * 2


@pytest.mark.parametrize("segmentation", [None, []])
def test_a_mask_that_nobody_drew_is_not_known(build: Build, segmentation: Any) -> None:
    instances = changed("annotations", 16, segmentation=segmentation)
    samples, _ = read(refcoco(build(instances=instances)))
    assert len(samples) == 2
    assert all(one.mask is None for one in samples.values())


def test_masks_are_drawn_only_when_they_are_asked_for(build: Build) -> None:
    broken = {"size": [HEIGHT, WIDTH], "counts": [1]}
    samples, _ = read(refcoco(build(instances=changed("annotations", 16, segmentation=broken))))
    mask = samples["refcoco-unc-1-10"].mask
    assert mask is not None
    assert "run lengths" in refusal(mask)


def test_ids_that_come_twice_are_faults(build: Build) -> None:
    again = reference(1, 17, 581857, "val", "other")
    samples, faults = read(refcoco(build([*REFS, again])))
    assert list(samples) == ["refcoco-unc-1-10", "refcoco-unc-1-11"]
    assert list(faults) == ["refcoco-unc-1-10"]


def test_a_sentence_may_stand_in_raw_alone_or_nowhere(build: Build) -> None:
    one = reference(1, 16, 581857, "val", "a", "b", "c")
    one["sentences"][0].update(sent="  ", raw="The Man!")
    del one["sentences"][1]["sent"]
    one["sentences"][2].update(sent="", raw=" ")
    samples, faults = read(refcoco(build([one])))
    assert [sample.text for sample in samples.values()] == ["The Man!", "B"]
    assert "no expression" in faults["refcoco-unc-1-12"]


def test_a_reference_without_sentences_is_told(build: Build) -> None:
    data = refcoco(build([*REFS, reference(6, 16, 581857, "val")]))
    assert len(read(data)[0]) == 2
    assert data.statements[0].startswith("references without a sentence: 1;")


@pytest.mark.parametrize(
    ("change", "said"),
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
def test_a_reference_that_cannot_be_read_is_a_fault(
    build: Build, change: dict[str, Any], said: str
) -> None:
    samples, faults = read(
        refcoco(build([{**REFS[0], **change}, reference(7, 17, 581857, "val", "x")]))
    )
    assert [one.text for one in samples.values()] == ["x"]
    assert list(faults) == ["refcoco-unc-record-0"]
    assert said in faults["refcoco-unc-record-0"]


def test_no_target_is_no_answer_here(build: Build) -> None:
    _, faults = read(refcoco(build([reference(1, -1, 9, "val", "a")])))
    assert "annotation -1 is not in" in faults["refcoco-unc-1-10"]


def test_what_does_not_exist_is_said_with_what_does(build: Build, tmp_path: Path) -> None:
    root = build()
    build(by="google")
    assert "'minival'" in (message := refusal(lambda: refcoco(root, split="minival")))
    assert "testA, testAB, testB, train, val" in message
    message = refusal(lambda: refcoco(root, by="umd"))
    assert "refs(google).p, refs(unc).p" in message
    assert "'../refcoco/refs(unc' " in refusal(lambda: refcoco(root, by="../refcoco/refs(unc"))
    message = refusal(lambda: refcocog(root))
    assert "'refcocog'" in message
    assert "'images', 'refcoco'" in message
    assert "needs a folder: write refcoco:/data/refer" in refusal(lambda: refcoco(None))
    assert "no such folder" in refusal(lambda: refcoco(tmp_path / "none"))
    file = root / "refcoco" / "refs(unc).p"
    assert "is a file" in refusal(lambda: refcoco(file))
    (tmp_path / "bare" / "refcoco").mkdir(parents=True)
    assert "it holds nothing" in refusal(lambda: refcoco(tmp_path / "bare"))
    (root / "refcoco" / "instances.json").unlink()
    assert "has no instances.json" in refusal(lambda: refcoco(root))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (python_2(REFS, 0)[:-40], "complete pickle"),
        (python_2(REFS, 2)[:-1], "complete pickle"),
        (b"", "complete pickle"),
        (b"cos\nsystem\n(S'ls'\ntR.", "'os.system'"),
        (python_2({"refs": REFS}, 2), "no list of references"),
        (python_2([], 2), "no list of references"),
        (python_2("x", 0), "no list of references"),
        (python_2([1, None, "x"], 2), "no split 'val'"),
    ],
)
def test_references_that_cannot_be_read_are_refused(build: Build, data: bytes, said: str) -> None:
    root = build()
    (root / "refcoco" / "refs(unc).p").write_bytes(data)
    message = refusal(lambda: refcoco(root))
    assert said in message
    assert "refs(unc).p" in message


def test_a_broken_file_of_instances_is_refused(build: Build) -> None:
    root = build()
    (root / "refcoco" / "instances.json").write_text(json.dumps(INSTANCES)[:-30])
    assert "instances.json is not JSON" in refusal(lambda: refcoco(root))


def test_files_are_read_once_and_make_the_revision(build: Build) -> None:
    root = build()
    data = refcoco(root)
    (root / "refcoco" / "instances.json").unlink()
    (root / "refcoco" / "refs(unc).p").unlink()
    assert len(list(data)) == len(list(data)) == 2
    assert refcoco(build(), split="train").revision == data.revision
    assert refcoco(build(REFS[:1])).revision != data.revision
    assert refcoco(build(instances=without("annotations", 99))).revision != data.revision
