import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.grefcoco import grefcoco

WIDTH, HEIGHT = 40, 30
BOXES = {1: (3, 4, 10, 9), 2: (6, 6, 15, 12), 3: (30, 20, 38, 28), 4: (0, 0, 40, 30)}


def pixels(*numbers: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            mask[row, column] = any(
                x <= column < r and y <= row < b for x, y, r, b in map(BOXES.__getitem__, numbers)
            )
    return mask


def annotation(number: int) -> dict[str, Any]:
    left, top, right, bottom = BOXES[number]
    return {
        "id": number,
        "image_id": 5,
        "category_id": 1 if number < 3 else 2,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
    }


INSTANCES = {
    "images": [{"id": 5, "file_name": "COCO_a.jpg", "width": WIDTH, "height": HEIGHT}],
    "annotations": [annotation(number) for number in BOXES],
    "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}],
}


def reference(number: int, ann_id: Any, *texts: str, **more: Any) -> dict[str, Any]:
    said = [{"sent": text, "sent_id": 10 * number + n, "raw": "R"} for n, text in enumerate(texts)]
    held = {"ref_id": number, "ann_id": ann_id, "category_id": [1], "image_id": 5, "split": "val"}
    return {**held, "sentences": said, "file_name": "COCO_a_1.jpg", **more}


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(refs: Any, instances: Any = INSTANCES) -> Path:
        folder = tmp_path / "grefcoco"
        folder.mkdir(exist_ok=True)
        (tmp_path / "images" / "train2014").mkdir(parents=True, exist_ok=True)
        (folder / "grefs(unc).json").write_text(json.dumps(refs))
        (folder / "instances.json").write_text(json.dumps(instances))
        return tmp_path

    return make


def read(root: Path, **options: str) -> tuple[dict[str, Sample], dict[str, str]]:
    records = list(grefcoco(root, **options))
    samples = {one.text: one for one in records if isinstance(one, Sample)}
    faults = {one.id: one.error for one in records if isinstance(one, Fault)}
    assert len(samples) + len(faults) == len(records)
    return samples, faults


def drawn(sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    return sample.mask().mask


def boxes(sample: Sample) -> list[list[float]]:
    assert sample.boxes is not None
    assert sample.boxes.shape[1] == 4
    found: list[list[float]] = sample.boxes.tolist()
    return found


def test_several_one_and_none_are_meant(build: Build) -> None:
    refs = [
        reference(1, [3, 2, 1], "all things", "everything"),
        reference(2, [2], "the cup"),
        reference(3, [-1], "the giraffe"),
        reference(4, [2, 1], "cups"),
    ]
    root = build(refs)
    samples, faults = read(root)
    assert not faults
    assert [sample.id for sample in samples.values()] == [
        *("grefcoco-unc-1-10", "grefcoco-unc-1-11", "grefcoco-unc-2-20"),
        *("grefcoco-unc-3-30", "grefcoco-unc-4-40"),
    ]
    many, cup, none = (samples[text] for text in ("all things", "the cup", "the giraffe"))
    assert boxes(many) == [list(BOXES[number]) for number in (1, 2, 3)]
    assert np.array_equal(drawn(many), pixels(1, 2, 3))
    assert many.target == samples["everything"].target == "1+2+3"
    assert dict(many.groups) == {"split": "val", "category": "several", "target": "many"}
    assert boxes(cup) == [list(BOXES[2])]
    assert np.array_equal(drawn(cup), pixels(2))
    assert (cup.target, cup.groups["target"], cup.groups["category"]) == ("2", "one", "cup")
    assert boxes(none) == []
    assert drawn(none).shape == (HEIGHT, WIDTH)
    assert not drawn(none).any()
    assert (none.target, dict(none.groups)) == ("none", {"split": "val", "target": "none"})
    assert not none.same_target(cup)
    assert samples["cups"].groups["category"] == "cup"
    assert cup.open() == root / "images" / "train2014" / "COCO_a.jpg"


def test_how_the_sentences_mix_is_said(build: Build) -> None:
    refs = [
        reference(1, [3, 2], "a", "b", "c"),
        reference(2, [2], "d"),
        reference(3, [-1], "e", "f"),
        reference(4, [-1], split="val"),
        reference(5, [-1], "g", split="train"),
    ]
    mixture, silent = grefcoco(build(refs)).statements
    assert mixture.startswith("6 sentences, of which 2 mean none, 1 mean one, 3 mean many;")
    assert "without a sentence: 1" in silent


@pytest.mark.parametrize(
    "reference_",
    [
        reference(1, [-1], "a"),
        reference(1, -1, "a"),
        reference(1, [-1, -1], "a"),
        reference(1, [], "a"),
        reference(1, [-1], "a", no_target=True),
        reference(1, [], "a", no_target=True),
        reference(1, [-1], "a", no_target=False),
    ],
)
def test_nothing_meant_is_written_in_several_ways(build: Build, reference_: dict[str, Any]) -> None:
    samples, faults = read(build([reference_]))
    assert not faults
    assert boxes(samples["a"]) == []
    assert not drawn(samples["a"]).any()
    assert samples["a"].groups["target"] == "none"


def test_one_may_stand_without_a_list_and_be_said_twice(build: Build) -> None:
    samples, _ = read(build([reference(1, 3, "a"), reference(2, [2, 2], "b", no_target=False)]))
    assert boxes(samples["a"]) == [list(BOXES[3])]
    assert boxes(samples["b"]) == [list(BOXES[2])]
    assert samples["b"].groups["target"] == "one"


@pytest.mark.parametrize(
    ("reference_", "name", "said"),
    [
        (reference(1, [1, -1], "a"), "record-0", "nothing at once"),
        (reference(1, [1], "a", no_target=True), "record-0", "nothing at once"),
        (reference(1, ["1"], "a"), "record-0", "'ann_id' of reference 1"),
        (reference(1, [1.0], "a"), "record-0", "'ann_id' of reference 1"),
        (reference(1, None, "a"), "record-0", "'ann_id' of reference 1"),
        (reference(1, [1, 77], "a"), "1-10", "annotation 77 is not in instances.json"),
        (reference(1, [-1], "a", image_id=6), "1-10", "picture 6 is not in instances.json"),
    ],
)
def test_what_cannot_be_used_is_a_fault(
    build: Build, reference_: dict[str, Any], name: str, said: str
) -> None:
    samples, faults = read(build([reference_, reference(2, [2], "b")]))
    assert list(samples) == ["b"]
    assert list(faults) == [f"grefcoco-unc-{name}"]
    assert said in faults[f"grefcoco-unc-{name}"]


def test_a_crowd_among_several_is_left_out(build: Build) -> None:
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"][3]["iscrowd"] = 1
    samples, _ = read(build([reference(1, [1, 4], "a"), reference(2, [4], "b")], instances))
    assert boxes(samples["a"]) == [list(BOXES[1])]
    assert np.array_equal(drawn(samples["a"]), pixels(1))
    assert boxes(samples["b"]) == [list(BOXES[4])]


def test_an_unknown_outline_of_one_makes_the_mask_unknown(build: Build) -> None:
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"][0]["segmentation"] = []
    samples, _ = read(build([reference(1, [1, 2], "a"), reference(2, [2], "b")], instances))
    assert samples["a"].mask is None
    assert samples["b"].mask is not None


def test_the_references_may_be_a_pickle_of_plain_data(build: Build) -> None:
    root = build([reference(1, [1], "a")])
    (root / "grefcoco" / "grefs(unc).json").unlink()
    file = root / "grefcoco" / "grefs(unc).p"
    file.write_bytes(pickle.dumps([reference(1, [2], "pickled")], 2))
    assert boxes(read(root)[0]["pickled"]) == [list(BOXES[2])]
    file.write_bytes(b"cos\nsystem\n.")
    with pytest.raises(InputError, match=r"'os\.system'"):
        grefcoco(root)


def test_splits_and_their_lack(build: Build) -> None:
    splits = ("train", "val", "testA", "testB")
    root = build([reference(n, [1], split, split=split) for n, split in enumerate(splits)])
    for split in splits:
        assert list(read(root, split=split)[0]) == [split]
    assert list(read(root, split="test")[0]) == ["testA", "testB"]
    with pytest.raises(InputError, match="there is testA, testB, train, val"):
        grefcoco(root, split="testC")
    with pytest.raises(InputError, match=r"there is grefs\(unc\).json"):
        grefcoco(root, by="umd")


@pytest.mark.parametrize("text", ["", "[", "[{}", "\xff", "{}", "[]", "7", "[" * 100_000])
def test_references_that_cannot_be_read_are_refused(build: Build, text: str) -> None:
    root = build([])
    (root / "grefcoco" / "grefs(unc).json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"grefs\(unc\).json") as raised:
        grefcoco(root)
    assert "\n" not in str(raised.value)


def test_the_revision_is_of_both_files(build: Build) -> None:
    refs = [reference(1, [1], "a")]
    first = grefcoco(build(refs)).revision
    assert grefcoco(build(refs)).revision == first
    assert grefcoco(build([reference(1, [2], "a")])).revision != first
    assert grefcoco(build(refs, {**INSTANCES, "info": 1})).revision != first
