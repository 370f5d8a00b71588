"""Perception LM passes the public contract: a thumbnail, then tiles, batches of several counts.

Its tower is timm's, which needs torchvision itself: a CLIP tower with a class token, too, takes
its place here. So this shows prompts, geometry and rows, and nothing about timm.
"""

import pytest
import transformers as hf
from building import TOWER, chat, save, text_part, vocabulary
from families import ask, checkpoint, contract, opens, prompted

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.perception_lm import PerceptionLMAdapter
from vg_engine.model_adapters.shared.loading import without_video

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
NAMED = {"image_token": "<|image|>", "video_token": "<|video|>"}
HEADS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
# The turns are Llama 3's; from memory.
CHAT = chat(
    "<|start_header_id|>ROLE<|end_header_id|>\n\n",
    "<|image|>",
    "<|eot_id|>",
    answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
    opening="{{ bos_token }}",
)
GOLDEN = (
    prompted("Look. <|image|>\nthe cup.", form="bare", system="Look."),
    prompted(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSee.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<|image|>which cup?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, side=56, patch=7, most=4, layers=3):
    """A tiny Perception LM; 448 pixels, patches of 14 and 36 tiles are the real numbers."""
    tokenizer = vocabulary(
        "pad=<|end_of_text|>",
        [*HEADS, *NAMED.values()],
        bos_token=HEADS[0],
        eos_token="<|eot_id|>",
        extra_special_tokens=NAMED | {"start": HEADS[1], "end": HEADS[2]},
    )
    images = hf.PerceptionLMImageProcessor(tile_size=side, max_num_tiles=most)
    processor = without_video(hf.PerceptionLMProcessor)(
        None, images, tokenizer, patch_size=patch, pooling_ratio=2, chat_template=CHAT
    )
    vision = hf.CLIPVisionConfig(
        **TOWER,
        image_size=side,
        patch_size=patch,
        model_args={"embed_dim": 32},  # where the projector looks, as timm's have it
    )
    config = hf.PerceptionLMConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**text_part(tokenizer, layers=layers)),
        projector_pooling_ratio=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    return save(hf.PerceptionLMForConditionalGeneration, config, processor, folder)


TestPerceptionLM = contract(
    PerceptionLMAdapter, GOLDEN, tiny, shapes=SHAPES, foreign=("pooling_ratio", 1, (80, 320))
)
TestWithoutTiles = contract(
    PerceptionLMAdapter, GOLDEN, tiny, options={"max_tiles": 1}, shapes=SHAPES
)
real = checkpoint(tiny, side=448, patch=14, most=36, layers=1)


def test_a_photograph_is_enlarged_to_many_tiles(real):
    opened = opens(PerceptionLMAdapter, real, max_tiles=6)
    (found,) = opened.views(ask(opened, (640, 480)))
    names = [f"tile {row},{col}" for row in range(2) for col in range(3)]
    assert [view.name for view in found] == ["thumbnail", *names]
    assert {view.shape for view in found} == {(16, 16)}
    assert found[2].extent == pytest.approx((640 / 3, 0.0, 1280 / 3, 240.0))


def test_wrong_numbers_of_tiles_are_refused(real):
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(PerceptionLMAdapter, real, max_tiles="many")
