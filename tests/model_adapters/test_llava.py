"""LLaVA-1.5 passes the public contract, in both of its geometries."""

from typing import ClassVar

import numpy as np
import pytest
from building import edited, fields
from families import FIND, RENAMED, VICUNA, ask, checkpoint, contract, opens, prompted, shows, views

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, PictureError, TokenCountError
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.testing.tiny import tiny_llava

# With ".", newline merged into one token (256), as the tokenizers of large models have it.
MERGES = ((".", "Ċ"),)
IDS = (
    *(52, 50, 36, 49, 25, 220, 260, 198, 83, 71, 68, 220, 66, 84, 79, 13, 220, 32, 50, 50),
    *(40, 50, 51, 32, 45, 51, 25),
)
GOLDEN = (
    prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
    prompted("Look. <image>\nwhich cup?", "which cup?", form="bare", system="Look."),
    prompted("USER: <image>\nthe cup. ASSISTANT:", ids=IDS),
    prompted("See. USER: <image>\nFind the cup.\nNow ASSISTANT:", **FIND),
)


TestCrop = contract(LlavaAdapter, GOLDEN, lambda folder: tiny_llava(folder, merges=MERGES))
TestPad = contract(
    LlavaAdapter, GOLDEN, lambda folder: tiny_llava(folder, geometry="pad", merges=MERGES)
)


class TestCropSwitchedToPad(
    contract(LlavaAdapter, GOLDEN, lambda folder: tiny_llava(folder, merges=MERGES, seed=1))
):
    options: ClassVar = {"geometry": "pad"}

    def test_says_so(self, opened):
        assert "padded to a square" in opened.model.statements[0]


real_grid = checkpoint(tiny_llava, image_size=336, layers=2, hidden=32)


def test_the_real_grid_is_24_by_24_and_its_ends_are_invisible(real_grid):
    opened = opens(LlavaAdapter, real_grid)
    shows(opened, (640, 480), (24, 24), (80.0, 0.0, 560.0, 480.0))
    assert "outside is never found" in opened.model.statements[0]


def test_the_real_grid_padded_shows_the_whole_picture(real_grid):
    opened = opens(LlavaAdapter, real_grid, geometry="pad")
    shows(opened, (640, 480), (24, 24), (0.0, -80.0, 640.0, 560.0))
    shows(opened, (101, 50), (24, 24), (0.0, -25.0, 101.0, 76.0))
    with pytest.raises(PictureError, match="cut it first"):
        views(opened, (1, 40_000))


def test_strips_are_cut_before_they_are_enlarged(real_grid):
    (view,) = views(opens(LlavaAdapter, real_grid), (1, 5000))
    assert view.extent == (0.0, 2499.5, 1.0, 2500.5)


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (335, 337), (640, 427), (1, 5000)])
def test_cropped_pixels_are_the_ones_that_the_processor_kept(real_grid, size):
    """A gradient goes through the processor; its values tell where each pixel came from."""
    opened = opens(LlavaAdapter, real_grid)
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
    opened = opens(LlavaAdapter, tiny_llava(tmp_path / "m", layers=1))
    images = opened.model.processor.image_processor
    images.size = type(images.size)(shortest_edge=51)
    inputs = opened.prepare([Picture(np.full((40, 60, 3), 255, np.uint8))], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    shown = inputs.tensors["pixel_values"][0, 0] > 0
    rows, cols = (np.flatnonzero(shown.any(axis).numpy()) for axis in (1, 0))
    left, top, right, bottom = view.to_original.inverse_box((0.0, 0.0, 60.0, 40.0))
    assert (rows[0], rows[-1] + 1) == pytest.approx((top * 14, bottom * 14), abs=1e-6)
    assert (cols[0], cols[-1] + 1) == pytest.approx((left * 14, right * 14), abs=0.51)


def test_unknown_options_are_refused(real_grid):
    with pytest.raises(InputError, match="did you mean geometry"):
        opens(LlavaAdapter, real_grid, geometri="pad")
    with pytest.raises(InputError, match="choose crop or pad"):
        opens(LlavaAdapter, real_grid, geometry="stretch")


def test_a_processor_of_another_size_is_refused_with_both_numbers(tmp_path):
    opened = opens(LlavaAdapter, tiny_llava(tmp_path / "m", layers=1))
    opened.model.processor.num_additional_image_tokens = 2
    inputs = ask(opened)
    opened.model.processor.num_additional_image_tokens = 1
    with pytest.raises(TokenCountError, match=r"expected 64 image tokens .* made 65"):
        opened.views(inputs)


def test_class_token_that_is_kept_is_no_cell(tmp_path):
    folder = tiny_llava(tmp_path / "m", layers=1)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('strategy": "default"', 'strategy": "full"'))
    opened = opens(LlavaAdapter, folder)
    assert opened.model.module.config.vision_feature_select_strategy == "full"
    inputs = ask(opened)
    ids = inputs.tensors["input_ids"][0]
    image = (ids == ids.max()).nonzero().ravel()
    (view,) = opened.views(inputs)[0]
    assert len(image) == 65
    assert view.positions.min() == image[1]
    opened.rows(inputs)


def test_llava_v1_says_where_a_picture_begins_and_ends(tmp_path):
    """Its config says so, as `vg-engine convert` writes it."""
    folder = tiny_llava(tmp_path / "v1", layers=1)
    with edited(folder / "config.json") as config:
        config["mm_use_im_start_end"] = True
    opened = opens(LlavaAdapter, folder)
    inputs = ask(opened, prompt=Prompt(system="Look."))
    text = inputs.rendered[0].replace("<image>" * 64, "<image>")
    assert text == "Look. <im_start><image><im_end>\nit."


SETTINGS = fields("""image_token=<image> num_additional_image_tokens=1 patch_size=14
    processor_class=LlavaProcessor vision_feature_select_strategy=default""")


@pytest.mark.parametrize("settings", [None, {"processor_class": "LlavaProcessor"}, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, same_rows, clip, settings):
    """llava-hf/llava-1.5-7b-hf: its first form, a later one, and today's (seen on copies)."""
    folder = tiny_llava(tmp_path / "m", image_size=336, layers=1, hidden=32)
    same_rows(LlavaAdapter, folder, clip, settings=settings, renamed=RENAMED)
