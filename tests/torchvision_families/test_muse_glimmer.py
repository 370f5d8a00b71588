"""Muse Glimmer passes the public contract: windows, and layers without positions."""

import transformers as hf
from building import chat, processor_of, save, text_part, vision_part, vocabulary
from families import contract, grids, prompted

from vg_engine.model_adapters.families.muse_glimmer import MuseGlimmerAdapter

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
PARTS = ("<|header_start|>", "<|header_end|>", "<|patch|>", "<|image_start|>", "<|image_end|>")
PICTURE = "<|image_start|><|patch|><|image_end|>"
# The turns are Llama 4's, whose marks it shares; from memory: its own could not be looked up.
TURN, END, OPENED = "<|header_start|>ROLE<|header_end|>\n\n", "<|eot|>", "{{ bos_token }}"
ANSWER = TURN.replace("ROLE", "assistant")
CHAT = chat(TURN, "<|patch|>", END, answer=ANSWER, opening=OPENED)
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nSee.<|eot|>"
        f"<|header_start|>user<|header_end|>\n\n{PICTURE}which cup?<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, patch=7, most=60, layers=4):
    """A tiny Muse Glimmer; patches of 14 and 4,096 tokens are the real numbers."""
    named = {token.strip("<|>"): token for token in (*PARTS, "<|video|>")}
    tokenizer = vocabulary("bos=<|begin_of_text|> pad=eos=<|eot|>", named)
    images = hf.MuseGlimmerImageProcessor(patch_size=patch, max_image_tokens=most)
    processor = processor_of(hf.MuseGlimmerProcessor, images, None, tokenizer, chat_template=CHAT)
    config = hf.MuseGlimmerConfig(
        # Queries and keys have norms without weights.
        text_config=text_part(
            tokenizer, "head_dim=16 sliding_window=24 qk_scale_factor=2.5", layers=layers
        ),
        vision_config=vision_part(
            "num_attention_heads=2 pos_emb_height=16 pos_emb_width=16", patch_size=patch
        ),
        out_hidden_size=128,
        projector_hidden_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|patch|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    return save(hf.MuseGlimmerForConditionalGeneration, config, processor, folder)


FOREIGN = ("image_processor.merge_size", 1, (49, 16))
TestMuseGlimmer = contract(MuseGlimmerAdapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)
test_a_photograph_keeps_its_shape_as_well_as_cells_can = grids(
    MuseGlimmerAdapter, tiny, ((640, 480), (17, 23)), patch=14, most=4096, layers=1
)
