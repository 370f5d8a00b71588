"""Qwen4-Exp passes the public contract, with fewer keys per query than there are tokens."""

import transformers as hf
from building import fields, save, text_part
from families import VICUNA, ask, chatml, contract, opens, prompted

from vg_engine.model_adapters.families.qwen4_exp import Qwen4ExpAdapter
from vg_engine.testing.tiny_qwen import CHAT, qwen_processor, qwen_tokenizer, token_ids

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
# From memory of its siblings: the template opens the thinking.
TEMPLATE = CHAT + "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
ANSWER = "<|im_start|>assistant\n<think>\n"
BLOCK, KEYS = 4, 48


def tiny_qwen4_exp(folder):
    """Every second layer has a map; the first layer embeds runs of tokens once more."""
    tokenizer = qwen_tokenizer(("<think>", "</think>"))
    config = hf.Qwen4ExpConfig(
        text_config=text_part(
            tokenizer,
            """head_dim=32 full_attention_interval=2 linear_key_head_dim=16
                linear_value_head_dim=16 linear_num_key_heads=2 linear_num_value_heads=4
                num_experts=4 num_experts_per_tok=2 moe_intermediate_size=32
                shared_expert_intermediate_size=32 hc_lowrank=16 ple_layer_ids=[1]
                heads_per_ngram=2 ngram_vocab_size_base=64
                make_ngram_vocab_size_divisible_by=8 split_ngram_parts=2 indexer_n_heads=16
                indexer_kv_heads=1 indexer_head_dim=16""",
            rope_parameters=fields("""rope_type=default mrope_section=[2,1,1]
                    mrope_interleaved=true partial_rotary_factor=0.25"""),
            indexer_budget=KEYS,
            indexer_compress_ratio=BLOCK,
        ),
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 num_position_embeddings=64"""),
        **token_ids(tokenizer),
    )
    images = {"patch_size": 16, "tokens": (1, 32)}
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, chat=TEMPLATE, **images)
    return save(hf.Qwen4ExpForConditionalGeneration, config, processor, folder, norms=2.0)


BARE = prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare")
ASKED = prompted(chatml(f"{PICTURE}the cup.", answer=ANSWER))
TestQwen4Exp = contract(Qwen4ExpAdapter, (BARE, ASKED), tiny_qwen4_exp)


def test_a_row_has_as_many_keys_as_the_indexer_chose(tmp_path):
    opened = opens(Qwen4ExpAdapter, tiny_qwen4_exp(tmp_path / "tiny"))
    inputs = ask(opened, (120, 90))
    rows = opened.rows(inputs)[0]
    assert sorted({head.layer for head in opened.model.all_heads}) == [1, 3]
    assert rows.shape[-1] > 2 * KEYS
    assert ((rows > 0).sum(dim=-1) <= KEYS + BLOCK - 1).all()
