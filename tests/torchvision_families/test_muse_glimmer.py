"""Muse Glimmer passes the public contract: windows, and layers without positions."""

from typing import Any

import pytest
import transformers as hf
from building import chat, fields, save, text_part
from families import contract, opens, prompted, shows

from vg_engine.model_adapters.families.muse_glimmer import MuseGlimmerAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing.tiny import byte_tokenizer

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
SPECIAL = (
    *("<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>", "<|patch|>"),
    *("<|image_start|>", "<|image_end|>", "<|video|>"),
)
PICTURE = "<|image_start|><|patch|><|image_end|>"
# The turns are Llama 4's, whose marks it shares; from memory: its own could not be looked up.
CHAT = chat(
    "<|header_start|>ROLE<|header_end|>\n\n",
    "<|patch|>",
    "<|eot|>",
    answer="<|header_start|>assistant<|header_end|>\n\n",
    opening="{{ bos_token }}",
)
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
    tokenizer = byte_tokenizer(
        SPECIAL,
        pad_token="<|eot|>",
        bos_token=SPECIAL[0],
        eos_token="<|eot|>",
        extra_special_tokens={token.strip("<|>"): token for token in SPECIAL[2:]},
    )
    images = hf.MuseGlimmerImageProcessor(patch_size=patch, max_image_tokens=most)
    made: Any = without_video(hf.MuseGlimmerProcessor)
    processor = made(images, None, tokenizer, chat_template=CHAT)
    config = hf.MuseGlimmerConfig(
        text_config={
            **text_part(tokenizer, layers=layers),
            "head_dim": 16,
            "sliding_window": 24,
            "qk_scale_factor": 2.5,  # queries and keys have norms without weights
        },
        vision_config={
            **fields("""hidden_size=32 intermediate_size=64 num_hidden_layers=2
                num_attention_heads=2"""),
            "patch_size": patch,
            "pos_emb_height": 16,
            "pos_emb_width": 16,
        },
        out_hidden_size=128,
        projector_hidden_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|patch|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    return save(hf.MuseGlimmerForConditionalGeneration, config, processor, folder)


TestMuseGlimmer = contract(
    MuseGlimmerAdapter,
    GOLDEN,
    tiny,
    shapes=SHAPES,
    foreign=("image_processor.merge_size", 1, (49, 16)),
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("muse") / "14"
    return opens(MuseGlimmerAdapter, tiny(folder, patch=14, most=4096, layers=1))


def test_a_photograph_keeps_its_shape_as_well_as_cells_can(real):
    shows(real, (640, 480), (17, 23), (0.0, 0.0, 640.0, 480.0))
