"""Auto: what it measures, assumes and refuses; its contract on models that it was not told of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from building import square
from families import VICUNA, ask, checkpoint, contract, opens, prompted, views
from PIL import Image

from vg_engine.core.errors import InputError, PictureError, TokenCountError, UnsupportedModelError
from vg_engine.model_adapters.families.auto import AutoAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import probe_geometry
from vg_engine.testing import open_adapter
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

GOLDEN = (
    prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
    prompted("USER: <image>\nit. ASSISTANT:", "it"),
)


class FromMemory(AutoAdapter):
    """The contract asks for `claims`; auto is chosen by name, never by a config."""

    @classmethod
    def claims(cls, config):
        return config.get("model_type") == "llava"


folder = checkpoint(tiny_llava)
TestCrop = contract(FromMemory, GOLDEN, tiny_llava)
TestPad = contract(
    FromMemory,
    GOLDEN,
    lambda folder: tiny_llava(folder, geometry="pad"),
    pytestmark=pytest.mark.slow,
)
SIZE = square(56)


def process(images):
    """An image processor by itself."""

    def made(picture):
        shown = [Image.fromarray(picture.pixels)]
        return images(images=shown, return_tensors="pt")["pixel_values"]

    return made


class Laying:
    """An image processor that lays pictures down by a rule of its own."""

    def __init__(self, rule):
        self.rule = rule

    def __call__(self, images, **_):
        shown = np.stack([np.asarray(self.rule(image), np.float32) for image in images])
        return {"pixel_values": torch.from_numpy(shown).permute(0, 3, 1, 2) / 255 - 0.5}


def fitted(image, canvas=(56, 56), at=(0.5, 0.5), least=1):
    """The shape kept, somewhere on a canvas."""
    scale = min(canvas[0] / image.width, canvas[1] / image.height)
    size = [max(least, round(side * scale)) for side in image.size]
    whole = Image.new("RGB", canvas, (9, 9, 9))
    rooms = [room - side for room, side in zip(canvas, size, strict=True)]
    left, top = (room // 2 if at[0] == 0.5 else 0 for room in rooms)
    whole.paste(image.resize(size, Image.Resampling.BICUBIC), (left, top))
    return whole


SIDES = square(336)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (hf.CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=SIZE), "crop"),
        (hf.CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=SIDES), "crop"),
        (hf.LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 56}, crop_size=SIZE), "pad"),
        (hf.SiglipImageProcessorPil(size=SIZE), "squash"),
        (hf.SiglipImageProcessorPil(size={"height": 40, "width": 90}), "squash"),
        (Laying(fitted), "pad"),
        (Laying(lambda image: fitted(image, at=(0, 0))), "pad_end"),
    ],
)
def test_geometry_is_measured(images, expected):
    assert probe_geometry.geometry_of(process(images), flat=False) == expected


@pytest.mark.parametrize(
    "images",
    [
        # Enlarged first, and the middle cut out of that: more is lost than by a centre crop.
        hf.CLIPImageProcessorPil(size={"shortest_edge": 80}, crop_size=SIZE),
        hf.CLIPImageProcessorPil(size={"shortest_edge": 340}, crop_size=SIDES),
        hf.CLIPImageProcessorPil(size={"shortest_edge": 400}, crop_size=SIZE),
        # A border around what was squashed, and canvases that are no square.
        hf.CLIPImageProcessorPil(size=square(50), crop_size=SIZE),
        Laying(lambda image: fitted(image, canvas=(90, 40))),
        Laying(lambda image: fitted(image, canvas=(90, 40), at=(0, 0))),
        Laying(lambda image: image.resize((56, 56)).transpose(Image.Transpose.ROTATE_90)),
        Laying(lambda image: image.resize((56, 56)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    ],
)
def test_a_geometry_that_is_none_of_the_usual_is_refused(images):
    with pytest.raises(UnsupportedModelError, match="geometry is none of squash, crop"):
        probe_geometry.geometry_of(process(images), flat=False)


STEPS = Laying(lambda image: image.resize([max(8, side // 8 * 8) for side in image.size]))


@pytest.mark.parametrize("images", [hf.SiglipImageProcessorPil(do_resize=False), STEPS])
def test_canvases_of_several_shapes_are_refused(images):
    """Their tokens may make a square by chance."""
    with pytest.raises(UnsupportedModelError, match="canvases of several shapes"):
        probe_geometry.geometry_of(process(images), flat=False)
    assert probe_geometry.geometry_of(process(images), flat=True) == "squash"


def test_sizes_are_looked_at_when_they_are_met(folder, monkeypatch):
    """This processor, like DeepSeek-VL's, keeps strips wider than their share."""
    opened = opens(AutoAdapter, folder)
    processor = opened.model.processor
    processor.image_processor = Strips(processor.image_processor)
    module = hf.AutoModelForImageTextToText.from_pretrained(folder)
    opened = open_adapter(AutoAdapter(), "", module=module, processor=processor)
    for size in ((300, 170), (56, 56), (170, 300)):
        views(opened, size)
    with pytest.raises(PictureError, match=r"400 x 4 is not padded .* resize or cut it"):
        views(opened, (400, 4))


class Strips(Laying):
    """Padded, and never thinner than 14 pixels."""

    def __init__(self, images):
        super().__init__(lambda image: fitted(image, (images.crop_size["height"],) * 2, least=14))
        self.size = self.crop_size = images.crop_size
        self.fetch_images = list


