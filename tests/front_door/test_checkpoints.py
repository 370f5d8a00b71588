"""The way for real weights, from a local folder to a picture, on a photograph."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import transformers
from commands import call, refused
from PIL import Image

import vg_engine
from vg_engine.plugins.datasets.scenes import make_scene
from vg_engine.testing.tiny import tiny_internvl, tiny_llava


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the real models' geometry: 336 pixels and 24 x 24, 448 pixels and tiles."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tiny_llava(folder / "crop", image_size=336)
    tiny_llava(folder / "pad", image_size=336, geometry="pad")
    tiny_internvl(folder / "tiles", image_size=448)
    tiny_llava(folder / "pickled", safe=False)
    return folder


@pytest.fixture
def photograph(folder: Path) -> Path:
    """An astronaut, 600 x 400: wide, so that cropping and padding differ."""
    path = folder / "photo.jpg"
    Image.fromarray(skimage.data.astronaut()).crop((0, 0, 512, 342)).resize((600, 400)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "arguments", "description"),
    [
        ("crop", [], "cover only 67 % of the picture"),
        ("pad", [], "padded to a square"),
        ("crop", ["--geometry", "pad"], "padded to a square"),
        ("crop", ["--adapter", "llava", "--heads", "L2H1,L3H0"], "cut to a square"),
        ("tiles", ["--adapter", "internvl"], "tiles"),
        ("tiles", ["--heads", "L2H1,L3H0", "--region", "half_level"], "tiles"),
    ],
)
def test_a_photograph_goes_all_the_way(
    checkpoints: Path, photograph: Path, name: str, arguments: list[str], description: str
) -> None:
    asked = ("--text", "the helmet", "--text", "the left hand", "--json", "--mask", "--out", "out")
    where = ("--model", checkpoints / name, "--image", photograph)
    done = call("run", *where, *asked, *arguments)
    assert description in done.stderr
    assert ("cover only" in done.stderr) == (name == "crop" and "pad" not in arguments)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["expression"] for answer in answers] == ["the helmet", "the left hand"]
    for answer in answers:
        ((left, top, right, bottom),) = answer["boxes"]
        assert 0 <= left < right <= 600
        assert 0 <= top < bottom <= 400
        assert 0 < answer["score"] <= 1
        with Image.open(Path("out") / answer["overlay"]) as overlay:
            assert min(overlay.size) >= 400
            assert len(np.unique(np.asarray(overlay))) > 50
    assert answers[0]["boxes"] != answers[1]["boxes"] or answers[0]["score"] != answers[1]["score"]


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        ("pickled", (), "convert"),
        ("none", (), "no folder"),
        ("crop", ("--heads", "L4H0"), "out of range"),
        ("crop", ("--heads", "llava-1.5-7b"), "made for 32 layers x 32 heads"),
        ("crop", ("--device", "cuda:99"), "cuda:99"),
        ("crop", ("--dtype", "int8"), "choose auto, float32"),
        ("crop", ("--geometry", "round"), "choose crop or pad"),
        ("tiles", ("--adapter", "intervl"), "did you mean internvl"),
    ],
)
def test_mistakes_with_checkpoints_are_one_line(
    checkpoints: Path, photograph: Path, model: str, arguments: tuple[str, ...], words: str
) -> None:
    asked = ("--model", checkpoints / model, "--image", photograph, "--text", "x", "--out", "out")
    assert words in refused("run", *asked, *arguments, notes=True)
    assert not Path("out").exists()


def test_a_model_in_memory(checkpoints: Path) -> None:
    module = transformers.AutoModelForImageTextToText.from_pretrained(checkpoints / "crop")
    picture = np.zeros((40, 60, 3), np.uint8)
    maps = []
    for given in (module, None):
        with vg_engine.load(str(checkpoints / "crop"), model=given) as engine:
            maps.append(engine.ground(picture, "the cup").soft_map.values)
    assert module.config._attn_implementation in ("sdpa", "eager")
    np.testing.assert_allclose(*maps, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def embedded() -> Any:
    engine = vg_engine.load()
    yield engine
    engine.close()


def test_the_embedded_model_answers_and_says_what_it_knows(embedded: vg_engine.Engine) -> None:
    answer = embedded.ground(make_scene(1_000, 0).image, "the red circle")
    assert answer.box is not None
    assert "only knows its shapes" in str(answer.notes)
    assert answer.provenance["entry"] == "embedded"
    assert answer.provenance["adapter"] == "llava"


def test_without_a_model_the_embedded_one_answers(folder: Path) -> None:
    done = call("run", "--image", "a.png", "--text", "the red circle", "--json")
    assert json.loads(done.stdout)["provenance"]["entry"] == "embedded"


def test_extreme_pictures_are_grounded_and_drawn(embedded: vg_engine.Engine) -> None:
    for width, height in ((1, 1), (1, 5000), (5000, 1), (3, 2)):
        picture = vg_engine.Picture(np.full((height, width, 3), 80, np.uint8))
        answer = embedded.ground(picture, "the red circle")
        left, top, right, bottom = answer.box or (0, 0, 0, 0)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert vg_engine.draw(answer, picture).width >= 480
