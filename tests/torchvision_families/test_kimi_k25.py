"""Kimi K2.5 passes the public contract: padding to whole cells, latent attention."""

from pathlib import Path

import pytest
import torch
from transformers import Kimi_K25Config, Kimi_K25ForConditionalGeneration, Kimi_K25Processor
from transformers.models.kimi_k25.image_processing_kimi_k25 import Kimi_K25ImageProcessor

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.kimi_k25 import KimiK25Adapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

SHAPES = ((120, 120), (231, 110), (90, 207), (310, 30), (40, 61), (300, 220))
SPECIAL = (
    *("[PAD]", "[EOS]", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"),
    *("<|im_end|>", "<|media_begin|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"),
)
PICTURE = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"
# Roles and the words around a picture as public prompts have them; no default system turn.
CHAT = (
    "{% for message in messages %}"
    "<|im_{{ message['role'] }}|>{{ message['role'] }}<|im_middle|>"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}" + PICTURE + ""
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(system="Look."), f"Look. {PICTURE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat", system="See."),
        "<|im_system|>system<|im_middle|>See.<|im_end|><|im_user|>user<|im_middle|>"
        f"{PICTURE}which cup?<|im_end|><|im_assistant|>assistant<|im_middle|>",
        rows=(30,),
    ),
)


def tiny(folder: Path, *, patch: int = 7, most: int = 400, layers: int = 3) -> Path:
    """A tiny Kimi K2.5; patches of 14, at most 16,384 of them, are the real ones."""
    tokenizer = byte_tokenizer(
        SPECIAL, pad_token="[PAD]", eos_token="[EOS]", extra_special_tokens=list(SPECIAL[2:])
    )
    images = Kimi_K25ImageProcessor(patch_size=patch, max_patches=most)
    processor = without_video(Kimi_K25Processor)(images, tokenizer, chat_template=CHAT)
    sizes = text_sizes(tokenizer, layers=layers)
    config = Kimi_K25Config(
        text_config={
            **sizes,
            "model_type": "deepseek_v3",
            "num_key_value_heads": sizes["num_attention_heads"],
            "moe_intermediate_size": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": patch,
            "pos_emb_height": 16,
            "pos_emb_width": 16,
        },
        projection_hidden_size=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<|media_pad|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    module = Kimi_K25ForConditionalGeneration(config)
    for layer in module.get_decoder().layers:
        layer.self_attn.q_b_proj.weight.data.mul_(150.0)
    return save_tiny(module, processor, folder)


class TestKimiK25(AdapterContract):
    adapter = KimiK25Adapter
    golden = GOLDEN
    shapes = SHAPES

    def build(self, folder: Path) -> None:
        tiny(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("kimi") / "14", patch=14, most=16384, layers=1)
    return open_adapter(KimiK25Adapter(), str(folder))


def test_a_photograph_keeps_its_pixels_and_is_padded(real):
    ((view,),) = real.views(real.prepare([noise((640, 480))], [Expression(0, "it")]))
    assert view.shape == (18, 23)
    assert view.extent == pytest.approx((0.0, 0.0, 644.0, 504.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    inputs = real.prepare([noise((280, 280))], [Expression(0, "it")])
    images = real.model.processor.image_processor
    images.merge_size = 1
    try:
        with pytest.raises(TokenCountError, match=r"expected 400 image tokens .* made 100"):
            real.views(inputs)
    finally:
        images.merge_size = 2
