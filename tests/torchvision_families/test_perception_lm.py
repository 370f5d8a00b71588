"""Perception LM passes the public contract: a thumbnail, then tiles, batches of several counts.

Its tower is timm's, which needs torchvision itself: a CLIP tower with a class token, too, takes
its place here. So this shows prompts, geometry and rows, and nothing about timm.
"""

import pytest
import transformers as hf
from building import TOWER, chat, processor_of, save, text_part, vocabulary
from families import contract, opens, prompted, tiled

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.perception_lm import PerceptionLMAdapter

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
NAMED = {"image_token": "<|image|>", "video_token": "<|video|>"}
# The turns are Llama 3's; from memory.
TURN, OPENED = "<|start_header_id|>ROLE<|end_header_id|>\n\n", "{{ bos_token }}"
ANSWER = TURN.replace("ROLE", "assistant")
CHAT = chat(TURN, "<|image|>", "<|eot_id|>", answer=ANSWER, opening=OPENED)
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
    special = "pad=<|end_of_text|> bos=<|begin_of_text|> <|start_header_id|> <|end_header_id|>"
    named = NAMED | {"start": "<|start_header_id|>", "end": "<|end_header_id|>"}
    tokenizer = vocabulary(f"{special} eos=<|eot_id|>", NAMED, extra_special_tokens=named)
    images = hf.PerceptionLMImageProcessor(tile_size=side, max_num_tiles=most)
    more = {"patch_size": patch, "pooling_ratio": 2, "chat_template": CHAT}
    processor = processor_of(hf.PerceptionLMProcessor, None, images, tokenizer, **more)
    # The projector looks there, as timm's have it.
    args = {"model_args": {"embed_dim": 32}}
    vision = hf.CLIPVisionConfig(**TOWER, image_size=side, patch_size=patch, **args)
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
ONE = {"max_tiles": 1}
TestWithoutTiles = contract(PerceptionLMAdapter, GOLDEN, tiny, options=ONE, shapes=SHAPES)


def test_a_photograph_is_enlarged_to_many_tiles(tmp_path):
    folder = tiny(tmp_path / "m", side=448, patch=14, most=36, layers=1)
    known = {2: (640 / 3, 0.0, 1280 / 3, 240.0)}
    opened = opens(PerceptionLMAdapter, folder, max_tiles=6)
    tiled(opened, (640, 480), (2, 3), (16, 16), known, first=["thumbnail"])
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(PerceptionLMAdapter, folder, max_tiles="many")
