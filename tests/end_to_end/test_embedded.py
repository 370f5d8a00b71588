"""The embedded model, as it ships and as a user meets it: it grounds, and it says what it is."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import vg_engine
from vg_engine.core.evaluation.metrics import iou, pointing
from vg_engine.plugins.datasets.exam import exam
from vg_engine.plugins.datasets.scenes import make_scene
from vg_engine.registry import catalog

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "registry/embedded"
PICTURE, SCENE = ROOT / "examples/scene.png", make_scene(1900, 2608).image


@pytest.fixture(scope="module")
def engine() -> vg_engine.Engine:
    return vg_engine.load()


def test_the_files_are_small_and_complete() -> None:
    assert (FOLDER / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    weights = FOLDER / "model.safetensors"
    assert weights.stat().st_size < 6_000_000
    with safe_open(weights, "np") as file:
        names = file.keys()
        assert {str(file.get_slice(name).get_dtype()) for name in names} == {"F16"}
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llava"
    assert config["architectures"] == ["LlavaForConditionalGeneration"]


def test_the_floor_of_accuracy(engine: vg_engine.Engine) -> None:
    """Holds on a sixth of the exam: all kinds alike."""
    hits, overlaps = [], []
    for _, group in groupby(exam()[:100], key=lambda sample: sample.scene_id):
        scene = list(group)
        answers = engine.ground_all(scene[0].image, [sample.text for sample in scene])
        for sample, answer in zip(scene, answers, strict=True):
            assert answer.box is not None
            hits.append(pointing(answer.point, sample.mask))
            overlaps.append(float(iou(np.array(answer.box), np.array(sample.box))))
    assert np.mean(hits) >= 0.8
    assert np.mean(np.array(overlaps) >= 0.5) >= 0.5


def test_its_heads_are_a_named_set_with_a_label_free_rule(engine: vg_engine.Engine) -> None:
    chosen = catalog.head_set("embedded")
    assert engine.head_set == chosen
    assert chosen.rule in ("paper", "sensitivity", "paper+sensitivity", "consensus", "mean_all")
    assert chosen.provenance["data"]
    assert catalog.head_set("embedded-paper").rule == "paper"


def test_it_says_what_it_knows_and_what_it_does_not(engine: vg_engine.Engine) -> None:
    notes = " ".join(engine.ground(SCENE, "the cat").notes)
    assert "only knows its shapes" in notes
    assert "does not know: cat" in notes
    assert "does not know" not in " ".join(engine.ground(SCENE, "the star").notes)


def test_two_texts_about_one_picture_go_to_two_places(engine: vg_engine.Engine) -> None:
    circle, square = engine.ground_all(PICTURE, ["the red circle", "the large red square"])
    assert circle.mask is not None
    assert square.mask is not None
    assert not (circle.mask & square.mask).any()


def test_the_example_is_drawn_by_the_generator() -> None:
    with Image.open(PICTURE) as image:
        assert np.array_equal(np.asarray(image), SCENE)


def test_a_picture_that_is_no_square_is_shown_whole(engine: vg_engine.Engine) -> None:
    wide = np.full((224, 448, 3), 128, np.uint8)
    wide[:, 224:] = SCENE
    assert "cover only" not in " ".join(engine.ground(wide, "the large red square").notes)
