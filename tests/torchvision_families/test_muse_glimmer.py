"""Muse Glimmer passes the public contract: windows, and layers without positions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    MuseGlimmerConfig,
    MuseGlimmerForConditionalGeneration,
    MuseGlimmerProcessor,
)
from transformers.models.muse_glimmer.image_processing_muse_glimmer import (
    MuseGlimmerImageProcessor,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.muse_glimmer import MuseGlimmerAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
SPECIAL = (
    *("<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>", "<|patch|>"),
    *("<|image_start|>", "<|image_end|>", "<|video|>"),
)
PICTURE = "<|image_start|><|patch|><|image_end|>"
# The turns are Llama 4's, whose marks it shares; from memory: its own could not be looked up.
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|header_start|>' + message['role'] + '<|header_end|>\n\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<|patch|>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|header_start|>assistant<|header_end|>\n\n' }}{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(system="Look."), f"Look. {PICTURE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat", system="See."),
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nSee.<|eot|>"
        f"<|header_start|>user<|header_end|>\n\n{PICTURE}which cup?<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n",
        rows=(30,),
    ),
)


def tiny(folder: Path, *, patch: int = 7, most: int = 60, layers: int = 4) -> Path:
    """A tiny Muse Glimmer; patches of 14 and 4,096 tokens are the real numbers."""
    tokenizer = byte_tokenizer(
        SPECIAL,
        pad_token="<|eot|>",
        bos_token=SPECIAL[0],
        eos_token="<|eot|>",
        extra_special_tokens={token.strip("<|>"): token for token in SPECIAL[2:]},
    )
    images = MuseGlimmerImageProcessor(patch_size=patch, max_image_tokens=most)
    made: Any = without_video(MuseGlimmerProcessor)
    processor = made(images, None, tokenizer, chat_template=CHAT)
    config = MuseGlimmerConfig(
        text_config={
            **text_sizes(tokenizer, layers=layers),
            "head_dim": 16,
            "sliding_window": 24,
            "qk_scale_factor": 2.5,  # queries and keys have norms without weights
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": patch,
            "pos_emb_height": 16,
            "pos_emb_width": 16,
        },
        out_hidden_size=128,
        projector_hidden_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|patch|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    torch.manual_seed(0)
    return save_tiny(MuseGlimmerForConditionalGeneration(config), processor, folder)


class TestMuseGlimmer(AdapterContract):
    adapter = MuseGlimmerAdapter
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("muse") / "14"
    return open_adapter(MuseGlimmerAdapter(), str(tiny(folder, patch=14, most=4096, layers=1)))


def test_a_photograph_keeps_its_shape_as_well_as_cells_can(real):
    ((view,),) = real.views(real.prepare([noise((640, 480))], [Expression(0, "it")]))
    assert view.shape == (17, 23)
    assert view.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    inputs = real.prepare([noise((280, 280))], [Expression(0, "it")])
    images = real.model.processor.image_processor
    images.merge_size = 1
    try:
        with pytest.raises(TokenCountError, match=r"expected 400 image tokens .* made 100"):
            real.views(inputs)
    finally:
        images.merge_size = 2
