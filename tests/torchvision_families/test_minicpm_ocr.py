"""MiniCPM-OCR passes the public contract: overview, slices, linear attention."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MiniCPMOcrConfig, MiniCPMOcrForConditionalGeneration
from transformers.models.minicpm_ocr.image_processing_minicpm_ocr import MiniCPMOcrImageProcessor

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.minicpm_ocr import MiniCPMOcrAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import (
    END_OF_TEXT,
    END_OF_TURN,
    byte_tokenizer,
    save_tiny,
    text_sizes,
)
from vg_engine.testing.tiny_qwen import sharpen_norms

SHAPES = ((120, 120), (130, 60), (50, 110), (40, 60), (200, 150))
NAMED = {
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
    "image_start": "<image>",
    "image_end": "</image>",
    "slice_start": "<slice>",
    "slice_end": "</slice>",
    "image_id_start": "<image_id>",
    "image_id_end": "</image_id>",
}
PICTURE = "<image_id>0</image_id><image><|image_pad|></image>"
# The turns of MiniCPM-V 4.6, whose tokenizer it shares; its own template was not to be found.
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<|image_pad|>\n' }}{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(system="Look."), f"Look. {PICTURE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat", system="See."),
        f"<|im_start|>system\nSee.<|im_end|>\n<|im_start|>user\n{PICTURE}\nwhich cup?<|im_end|>\n"
        "<|im_start|>assistant\n",
        rows=(30,),
    ),
)
LINEAR = {
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


def tiny(folder: Path, *, patch: int = 4, slices: int = 4, resolution: int = 64, **more: Any):
    """8 pixels per token, and slices of about 64 x 64; 14, 448 and 9 are the real numbers."""
    tokenizer = byte_tokenizer(
        [END_OF_TEXT, END_OF_TURN, "<|im_start|>", *NAMED.values()],
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        extra_special_tokens={f"{name}_token": token for name, token in NAMED.items()},
        padding_side="left",
    )
    rope = {
        "rope_type": "default",
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.25,
    }
    config = MiniCPMOcrConfig(
        text_config={
            **text_sizes(tokenizer, layers=4),
            **LINEAR,
            "model_type": "qwen3_5_text",
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "head_dim": 32,
            "rope_parameters": rope,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 16 * patch,
            "patch_size": patch,
        },
        insert_layer_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids(NAMED["image"]),
        video_token_id=tokenizer.convert_tokens_to_ids(NAMED["video"]),
    )
    torch.manual_seed(0)
    module = MiniCPMOcrForConditionalGeneration(config)
    sharpen_norms(module.get_decoder(), 2.0)
    images = MiniCPMOcrImageProcessor(
        patch_size=patch, scale_resolution=resolution, max_slice_nums=slices, **more
    )
    made: Any = without_video(MiniCPMOcrAdapter.processor_class)
    processor = made(images, None, tokenizer, chat_template=CHAT)
    return save_tiny(module, processor, folder)


class TestMiniCPMOcr(AdapterContract):
    adapter = MiniCPMOcrAdapter
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minicpm") / "448"
    return tiny(folder, patch=14, slices=9, resolution=448, small_image_upsize="adaptive")


def test_a_photograph_has_an_overview_and_slices_and_nothing_is_chosen_by_letters(real):
    opened = open_adapter(MiniCPMOcrAdapter(), str(real))
    assert "enlarged" in opened.model.statements[-1]
    (found,) = opened.views(opened.prepare([noise((640, 480))], [Expression(0, "it")]))
    assert [view.name for view in found] == ["overview", "tile 0,0", "tile 0,1"]
    assert {view.shape for view in found[1:]} == {(20, 13)}
    assert found[2].extent == pytest.approx((320.0, 0.0, 640.0, 480.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = open_adapter(MiniCPMOcrAdapter(), str(real), options={"max_tiles": 1})
    inputs = opened.prepare([noise((448, 448))], [Expression(0, "it")])
    opened.model.processor.image_processor.downsample_mode = "16x"
    with pytest.raises(TokenCountError, match=r"expected 64 image tokens .* made 256"):
        opened.views(inputs)
