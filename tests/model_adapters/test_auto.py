"""Auto: what it measures, assumes and refuses; its contract on models that it was not told of."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vg_engine.core.errors import InputError, TokenCountError, UnsupportedModelError
from vg_engine.core.types import Expression, Prompt
from vg_engine.model_adapters import measured
from vg_engine.model_adapters.auto import AutoAdapter
from vg_engine.model_adapters.llava import LlavaAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

BARE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. <image>\nthe cup."
)
GOLDEN = (
    Golden("the cup", Prompt(), BARE, rows=(13,)),
    Golden("it", Prompt("chat"), "USER: <image>\nit. ASSISTANT:", rows=(13,)),
)


class FromMemory(AutoAdapter):
    """The contract asks for `claims`; auto is chosen by name, never by a config."""

    @classmethod
    def claims(cls, config):
        return config.get("model_type") == "llava"


class TestCrop(AdapterContract):
    adapter = FromMemory
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_llava(folder)


class TestPad(AdapterContract):
    adapter = FromMemory
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_llava(folder, geometry="pad")


SIZE = {"height": 56, "width": 56}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=SIZE), "crop"),
        (LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 56}, crop_size=SIZE), "pad"),
        (SiglipImageProcessorPil(size=SIZE), "squash"),
    ],
)
def test_geometry_is_measured(images, expected):
    assert measured.geometry_of(images) == expected


def test_a_geometry_that_is_none_of_the_usual_is_refused():
    # Enlarged to 80 first, and 56 of these cut out: more is lost than a centre crop would lose.
    images = CLIPImageProcessorPil(size={"shortest_edge": 80}, crop_size=SIZE)
    with pytest.raises(UnsupportedModelError, match="geometry is none of squash, crop"):
        measured.geometry_of(images)


def test_what_was_measured_and_assumed_is_said(tmp_path):
    opened = open_adapter(AutoAdapter(), str(tiny_llava(tmp_path / "tiny")))
    said = " ".join(opened.model.statements)
    assert "cut to a square around its centre" in said
    assert "(measured)" in said
    assert "8 x 8 tokens are read row by row from the top; no contract was run" in said


def test_maps_are_those_of_the_adapter_that_knows_the_family(tmp_path):
    folder = str(tiny_llava(tmp_path / "tiny"))
    pictures, asked = [noise((300, 170))], [Expression(0, "the cup")]
    found = []
    for adapter in (AutoAdapter(), LlavaAdapter()):
        opened = open_adapter(adapter, folder)
        inputs = opened.prepare(pictures, asked)
        (view,) = opened.views(inputs)[0]
        found.append((view, opened.rows(inputs)[0]))
    (auto, rows), (known, expected) = found
    assert (auto.positions == known.positions).all()
    assert auto.extent == pytest.approx(known.extent, abs=1.0)
    assert torch.equal(rows, expected)


def test_tiles_are_refused(tmp_path):
    """InternVL's processor makes several pictures out of one."""
    folder = tiny_internvl(tmp_path / "tiny")
    with pytest.raises((UnsupportedModelError, TokenCountError)):
        open_adapter(AutoAdapter(), str(folder))


def test_token_counts_that_form_no_square_are_refused_and_may_be_declared(tmp_path):
    folder = str(tiny_llava(tmp_path / "tiny"))
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    opened = open_adapter(AutoAdapter(), folder)
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    short = AutoAdapter()
    short.image_positions = lambda *_: AutoAdapter.image_positions(short, *_)[:32]
    with pytest.raises(TokenCountError, match=r"32 image tokens form no square.*rows=\.\.\., cols"):
        short.vg_locate_image_tokens(opened.model, inputs)
    declared = open_adapter(AutoAdapter(), folder, options={"rows": 4, "cols": 16})
    assert declared.views(inputs)[0][0].shape == (4, 16)
    with pytest.raises(TokenCountError, match="expected 35 image tokens"):
        open_adapter(AutoAdapter(), folder, options={"rows": 5, "cols": 7})
    # What failed gave the model back.
    with pytest.raises(TokenCountError):
        open_adapter(
            AutoAdapter(),
            "",
            options={"rows": 5, "cols": 7},
            module=plain,
            processor=opened.model.processor,
        )
    assert plain.model.language_model.config._attn_implementation == "sdpa"


def test_an_unknown_geometry_is_refused(tmp_path):
    folder = str(tiny_llava(tmp_path / "tiny"))
    with pytest.raises(InputError, match="did you mean squash"):
        open_adapter(AutoAdapter(), folder, options={"geometry": "squashed"})


def test_a_model_type_without_a_processor_is_refused(tmp_path):
    folder = tiny_llava(tmp_path / "tiny")
    config = (folder / "config.json").read_text().replace('"llava"', '"llama"')
    (folder / "config.json").write_text(config)
    with pytest.raises(UnsupportedModelError, match="no processor for models of type 'llama'"):
        open_adapter(AutoAdapter(), str(folder))
