"""The embedded model, as it ships and as a user meets it: it grounds, and it says what it is."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import vg_engine
from vg_engine.core.evaluation.metrics import iou, pointing
from vg_engine.plugins.datasets.exam import Sample, exam
from vg_engine.plugins.datasets.scenes import make_scene
from vg_engine.registry import catalog

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "registry/embedded"


@pytest.fixture(scope="module")
def engine() -> vg_engine.Engine:
    return vg_engine.load()


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    """A sixth of the exam: all kinds alike."""
    return exam()[:100]


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


def test_the_floor_of_accuracy(engine: vg_engine.Engine, samples: tuple[Sample, ...]) -> None:
    hits, ious = [], []
    for _, group in groupby(samples, key=lambda sample: sample.scene_id):
        scene = list(group)
        answers = engine.ground_all(scene[0].image, [sample.text for sample in scene])
        for sample, answer in zip(scene, answers, strict=True):
            assert answer.box is not None
            hits.append(pointing(answer.point, sample.mask))
            ious.append(float(iou(np.array(answer.box), np.array(sample.box))))
    assert np.mean(hits) >= 0.8
    assert np.mean(np.array(ious) >= 0.5) >= 0.5


def test_its_heads_are_a_named_set_with_a_label_free_rule(engine: vg_engine.Engine) -> None:
    chosen = engine.head_set
    assert chosen is not None
    assert chosen == catalog.head_set("embedded")
    assert chosen.mode in ("paper", "sensitivity", "paper+sensitivity", "consensus", "mean_all")
    assert chosen.provenance["data"]
    assert catalog.head_set("embedded-paper").mode == "paper"


def test_it_says_what_it_knows_and_what_it_does_not(engine: vg_engine.Engine) -> None:
    scene = make_scene(1900, 2608).image
    assert any("only knows its shapes" in note for note in engine.ground(scene, "the cat").notes)
    assert any("does not know: cat" in note for note in engine.ground(scene, "the cat").notes)
    assert not any("does not know" in note for note in engine.ground(scene, "the star").notes)


def test_two_texts_about_one_picture_go_to_two_places(engine: vg_engine.Engine) -> None:
    picture = ROOT / "examples/scene.png"
    circle, square = engine.ground_all(picture, ["the red circle", "the large red square"])
    assert circle.mask is not None
    assert square.mask is not None
    assert not (circle.mask & square.mask).any()


def test_the_example_is_drawn_by_the_generator() -> None:
    with Image.open(ROOT / "examples/scene.png") as image:
        assert np.array_equal(np.asarray(image), make_scene(1900, 2608).image)


def test_a_picture_that_is_no_square_is_shown_whole(engine: vg_engine.Engine) -> None:
    scene = make_scene(1900, 2608).image
    wide = np.full((224, 448, 3), 128, np.uint8)
    wide[:, 224:] = scene
    answer = engine.ground(wide, "the large red square")
    assert not any("cover only" in note for note in answer.notes)
