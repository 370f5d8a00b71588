"""Gemma 4 passes the public contract, as the small models are built and as the large ones are."""

from typing import Any

import torch
import transformers as hf
from building import fields, processor_of, text_part, vocabulary
from families import VICUNA, contract, loaded, prompted, refuses, shows

from vg_engine.model_adapters.families.gemma4 import Gemma4Adapter
from vg_engine.testing.tiny import save_tiny

# What Google's template writes for a question about one picture, without thinking.
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '<|turn>' + message['role'] + '\n' }}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<|image|>' }}"
    "{% else %}{{ item['text'] | trim }}{% endif %}{% endfor %}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)
PICTURE = "<|image><|image|><image|>"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(
        f"<bos><|turn>system\nLook.<turn|>\n<|turn>user\n{PICTURE}which cup?<turn|>\n"
        "<|turn>model\n",
        "which cup?",
        system="Look.",
    ),
)
KINDS = ("image", "boi", "eoi", "audio")
# Shared keys and embeddings per layer, as in E2B and E4B.
SMALL = {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "use_double_wide_mlp": True}
# Keys that are the values, and pictures that see themselves in both directions, as in 31B.
LARGE = fields("""attention_k_eq_v=true num_global_key_value_heads=1
        use_bidirectional_attention=vision hidden_size_per_layer_input=0""")


def tiny_gemma4(folder, text: dict[str, Any], *, patch=4, budget=70, layers: int = 4):
    """A tiny checkpoint: 3 x 3 patches are pooled to a token."""
    named = fields("""image_token=<|image|> boi_token=<|image> eoi_token=<image|>
            audio_token=<|audio|> boa_token=<|audio> eoa_token=<audio|>""")
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos> <|turn> <turn|>", named)
    images = hf.Gemma4ImageProcessorPil(patch_size=patch, max_soft_tokens=budget)
    processor = processor_of(hf.Gemma4Processor, None, images, tokenizer, None, chat_template=CHAT)
    config = hf.Gemma4Config(
        text_config=hf.Gemma4TextConfig(
            **text_part(tokenizer, layers=layers),
            **text,
            vocab_size_per_layer_input=len(tokenizer),
            head_dim=16,
            global_head_dim=32,
            # A window that ends inside the picture.
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"] * (layers // 2),
        ),
        vision_config=hf.Gemma4VisionConfig(
            **fields("""hidden_size=32 intermediate_size=64 num_hidden_layers=2
                num_attention_heads=2 num_key_value_heads=2 head_dim=16"""),
            patch_size=patch,
            position_embedding_size=256,
        ),
        audio_config=None,
        **{f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in KINDS},
        video_token_id=processor.video_token_id,
    )
    torch.manual_seed(0)
    module = hf.Gemma4ForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed, and their products not scaled: rows are sharp as they are,
        # and sharper ones would only magnify rounding.
        if name.endswith("q_norm.weight"):
            torch.nn.init.constant_(parameter, 0.7 if text is SMALL else 0.85)
    return save_tiny(module, processor, folder)


TestGemma4Small = contract(Gemma4Adapter, GOLDEN, lambda folder: tiny_gemma4(folder, SMALL))


class TestGemma4Large(TestGemma4Small):
    def build(self, folder):
        tiny_gemma4(folder, LARGE)


opened = loaded(Gemma4Adapter, tiny_gemma4, LARGE, patch=16, budget=280, layers=2)


def test_a_photograph_fills_the_budget_and_keeps_its_shape(opened):
    shows(opened, (640, 480), (14, 19))
    refuses(opened, "image_processor.max_soft_tokens", 70, (63, 266), (640, 480))
