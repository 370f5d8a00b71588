"""Gemma 4 without a vision tower passes the public contract."""

from typing import Any

import pytest
import torch
import transformers as hf
from building import fields, text_part, vocabulary
from families import contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.gemma4_unified import Gemma4UnifiedAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing.tiny import save_tiny

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
# Gemma 4's template for a question about one picture, without thinking.
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '<|turn>' + message['role'] + '\n' }}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<|image|>' }}"
    "{% else %}{{ item['text'] | trim }}{% endif %}{% endfor %}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)
PICTURE = "<|image><|image|><image|>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"<bos><|turn>system\nSee.<turn|>\n<|turn>user\n{PICTURE}which cup?<turn|>\n<|turn>model\n",
        "which cup?",
        system="See.",
    ),
)
NAMED = fields("""image_token=<|image|> boi_token=<|image> eoi_token=<image|>
        audio_token=<|audio|> boa_token=<|audio> eoa_token=<audio|>""")


def tiny(folder, *, patch=4, budget=70, layers=4):
    """A tiny one; patches of 16 and 280 tokens are the real numbers."""
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos> <|turn> <turn|>", NAMED)
    images = hf.Gemma4UnifiedImageProcessor(patch_size=patch, max_soft_tokens=budget)
    made: Any = without_video(hf.Gemma4UnifiedProcessor)
    processor = made(None, images, tokenizer, None, chat_template=CHAT)
    config = hf.Gemma4UnifiedConfig(
        text_config=hf.Gemma4UnifiedTextConfig(
            **text_part(tokenizer, layers=layers),
            head_dim=16,
            global_head_dim=32,
            # A window that ends inside the picture.
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"] * (layers // 2),
        ),
        vision_config=hf.Gemma4UnifiedVisionConfig(
            patch_size=patch, mm_embed_dim=64, mm_posemb_size=128, output_proj_dims=64
        ),
        audio_config=None,
        image_token_id=tokenizer.image_token_id,
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=tokenizer.eoi_token_id,
        audio_token_id=tokenizer.audio_token_id,
        video_token_id=processor.video_token_id,
    )
    torch.manual_seed(0)
    module = hf.Gemma4UnifiedForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed, and their products not scaled: sharp as they are.
        if name.endswith("q_norm.weight"):
            torch.nn.init.constant_(parameter, 0.6)
    return save_tiny(module, processor, folder)


class TestGemma4Unified(contract(Gemma4UnifiedAdapter, GOLDEN, tiny)):
    shapes = SHAPES

    def unmix(self, opened):
        """Nothing mixes patches before the decoder does."""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unified") / "280"
    return opens(Gemma4UnifiedAdapter, tiny(folder, patch=16, budget=280, layers=2))


def test_a_photograph_fills_the_budget_and_keeps_its_shape(real):
    shows(real, (640, 480), (14, 19), (0.0, 0.0, 640.0, 480.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    refuses(real, "image_processor.max_soft_tokens", 70, (63, 266), (640, 480))
