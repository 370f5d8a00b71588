"""Perception LM passes the public contract: a thumbnail, then tiles, batches of several counts.

Its tower is timm's, which needs torchvision itself: a CLIP tower with a class token, too, takes
its place here. So this shows prompts, geometry and rows, and nothing about timm.
"""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMProcessor,
)
from transformers.models.perception_lm.image_processing_perception_lm import (
    PerceptionLMImageProcessor,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, TokenCountError
from vg_engine.model_adapters.families.perception_lm import PerceptionLMAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
NAMED = {"image_token": "<|image|>", "video_token": "<|video|>"}
HEADS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
# The turns are Llama 3's; from memory.
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<|image|>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(system="Look."), "Look. <|image|>\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat", system="See."),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSee.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<|image|>which cup?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        rows=(30,),
    ),
)


def tiny(folder: Path, *, side: int = 56, patch: int = 7, most: int = 4, layers: int = 3) -> Path:
    """A tiny Perception LM; 448 pixels, patches of 14 and 36 tiles are the real numbers."""
    tokenizer = byte_tokenizer(
        ["<|end_of_text|>", *HEADS, *NAMED.values()],
        pad_token="<|end_of_text|>",
        bos_token=HEADS[0],
        eos_token="<|eot_id|>",
        extra_special_tokens=NAMED | {"start": HEADS[1], "end": HEADS[2]},
    )
    images = PerceptionLMImageProcessor(tile_size=side, max_num_tiles=most)
    processor = without_video(PerceptionLMProcessor)(
        None, images, tokenizer, patch_size=patch, pooling_ratio=2, chat_template=CHAT
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=side,
        patch_size=patch,
        model_args={"embed_dim": 32},  # where the projector looks, as timm's have it
    )
    config = PerceptionLMConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_sizes(tokenizer, layers=layers)),
        projector_pooling_ratio=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    torch.manual_seed(0)
    return save_tiny(PerceptionLMForConditionalGeneration(config), processor, folder)


class TestPerceptionLM(AdapterContract):
    adapter = PerceptionLMAdapter
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


class TestWithoutTiles(AdapterContract):
    adapter = PerceptionLMAdapter
    options: ClassVar = {"max_tiles": 1}
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plm") / "448"
    return tiny(folder, side=448, patch=14, most=36, layers=1)


def test_a_photograph_is_enlarged_to_many_tiles(real):
    opened = open_adapter(PerceptionLMAdapter(), str(real), options={"max_tiles": 6})
    (found,) = opened.views(opened.prepare([noise((640, 480))], [Expression(0, "it")]))
    names = [f"tile {row},{col}" for row in range(2) for col in range(3)]
    assert [view.name for view in found] == ["thumbnail", *names]
    assert {view.shape for view in found} == {(16, 16)}
    assert found[2].extent == pytest.approx((640 / 3, 0.0, 1280 / 3, 240.0))


def test_wrong_numbers_of_tiles_are_refused(real):
    with pytest.raises(InputError, match="give a number from 1 on"):
        open_adapter(PerceptionLMAdapter(), str(real), options={"max_tiles": "many"})


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = open_adapter(PerceptionLMAdapter(), str(real), options={"max_tiles": 1})
    opened.model.processor.pooling_ratio = 1
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    with pytest.raises(TokenCountError, match=r"expected 256 image tokens .* made 1024"):
        opened.views(inputs)
