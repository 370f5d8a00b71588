"""Nemotron 3 Nano Omni passes the public contract: Mamba layers, a tower with register tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.nemotron_h_omni.configuration_nemotron_h_omni import (
    NemotronH_Omni_Reasoning_V3_Config,
)
from transformers.models.nemotron_h_omni.image_processing_nemotron_h_omni import (
    NemotronH_Omni_Reasoning_V3ImageProcessor,
)
from transformers.models.nemotron_h_omni.modeling_nemotron_h_omni import (
    NemotronH_Omni_Reasoning_V3,
)
from transformers.models.nemotron_h_omni.processing_nemotron_h_omni import (
    NemotronH_Omni_Reasoning_V3Processor,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.nemotron_h_omni import NemotronHOmniAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 270))
NAMED = {
    "image_token": "<image>",
    "image_start_token": "<img>",
    "image_end_token": "</img>",
    "video_token": "<video>",
    "audio_token": "<so_embedding>",
}
KINDS = ["linear_attention", "full_attention", "moe", "mlp", "full_attention"]
PICTURE = "<img><image></img>"
# The turns are ChatML's, from memory; thinking is left out.
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
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


def tiny(folder: Path, *, patch: int = 8, patches: tuple[int, int] = (16, 200)) -> Path:
    """A tiny one; patches of 16, 1,024 to 13,312 of them, are the real numbers."""
    tokenizer = byte_tokenizer(
        ["<unk>", "<|im_start|>", "<|im_end|>", *NAMED.values()],
        pad_token="<|im_end|>",
        eos_token="<|im_end|>",
        extra_special_tokens=NAMED | {"start": "<|im_start|>"},
    )
    images = NemotronH_Omni_Reasoning_V3ImageProcessor(
        patch_size=patch, min_num_patches=patches[0], max_num_patches=patches[1]
    )
    made: Any = without_video(NemotronH_Omni_Reasoning_V3Processor)
    processor = made(images, None, tokenizer, chat_template=CHAT)
    sizes = text_sizes(tokenizer, layers=len(KINDS))
    del sizes["num_hidden_layers"]
    config = NemotronH_Omni_Reasoning_V3_Config(
        text_config={
            **sizes,
            "model_type": "nemotron_h",
            "layers_block_type": list(KINDS),
            "head_dim": 16,
            "ssm_state_size": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 2,
            "chunk_size": 16,
            "n_routed_experts": 4,
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 32,
        },
        vision_config={
            "model_type": "radio",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": patch,
            "max_img_size": 32 * patch,
            "video_temporal_patch_size": 2,
        },
        audio_config=None,
        vision_hidden_size=32,
        projector_hidden_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        audio_token_id=tokenizer.convert_tokens_to_ids("<so_embedding>"),
    )
    torch.manual_seed(0)
    return save_tiny(NemotronH_Omni_Reasoning_V3(config), processor, folder)


class TestNemotronHOmni(AdapterContract):
    adapter = NemotronHOmniAdapter
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)

    def test_only_layers_that_attend_have_heads(self, opened):
        assert {head.layer for head in opened.model.all_heads} == {1, 4}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron") / "16"
    return open_adapter(NemotronHOmniAdapter(), str(tiny(folder, patch=16, patches=(1024, 13312))))


def test_a_photograph_keeps_its_shape(real):
    ((view,),) = real.views(real.prepare([noise((640, 470))], [Expression(0, "it")]))
    assert view.shape == (15, 20)
    assert view.extent == pytest.approx((0.0, 0.0, 640.0, 470.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    inputs = real.prepare([noise((640, 480))], [Expression(0, "it")])
    images = real.model.processor.image_processor
    images.downsample_ratio = 1.0
    try:
        with pytest.raises(TokenCountError, match=r"expected 1200 image tokens .* made 300"):
            real.views(inputs)
    finally:
        images.downsample_ratio = 0.5
