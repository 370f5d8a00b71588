"""Qwen3.5, with and without experts, passes the public contract: only some layers have maps."""

import pytest
import torch
import transformers as hf
from building import fields, save, text_part
from families import FIND, VICUNA, ask, chatml, contract, loaded, opens, prompted
from safetensors.torch import load_file, save_file

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.errors import CaptureError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.qwen3_5 import Qwen35Adapter, Qwen35MoeAdapter
from vg_engine.testing import noise
from vg_engine.testing.tiny_qwen import CHAT, qwen_processor, qwen_tokenizer, token_ids

THINK = "<think>"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
ANSWER = "<|im_start|>assistant\n<think>\n"
# The template (looked up on a copy) opens the thinking unless it is told not to.
THINKING = (
    CHAT + "{% if add_generation_prompt %}{{ '<think>\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(chatml(f"{PICTURE}the cup.", answer=ANSWER)),
    prompted(chatml(f"{PICTURE}Find the cup.\nNow", "See.", ANSWER), **FIND),
)
VISION = fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4 out_hidden_size=64
        num_position_embeddings=64""")
LINEAR = fields("""linear_key_head_dim=16 linear_value_head_dim=16 linear_num_key_heads=2
        linear_num_value_heads=4""")
EXPERTS = fields("""num_experts=4 num_experts_per_tok=2 moe_intermediate_size=32
        shared_expert_intermediate_size=32""")
FULL = (3, 7)


DENSE = (hf.Qwen3_5Config, hf.Qwen3_5ForConditionalGeneration)
SPARSE = (hf.Qwen3_5MoeConfig, hf.Qwen3_5MoeForConditionalGeneration)


def tiny_qwen3_5(folder, config_class, model_class, tokens=(1, 32), **text):
    """Eight layers, so that the first half of them holds one with a map."""
    tokenizer = qwen_tokenizer((THINK, "</think>"))
    rope = fields("""rope_type=default mrope_section=[2,1,1] mrope_interleaved=true
            partial_rotary_factor=0.25""")
    sizes = text_part(tokenizer, "head_dim=32", layers=8, rope_parameters=rope)
    config = config_class(
        text_config={**sizes, **LINEAR, **text}, vision_config=dict(VISION), **token_ids(tokenizer)
    )
    processor = qwen_processor(
        hf.Qwen3VLProcessor, tokenizer, chat=THINKING, patch_size=16, tokens=tokens
    )
    return save(model_class, config, processor, folder, norms=2.0)


TestQwen35 = contract(Qwen35Adapter, GOLDEN, lambda folder: tiny_qwen3_5(folder, *DENSE))
TestQwen35Moe = contract(
    Qwen35MoeAdapter, GOLDEN, lambda folder: tiny_qwen3_5(folder, *SPARSE, **EXPERTS)
)
opened = loaded(Qwen35Adapter, tiny_qwen3_5, *DENSE)


def test_only_layers_of_full_attention_have_heads(opened):
    assert opened.model.layers == 8
    assert sorted({head.layer for head in opened.model.all_heads}) == list(FULL)
    inputs = ask(opened, (96, 64))
    with pytest.raises(CaptureError, match=r"from layers \[1\]"):
        opened.rows(inputs, AttentionRequest((Head(1, 0),)))


def test_padding_does_not_flow_through_the_running_state(opened):
    """Layers that attend linearly lie below the first with a map: their states meet padding."""
    pictures = [noise((96, 64)), noise((128, 96), 1)]
    asked = [Expression(0, "it"), Expression(1, "a cup on the far left, beside the lamp")]
    together = opened.prepare(pictures, asked)
    pads = int((together.tensors["attention_mask"][0] == 0).sum())
    assert pads > 8
    alone = opened.prepare(pictures[:1], asked[:1])
    expected = opened.rows(alone)[0]
    assert (opened.rows(together)[0][..., pads:] - expected).abs().max() < 1e-4


def test_layers_for_drafting_are_left_out(tmp_path):
    """Real checkpoints hold further layers that predict several tokens at once (`mtp.`)."""
    folder = tiny_qwen3_5(tmp_path / "drafting", *DENSE)
    weights = {**load_file(folder / "model.safetensors"), "mtp.norm.weight": torch.ones(64)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert opens(Qwen35Adapter, folder).model.layers == 8
