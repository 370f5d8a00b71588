"""LFM2-VL passes the public contract: one grid, or tiles with a thumbnail of another shape."""

import pytest
import transformers as hf
from building import chat, fields, save, text_part, vision_part, vocabulary
from families import chatml, checkpoint, contract, opens, prompted, refuses, views

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.lfm2_vl import Lfm2VlAdapter

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
KINDS = ["conv", "full_attention", "conv", "full_attention"]
NAMED = fields("""image_token=<image> image_start_token=<|image_start|>
        image_end_token=<|image_end|> image_thumbnail_token=<|img_thumbnail|>""")
TILES = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 7) for col in range(1, 7)]
START = "<|startoftext|>"
# The turns are LFM2's, from memory; what else the template may say is left out.
ANSWER, OPENED = "<|im_start|>assistant\n", "{{ bos_token }}"
CHAT = chat("<|im_start|>ROLE\n", "<image>", "<|im_end|>\n", answer=ANSWER, opening=OPENED)
PICTURE = "<|image_start|><image><|image_end|>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(START + chatml(f"{PICTURE}which cup?", "See."), "which cup?", system="See."),
)


def tiny(folder, *, patch=4, tokens: tuple[int, int] = (16, 64), tile=32):
    """A tiny LFM2-VL; patches of 16, 64 to 256 tokens and tiles of 512 are the real numbers."""
    special = f"pad=<|pad|> bos={START} <|im_start|> eos=<|im_end|>"
    words = [*NAMED.values(), *TILES]
    tokenizer = vocabulary(special, words, extra_special_tokens=NAMED)
    tiles = {"tile_size": tile, "max_tiles": 10 if tile == 512 else 4}
    tiles |= {"min_image_tokens": tokens[0], "max_image_tokens": tokens[1]}
    images = hf.Lfm2VlImageProcessor(encoder_patch_size=patch, **tiles)
    processor = hf.Lfm2VlProcessor(images, tokenizer, chat_template=CHAT)
    config = hf.Lfm2VlConfig(
        text_config=text_part(tokenizer, "model_type=lfm2", layers=4, layer_types=list(KINDS)),
        vision_config=vision_part(
            "model_type=siglip2_vision_model num_patches=64 vision_use_head=false", patch_size=patch
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=64,
    )
    kind = hf.Lfm2VlForConditionalGeneration
    scaled = (2.2, "q_layernorm.weight", "k_layernorm.weight")
    return save(kind, config, processor, folder, scaled=scaled)


TestLfm2Vl = contract(Lfm2VlAdapter, GOLDEN, tiny, shapes=SHAPES)
TestWithoutTiles = contract(Lfm2VlAdapter, GOLDEN, tiny, options={"max_tiles": 1}, shapes=SHAPES)
real = checkpoint(tiny, patch=16, tokens=(64, 256), tile=512)


def test_a_photograph_is_one_grid_and_a_large_one_tiles(real):
    opened = opens(Lfm2VlAdapter, real)
    assert views(opened, (640, 480))[0].shape == (13, 18)
    found = views(opened, (1200, 800))
    assert len(found) == 7
    assert {view.shape for view in found[:-1]} == {(16, 16)}
    assert found[1].extent == pytest.approx((400.0, 0.0, 800.0, 400.0))
    assert (found[-1].name, found[-1].shape) == ("thumbnail", (13, 19))


def test_wrong_numbers_of_tiles_are_refused(real):
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(Lfm2VlAdapter, real, max_tiles=0)
    setting = "image_processor.max_image_tokens"
    refuses(opens(Lfm2VlAdapter, real), setting, 64, (None, 256), (512, 512))
