"""Gemma 4 without a vision tower passes the public contract."""

import torch
import transformers as hf
from building import fields, processor_of, text_part, vocabulary
from families import contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.gemma4_unified import Gemma4UnifiedAdapter
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
ASKED = f"<bos><|turn>system\nSee.<turn|>\n<|turn>user\n{PICTURE}which cup?<turn|>\n<|turn>model\n"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(ASKED, "which cup?", system="See."),
)
KINDS = ("image", "boi", "eoi", "audio")
NAMED = fields("""image_token=<|image|> boi_token=<|image> eoi_token=<image|>
        audio_token=<|audio|> boa_token=<|audio> eoa_token=<audio|>""")


def tiny(folder, *, patch=4, budget=70, layers=4):
    """A tiny one; patches of 16 and 280 tokens are the real numbers."""
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos> <|turn> <turn|>", NAMED)
    images = hf.Gemma4UnifiedImageProcessor(patch_size=patch, max_soft_tokens=budget)
    processor = processor_of(
        hf.Gemma4UnifiedProcessor, None, images, tokenizer, None, chat_template=CHAT
    )
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
        **{f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in KINDS},
        video_token_id=processor.video_token_id,
    )
    torch.manual_seed(0)
    module = hf.Gemma4UnifiedForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed, and their products not scaled: sharp as they are.
        if name.endswith("q_norm.weight"):
            torch.nn.init.constant_(parameter, 0.6)
    return save_tiny(module, processor, folder)


class TestGemma4Unified(contract(Gemma4UnifiedAdapter, GOLDEN, tiny, shapes=SHAPES)):
    def unmix(self, opened):
        """Nothing mixes patches before the decoder does."""


def test_a_photograph_fills_the_budget_and_keeps_its_shape(tmp_path):
    folder = tiny(tmp_path / "280", patch=16, budget=280, layers=2)
    opened = opens(Gemma4UnifiedAdapter, folder)
    shows(opened, (640, 480), (14, 19))
    refuses(opened, "image_processor.max_soft_tokens", 70, (63, 266), (640, 480))
