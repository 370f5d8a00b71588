"""LLaVA-1.5 passes the public contract, in both of its geometries."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, PictureError, TokenCountError
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter, paint
from vg_engine.testing.tiny import tiny_llava

# With ".", newline merged into one token (256), as the tokenizers of large models have it.
MERGES = ((".", "Ċ"),)
# fmt: off
GOLDEN = (
    Golden(
        "the cup",
        Prompt(),
        "A chat between a curious user and an artificial intelligence assistant. The "
        "assistant gives helpful, detailed, and polite answers to the user's questions. "
        "<image>\nthe cup.",
        (
            32, 220, 66, 71, 64, 83, 220, 65, 68, 83, 86, 68, 68, 77, 220, 64, 220, 66, 84, 81,
            72, 78, 84, 82, 220, 84, 82, 68, 81, 220, 64, 77, 67, 220, 64, 77, 220, 64, 81, 83,
            72, 69, 72, 66, 72, 64, 75, 220, 72, 77, 83, 68, 75, 75, 72, 70, 68, 77, 66, 68, 220,
            64, 82, 82, 72, 82, 83, 64, 77, 83, 13, 220, 51, 71, 68, 220, 64, 82, 82, 72, 82, 83,
            64, 77, 83, 220, 70, 72, 85, 68, 82, 220, 71, 68, 75, 79, 69, 84, 75, 11, 220, 67, 68,
            83, 64, 72, 75, 68, 67, 11, 220, 64, 77, 67, 220, 79, 78, 75, 72, 83, 68, 220, 64, 77,
            82, 86, 68, 81, 82, 220, 83, 78, 220, 83, 71, 68, 220, 84, 82, 68, 81, 6, 82, 220, 80,
            84, 68, 82, 83, 72, 78, 77, 82, 13, 220, 260, 198, 83, 71, 68, 220, 66, 84, 79, 13,
        ),
        (13,),
    ),
    Golden(
        "which cup?",
        Prompt(system="Look."),
        "Look. <image>\nwhich cup?",
        (
            43, 78, 78, 74, 13, 220, 260, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30,
        ),
        (30,),
    ),
    Golden(
        "the cup",
        Prompt("chat"),
        "USER: <image>\nthe cup. ASSISTANT:",
        (
            52, 50, 36, 49, 25, 220, 260, 198, 83, 71, 68, 220, 66, 84, 79, 13, 220, 32, 50, 50,
            40, 50, 51, 32, 45, 51, 25,
        ),
        (13,),
    ),
    Golden(
        "它。",
        Prompt("chat", query_row="expression_all"),
        "USER: <image>\n它。 ASSISTANT:",
        (
            52, 50, 36, 49, 25, 220, 260, 198, 161, 106, 225, 159, 222, 224, 220, 32, 50, 50, 40,
            50, 51, 32, 45, 51, 25,
        ),
        (161, 106, 225, 159, 222, 224),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression}\nNow", system="See."),
        "See. USER: <image>\nFind the cup.\nNow ASSISTANT:",
        (
            50, 68, 68, 13, 220, 52, 50, 36, 49, 25, 220, 260, 198, 37, 72, 77, 67, 220, 83, 71,
            68, 220, 66, 84, 79, 256, 45, 78, 86, 220, 32, 50, 50, 40, 50, 51, 32, 45, 51, 25,
        ),
        (256,),
    ),
    Golden(
        "the cup",
        Prompt("chat", query_row="prompt_last"),
        "USER: <image>\nthe cup. ASSISTANT:",
        (
            52, 50, 36, 49, 25, 220, 260, 198, 83, 71, 68, 220, 66, 84, 79, 13, 220, 32, 50, 50,
            40, 50, 51, 32, 45, 51, 25,
        ),
        (25,),
    ),
)
# fmt: on


class TestCrop(AdapterContract):
    adapter = LlavaAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_llava(folder, merges=MERGES)


class TestPad(AdapterContract):
    adapter = LlavaAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_llava(folder, geometry="pad", merges=MERGES)


class TestCropSwitchedToPad(AdapterContract):
    adapter = LlavaAdapter
    golden = GOLDEN
    options: ClassVar = {"geometry": "pad"}

    def build(self, folder: Path) -> None:
        tiny_llava(folder, merges=MERGES, seed=1)

    def test_says_so(self, opened):
        assert "padded to a square" in opened.model.statements[0]


def views(opened, size):
    inputs = opened.prepare([noise(size)], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    return view


@pytest.fixture(scope="module")
def real_grid(tmp_path_factory):
    return tiny_llava(tmp_path_factory.mktemp("llava") / "336", image_size=336, layers=2, hidden=32)


def test_the_real_grid_is_24_by_24_and_its_ends_are_invisible(real_grid):
    opened = open_adapter(LlavaAdapter(), str(real_grid))
    view = views(opened, (640, 480))
    assert view.shape == (24, 24)
    assert view.extent == (80.0, 0.0, 560.0, 480.0)
    assert "outside is never found" in opened.model.statements[0]


def test_the_real_grid_padded_shows_the_whole_picture(real_grid):
    opened = open_adapter(LlavaAdapter(), str(real_grid), options={"geometry": "pad"})
    assert views(opened, (640, 480)).extent == (0.0, -80.0, 640.0, 560.0)
    assert views(opened, (101, 50)).extent == pytest.approx((0.0, -25.0, 101.0, 76.0))


@pytest.mark.parametrize("geometry", ["crop", "pad"])
def test_the_real_grid_passes_the_paint_probe(real_grid, geometry):
    opened = open_adapter(LlavaAdapter(), str(real_grid), options={"geometry": geometry})
    paint.unmix(opened.model.module.model.vision_tower)
    report = paint.probe(opened, paint.embeddings)
    for line in report.skipped:
        print("skipped:", line)
    report.check()
    print(f"paint probe, 24 x 24, {geometry}: {report.right} of {report.planned} right")


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (335, 337), (640, 427), (1, 5000)])
def test_cropped_pixels_are_the_ones_that_the_processor_kept(real_grid, size):
    """A gradient goes through the processor; its values tell where each pixel came from."""
    opened = open_adapter(LlavaAdapter(), str(real_grid))
    width, height = size
    steps = np.linspace(0, 255, max(size))[: max(size)].round().astype(np.uint8)
    line = steps[None, :] if width >= height else steps[:, None]
    pixels = np.ascontiguousarray(np.broadcast_to(line[..., None], (height, width, 3)))
    inputs = opened.prepare([Picture(pixels)], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    images = opened.model.processor.image_processor
    kept = inputs.tensors["pixel_values"][0, 0] * images.image_std[0] + images.image_mean[0]
    profile = kept.mean(0 if width >= height else 1).numpy() * 255
    extent = view.extent[0::2] if width >= height else view.extent[1::2]
    centres = extent[0] + (np.arange(336) + 0.5) / 336 * (extent[1] - extent[0]) - 0.5
    expected = np.interp(centres, np.arange(len(steps)), steps)
    assert np.abs(profile - expected).max() < 1.2


def test_smaller_than_the_crop_is_padded_as_the_processor_pads(tmp_path):
    opened = open_adapter(LlavaAdapter(), str(tiny_llava(tmp_path / "m", layers=1)))
    images = opened.model.processor.image_processor
    images.size = type(images.size)(shortest_edge=51)
    inputs = opened.prepare([Picture(np.full((40, 60, 3), 255, np.uint8))], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    shown = inputs.tensors["pixel_values"][0, 0] > 0
    rows, cols = (np.flatnonzero(shown.any(axis).numpy()) for axis in (1, 0))
    left, top, right, bottom = view.to_original.inverse_box((0.0, 0.0, 60.0, 40.0))
    assert (rows[0], rows[-1] + 1) == pytest.approx((top * 14, bottom * 14), abs=1e-6)
    assert (cols[0], cols[-1] + 1) == pytest.approx((left * 14, right * 14), abs=0.51)


def test_strips_are_cut_before_they_are_enlarged(real_grid):
    opened = open_adapter(LlavaAdapter(), str(real_grid))
    view = views(opened, (1, 5000))
    assert view.extent == (0.0, 2499.5, 1.0, 2500.5)
    padded = open_adapter(LlavaAdapter(), str(real_grid), options={"geometry": "pad"})
    with pytest.raises(PictureError, match="cut it first"):
        views(padded, (1, 40_000))


def test_unknown_options_are_refused(real_grid):
    with pytest.raises(InputError, match="did you mean geometry"):
        open_adapter(LlavaAdapter(), str(real_grid), options={"geometri": "pad"})
    with pytest.raises(InputError, match="choose crop or pad"):
        open_adapter(LlavaAdapter(), str(real_grid), options={"geometry": "stretch"})


def test_a_processor_of_another_size_is_refused_with_both_numbers(tmp_path):
    opened = open_adapter(LlavaAdapter(), str(tiny_llava(tmp_path / "m", layers=1)))
    opened.model.processor.num_additional_image_tokens = 2
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    opened.model.processor.num_additional_image_tokens = 1
    with pytest.raises(TokenCountError, match=r"expected 64 image tokens .* made 65"):
        opened.views(inputs)


def test_class_token_that_is_kept_is_no_cell(tmp_path):
    folder = tiny_llava(tmp_path / "m", layers=1)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('strategy": "default"', 'strategy": "full"'))
    opened = open_adapter(LlavaAdapter(), str(folder))
    strategy = opened.model.module.config.vision_feature_select_strategy
    assert strategy == "full"
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    ids = inputs.tensors["input_ids"][0]
    image = (ids == ids.max()).nonzero().ravel()
    (view,) = opened.views(inputs)[0]
    assert len(image) == 65
    assert view.positions.min() == image[1]
    opened.rows(inputs)


def test_llava_v1_says_where_a_picture_begins_and_ends(tmp_path):
    """Its config says so, as `vg-engine convert` writes it."""
    folder = tiny_llava(tmp_path / "v1", layers=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mm_use_im_start_end": True}))
    opened = open_adapter(LlavaAdapter(), str(folder))
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")], Prompt(system="Look."))
    text = inputs.rendered[0].replace("<image>" * 64, "<image>")
    assert text == "Look. <im_start><image><im_end>\nit."


SETTINGS = {
    "image_token": "<image>",
    "num_additional_image_tokens": 1,
    "patch_size": 14,
    "processor_class": "LlavaProcessor",
    "vision_feature_select_strategy": "default",
}


@pytest.mark.parametrize("settings", [None, {"processor_class": "LlavaProcessor"}, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, published, clip, settings):
    """llava-hf/llava-1.5-7b-hf: its first form, a later one, and today's (seen on copies)."""

    def rows():
        opened = open_adapter(LlavaAdapter(), str(folder))
        inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")], Prompt("chat"))
        return opened.rows(inputs)[0]

    folder = tiny_llava(tmp_path / "m", image_size=336, layers=1, hidden=32)
    expected = rows()
    renamed = [(r"^vision_tower\.", "vision_tower.vision_model.")]
    published(folder, clip, settings=settings, renamed=renamed)
    assert (rows() - expected).abs().max() < 1e-6
