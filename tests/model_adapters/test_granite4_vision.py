"""Granite 4 Vision passes the public contract: blended cells, given to several layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Granite4VisionConfig,
    Granite4VisionForConditionalGeneration,
    Granite4VisionProcessor,
    SiglipVisionConfig,
)
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.granite4_vision import Granite4VisionAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

# From memory.
CHAT = (
    "{% for message in messages %}"
    "{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
POINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
LAYERS = 6


def tiny_granite4(folder: Path, *, tile: int = 112, first: int = 1, layers: int = LAYERS) -> Path:
    """Windows of 4 x 4 patches become 2 x 2 cells; the picture enters at layer `first`."""
    tokenizer = byte_tokenizer(
        ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<image>"],
        pad_token="<|end_of_text|>",
        bos_token="<|end_of_text|>",
        eos_token="<|end_of_text|>",
        extra_special_tokens=["<image>"],
        padding_side="left",
    )
    points = [[rows * tile, cols * tile] for rows, cols in POINTS]
    processor_class: Any = Granite4VisionProcessor
    processor = processor_class(
        LlavaNextImageProcessorPil(
            size={"height": tile, "width": tile},
            crop_size={"height": tile, "width": tile},
            image_grid_pinpoints=points,
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        downsample_rate="2/4",
        chat_template=CHAT,
    )
    made: Any = Granite4VisionConfig
    config = made(
        vision_config=SiglipVisionConfig(
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=tile,
            patch_size=14,
        ),
        text_config={
            **text_sizes(tokenizer, layers=layers),
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.5,
        },
        qformer_config={"model_type": "blip_2_qformer", "intermediate_size": 64}
        | {"num_hidden_layers": 1, "cross_attention_frequency": 1, "vocab_size": 8},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=points,
        vision_feature_select_strategy="full",
        downsample_rate="2/4",
        deepstack_layer_map=[[-2, first]],
        spatial_target_layers=[2, 3, 4, 5],
    )
    torch.manual_seed(0)
    return save_tiny(Granite4VisionForConditionalGeneration(config), processor, folder)


class TestGranite4Vision(AdapterContract):
    adapter = Granite4VisionAdapter
    golden = (
        Golden("the cup", Prompt(), f"{VICUNA} <image>\nthe cup.", rows=(13,)),
        Golden(
            "which cup?",
            Prompt("chat"),
            "<|start_of_role|>user<|end_of_role|><image>\nwhich cup?<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>",
            rows=(30,),
        ),
    )

    def build(self, folder: Path) -> None:
        tiny_granite4(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A tile of 336 pixels: 24 x 24 patches, and half as many cells either way."""
    return tiny_granite4(tmp_path_factory.mktemp("granite4") / "336", tile=336, first=0)


def test_real_sizes(real):
    opened = open_adapter(Granite4VisionAdapter(), str(real))
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")])
    image = opened.model.processor.image_token_id
    assert int((inputs.tensors["input_ids"] == image).sum()) == 12 * 12 + 18 * 25
    thumbnail, tiles = opened.views(inputs)[0]
    assert (thumbnail.shape, tiles.shape) == ((12, 12), (18, 24))
    assert tiles.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert "window of 2 x 2 cells (4 x 4 patches)" in opened.model.statements[1]


def test_layers_before_the_picture_have_no_map(real, tmp_path):
    assert open_adapter(Granite4VisionAdapter(), str(real)).model.map_layers is None
    later = open_adapter(Granite4VisionAdapter(), str(tiny_granite4(tmp_path / "m", first=1)))
    assert later.model.map_layers == (1, 2, 3, 4, 5)


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = open_adapter(Granite4VisionAdapter(), str(real))
    opened.model.processor.downsample_rate = None
    with pytest.raises(TokenCountError, match=r"expected 594 image tokens .* made 2340"):
        opened.views(opened.prepare([noise((640, 480))], [Expression(0, "it")]))
