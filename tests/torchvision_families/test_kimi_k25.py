"""Kimi K2.5 passes the public contract: padding to whole cells, latent attention."""

import transformers as hf
from building import chat, processor_of, save, text_part, vision_part, vocabulary
from families import contract, grids, prompted

from vg_engine.model_adapters.families.kimi_k25 import KimiK25Adapter

SHAPES = ((120, 120), (231, 110), (90, 207), (310, 30), (40, 61), (300, 220))
SPECIAL = (
    *("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"),
    *("<|im_end|>", "<|media_begin|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"),
)
PICTURE = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"
# Roles and the words around a picture as public prompts have them; no default system turn.
TURN, ANSWER = "<|im_ROLE|>ROLE<|im_middle|>", "<|im_assistant|>assistant<|im_middle|>"
CHAT = chat(TURN, PICTURE, "<|im_end|>", answer=ANSWER)
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        "<|im_system|>system<|im_middle|>See.<|im_end|><|im_user|>user<|im_middle|>"
        f"{PICTURE}which cup?<|im_end|><|im_assistant|>assistant<|im_middle|>",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, patch=7, most=400, layers=3):
    """A tiny Kimi K2.5; patches of 14, at most 16,384 of them, are the real ones."""
    tokenizer = vocabulary("pad=[PAD] eos=[EOS]", SPECIAL)
    images = hf.Kimi_K25ImageProcessor(patch_size=patch, max_patches=most)
    processor = processor_of(hf.Kimi_K25Processor, images, tokenizer, chat_template=CHAT)
    config = hf.Kimi_K25Config(
        text_config=text_part(
            tokenizer,
            """model_type=deepseek_v3 num_key_value_heads=4 moe_intermediate_size=64
            n_routed_experts=4 num_experts_per_tok=2 n_group=1 topk_group=1
            first_k_dense_replace=1 q_lora_rank=32 kv_lora_rank=32 qk_rope_head_dim=8
            qk_nope_head_dim=8 v_head_dim=16""",
            layers=layers,
        ),
        vision_config=vision_part("pos_emb_height=16 pos_emb_width=16", patch_size=patch),
        projection_hidden_size=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<|media_pad|>"),
        tie_word_embeddings=False,
    )
    kind, scaled = hf.Kimi_K25ForConditionalGeneration, (150.0, "q_b_proj.weight")
    return save(kind, config, processor, folder, scaled=scaled)


FOREIGN = ("image_processor.merge_size", 1, (100, 25))
TestKimiK25 = contract(KimiK25Adapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)
REAL, KNOWN = {"patch": 14, "most": 16384, "layers": 1}, ((18, 23), (0.0, 0.0, 644.0, 504.0))
test_a_photograph_keeps_its_pixels_and_is_padded = grids(
    KimiK25Adapter, tiny, ((640, 480), *KNOWN), **REAL
)