def test_patches_that_are_filled_up_or_cut_are_refused():
    """Patches come flat and in no known order, but border is border."""

    def flat(width):
        def made(picture):
            image = Image.fromarray(picture.pixels).resize((56, 56))
            whole = Image.new("RGB", (width, 56))
            whole.paste(image)
            values = torch.from_numpy(np.array(whole, np.float32))
            return values.reshape(56, width // 14, 14 * 3).reshape(-1, 14 * 3)

        return made

    def cut(picture):
        image = Image.fromarray(picture.pixels).resize((60, 60)).crop((2, 0, 58, 60))
        return torch.from_numpy(np.array(image, np.float32)).reshape(-1, 14 * 3)

    with pytest.raises(UnsupportedModelError, match="geometry is none of"):
        probe_geometry.geometry_of(cut, flat=True)
    assert probe_geometry.geometry_of(flat(56), flat=True) == "squash"
    with pytest.raises(UnsupportedModelError, match="patches that are 80% picture"):
        probe_geometry.geometry_of(flat(70), flat=True)


def test_what_was_measured_told_and_assumed_is_said(folder):
    """The option is `geometry`; a wrong one is used, with a note."""
    description = " ".join(opens(AutoAdapter, folder).model.statements)
    assert "cut to a square around its centre" in description
    assert "(measured)" in description
    assert "8 x 8 tokens are read row by row from the top; no contract was run" in description
    opened = opens(AutoAdapter, folder, geometry="squash")
    assert "(as told, though it measures as crop)" in " ".join(opened.model.statements)
    with pytest.raises(InputError, match="did you mean squash"):
        opens(AutoAdapter, folder, geometry="squashed")


def test_tiles_whose_tokens_make_a_square_are_refused(tmp_path):
    """A picture three times as wide as high becomes four tiles, whose tokens make one square."""
    folder = tiny_internvl(tmp_path / "tiny", max_tiles=3)
    with pytest.raises(UnsupportedModelError, match="3 pictures out of one"):
        opens(AutoAdapter, folder)
    with pytest.raises(UnsupportedModelError, match="7 pictures out of one"):
        opens(AutoAdapter, tiny_internvl(tmp_path / "more"))
    told = opens(AutoAdapter, folder, geometry="squash")
    with pytest.raises(TokenCountError, match="64 image tokens for one picture and 16"):
        views(told, (600, 200))


def test_another_number_of_tokens_than_before_is_refused(folder):
    opened = opens(AutoAdapter, folder)
    inputs = ask(opened)
    ids = inputs.tensors["input_ids"].clone()
    ids[0, :36] = ids[0, -1]
    ids[ids == opened.model.module.config.image_token_id] = ids[0, -1]
    ids[0, :36] = opened.model.module.config.image_token_id
    changed = replace(inputs, tensors={**inputs.tensors, "input_ids": ids})
    with pytest.raises(TokenCountError, match="36 image tokens for one picture and 64 for another"):
        opened.views(changed)


def test_what_a_model_raises_is_one_line(folder, monkeypatch):

    def broken(*_):
        raise TypeError("unsupported operand\ntype(s)")

    monkeypatch.setattr(AutoAdapter, "position_ids", broken)
    with pytest.raises(UnsupportedModelError, match=r"auto cannot use .* \(TypeError: unsupported"):
        opens(AutoAdapter, folder)


def test_maps_are_those_of_the_adapter_that_knows_the_family(folder):
    found = []
    for adapter in (AutoAdapter, LlavaAdapter):
        opened = opens(adapter, folder)
        inputs = ask(opened, (300, 170), "the cup")
        (view,) = opened.views(inputs)[0]
        found.append((view, opened.rows(inputs)[0]))
    (auto, rows), (known, expected) = found
    assert (auto.positions == known.positions).all()
    assert auto.extent == pytest.approx(known.extent, abs=1.0)
    assert torch.equal(rows, expected)


def test_token_counts_that_form_no_square_are_refused_and_may_be_declared(folder):
    plain = hf.AutoModelForImageTextToText.from_pretrained(folder)
    opened = opens(AutoAdapter, folder)
    inputs = ask(opened)
    short = AutoAdapter()
    short.image_positions = lambda *_: AutoAdapter.image_positions(short, *_)[:32]
    with pytest.raises(TokenCountError, match=r"32 image tokens form no square.*rows=\.\.\., cols"):
        open_adapter(short, str(folder))
    declared = opens(AutoAdapter, folder, rows=4, cols=16)
    assert declared.views(inputs)[0][0].shape == (4, 16)
    with pytest.raises(TokenCountError, match="expected 35 image tokens"):
        opens(AutoAdapter, folder, rows=5, cols=7)
    more = {"options": {"rows": 5, "cols": 7}, "processor": opened.model.processor}
    # What failed gave the model back.
    with pytest.raises(TokenCountError):
        open_adapter(AutoAdapter(), "", module=plain, **more)
    assert plain.model.language_model.config._attn_implementation == "sdpa"


def test_a_model_type_without_a_processor_is_refused(tmp_path):
    folder = tiny_llava(tmp_path / "tiny")
    config = (folder / "config.json").read_text().replace('"llava"', '"llama"')
    (folder / "config.json").write_text(config)
    with pytest.raises(UnsupportedModelError, match="no processor for models of type 'llama'"):
        opens(AutoAdapter, folder)
