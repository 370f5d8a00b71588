"""Command A Vision passes the public contract: tiles with breaks, layers that see a window."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionProcessor,
    SiglipVisionConfig,
)
from transformers.models.cohere2_vision.image_processing_cohere2_vision import (
    Cohere2VisionImageProcessor,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.cohere2_vision import Cohere2VisionAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
WINDOW = 40  # shorter than most sequences here
TURN, END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
NAMED = {
    "boi_token": "<|START_OF_IMG|>",
    "eoi_token": "<|END_OF_IMG|>",
    "image_token": "<|IMG_PATCH|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}
ROLES = ("<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>")
# The turns of other templates of Cohere, from memory; what the real one adds is left out.
CHAT = (
    "{{ bos_token }}{% for message in messages %}" + TURN + ""
    "{% if message['role'] == 'user' %}<|USER_TOKEN|>{% else %}<|SYSTEM_TOKEN|>{% endif %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|IMG_PATCH|>{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}" + TURN + "<|CHATBOT_TOKEN|>{% endif %}"
)
TILE = "<|IMG_PATCH|><|IMG_LINE_BREAK|>"
# 64 x 64 pixels are more than one tile of 56 pixels.
PICTURE = f"<|START_OF_IMG|>{TILE * 5}<|END_OF_IMG|>"
ONE = f"<|START_OF_IMG|>{TILE}<|END_OF_IMG|>"


def golden(picture: str) -> tuple[Golden, ...]:
    return (
        Golden("the cup", Prompt(system="Look."), f"Look. {picture}\nthe cup.", rows=(13,)),
        Golden(
            "which cup?",
            Prompt("chat", system="See."),
            f"<BOS_TOKEN>{TURN}<|SYSTEM_TOKEN|>See.{END}{TURN}<|USER_TOKEN|>{picture}which cup?"
            f"{END}{TURN}<|CHATBOT_TOKEN|>",
            rows=(30,),
        ),
    )


def tiny(folder: Path, *, side: int = 56, patch: int = 7, most: int = 4, layers: int = 4) -> Path:
    """A tiny Command A Vision; 512 pixels and patches of 16 make the real 16 x 16 cells."""
    tokenizer = byte_tokenizer(
        ["<PAD>", "<BOS_TOKEN>", TURN, END, *ROLES, *NAMED.values()],
        pad_token="<PAD>",
        bos_token="<BOS_TOKEN>",
        eos_token=END,
        extra_special_tokens={**NAMED, "turn_token": TURN},
        padding_side="left",
    )
    # What transformers calls the patch size here is how many cells a tile is wide.
    images = Cohere2VisionImageProcessor(
        size={"height": side, "width": side}, max_patches=most, patch_size=side // patch // 2
    )
    made: Any = Cohere2VisionProcessor
    processor = made(images, tokenizer, chat_template=CHAT)
    config = Cohere2VisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=side,
            patch_size=patch,
            vision_use_head=False,
        ),
        text_config=Cohere2Config(**text_sizes(tokenizer, layers=layers), sliding_window=WINDOW),
        downsample_factor=2,
        alignment_intermediate_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    torch.manual_seed(0)
    return save_tiny(Cohere2VisionForConditionalGeneration(config), processor, folder)


class TestCohere2Vision(AdapterContract):
    adapter = Cohere2VisionAdapter
    golden = golden(PICTURE)
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


class TestOneTile(AdapterContract):
    adapter = Cohere2VisionAdapter
    options: ClassVar = {"max_tiles": 1}
    golden = golden(ONE)
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("cohere2") / "512", side=512, patch=16, most=12, layers=1)
    return open_adapter(Cohere2VisionAdapter(), str(folder))


def test_a_photograph_has_sixteen_by_sixteen_cells_a_tile(real):
    (found,) = real.views(real.prepare([noise((640, 480))], [Expression(0, "it")]))
    assert [view.name for view in found] == ["tile 0,0", "tile 0,1", "thumbnail"]
    assert {view.shape for view in found} == {(16, 16)}
    assert found[1].extent == pytest.approx((320.0, 0.0, 640.0, 480.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    real.model.processor.patch_size = 8
    try:
        inputs = real.prepare([noise((64, 64))], [Expression(0, "it")])
        with pytest.raises(TokenCountError, match=r"expected 256 image tokens .* made 64"):
            real.views(inputs)
    finally:
        real.model.processor.patch_size = 16
