"""LFM2-VL passes the public contract: one grid, or tiles with a thumbnail of another shape."""

import pytest
import torch
import transformers as hf
from building import chat, fields, text_part, vision_part
from families import checkpoint, contract, opens, prompted, refuses, views

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.lfm2_vl import Lfm2VlAdapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
KINDS = ["conv", "full_attention", "conv", "full_attention"]
NAMED = fields("""image_token=<image> image_start_token=<|image_start|>
        image_end_token=<|image_end|> image_thumbnail_token=<|img_thumbnail|>""")
TILES = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 7) for col in range(1, 7)]
START = "<|startoftext|>"
# The turns are LFM2's, from memory; what else the template may say is left out.
CHAT = chat(
    "<|im_start|>ROLE\n",
    "<image>",
    "<|im_end|>\n",
    answer="<|im_start|>assistant\n",
    opening="{{ bos_token }}",
)
PICTURE = "<|image_start|><image><|image_end|>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"{START}<|im_start|>system\nSee.<|im_end|>\n<|im_start|>user\n{PICTURE}which cup?"
        "<|im_end|>\n<|im_start|>assistant\n",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, patch=4, tokens: tuple[int, int] = (16, 64), tile=32):
    """A tiny LFM2-VL; patches of 16, 64 to 256 tokens and tiles of 512 are the real numbers."""
    special = ["<|pad|>", START, "<|im_start|>", "<|im_end|>", *NAMED.values(), *TILES]
    tokenizer = byte_tokenizer(
        special,
        pad_token="<|pad|>",
        bos_token=START,
        eos_token="<|im_end|>",
        extra_special_tokens=NAMED,
    )
    images = hf.Lfm2VlImageProcessor(
        encoder_patch_size=patch,
        min_image_tokens=tokens[0],
        max_image_tokens=tokens[1],
        tile_size=tile,
        max_tiles=10 if tile == 512 else 4,
    )
    processor = hf.Lfm2VlProcessor(images, tokenizer, chat_template=CHAT)
    config = hf.Lfm2VlConfig(
        text_config=text_part(
            tokenizer, "model_type=lfm2", layers=len(KINDS), layer_types=list(KINDS)
        ),
        vision_config=vision_part(
            """model_type=siglip2_vision_model num_patches=64 vision_use_head=false""",
            patch_size=patch,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=64,
    )
    torch.manual_seed(0)
    module = hf.Lfm2VlForConditionalGeneration(config)
    for layer in module.get_decoder().layers:
        if hasattr(layer, "self_attn"):
            layer.self_attn.q_layernorm.weight.data.mul_(2.2)
            layer.self_attn.k_layernorm.weight.data.mul_(2.2)
    return save_tiny(module, processor, folder)


TestLfm2Vl = contract(Lfm2VlAdapter, GOLDEN, tiny, shapes=SHAPES)
TestWithoutTiles = contract(Lfm2VlAdapter, GOLDEN, tiny, options={"max_tiles": 1}, shapes=SHAPES)
real = checkpoint(tiny, patch=16, tokens=(64, 256), tile=512)


def test_a_photograph_is_one_grid_and_a_large_one_tiles(real):
    opened = opens(Lfm2VlAdapter, real)
    (small,) = views(opened, (640, 480))
    assert small.shape == (13, 18)
    found = views(opened, (1200, 800))
    assert len(found) == 7
    assert {view.shape for view in found[:-1]} == {(16, 16)}
    assert found[1].extent == pytest.approx((400.0, 0.0, 800.0, 400.0))
    assert (found[-1].name, found[-1].shape) == ("thumbnail", (13, 19))


def test_wrong_numbers_of_tiles_are_refused(real):
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(Lfm2VlAdapter, real, max_tiles=0)


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = opens(Lfm2VlAdapter, real)
    refuses(opened, "image_processor.max_image_tokens", 64, (None, 256), (512, 512))
