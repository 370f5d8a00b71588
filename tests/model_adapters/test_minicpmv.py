"""MiniCPM-V 4.6 and 4.7 pass the public contract: overview, slices, linear attention."""

from functools import partial

import numpy as np
import pytest
import transformers as hf
from building import chat, fields, save, text_part, vision_part, vocabulary
from families import FIND, VICUNA, ask, chatml, contract, loaded, opens, prompted, views

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.minicpmv import MiniCPMV47Adapter, MiniCPMVAdapter

NAMED = fields("""image=<|image_pad|> video=<|video_pad|> image_start=<image>
        image_end=</image> slice_start=<slice> slice_end=</slice> image_id_start=<image_id>
        image_id_end=</image_id>""")
PICTURE = "<image_id>0</image_id><image><|image_pad|></image>"
# From prompts in public code that runs openbmb/MiniCPM-V-4.6; thinking is closed at once.
ANSWER = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
CHAT = chat("<|im_start|>ROLE\n", "<|image_pad|>\n", "<|im_end|>\n", answer=ANSWER)
IDS = (266, 15, 267, 262, 260, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"{PICTURE}\nwhich cup?", "which cup?", form="bare", system="", ids=IDS),
    prompted(chatml(f"{PICTURE}\nthe cup.", answer=ANSWER)),
    prompted(chatml(f"{PICTURE}\nFind the cup.\nNow", "See.", ANSWER), **FIND),
)
LINEAR = fields("""linear_key_head_dim=16 linear_value_head_dim=16 linear_num_key_heads=2
    linear_num_value_heads=4""")
LINEAR["rope_parameters"] = fields("""rope_type=default mrope_section=[2,1,1]
    mrope_interleaved=true partial_rotary_factor=0.25""")


def tiny_minicpm(folder, version=6, *, mode="16x", patch=4, slices=4, resolution=64):
    """16 pixels per token (8 where the mode is 4x), and slices of about 64 x 64 pixels."""
    special = "pad=<|endoftext|> eos=<|im_end|> <|im_start|>"
    named = {f"{name}_token": token for name, token in NAMED.items()}
    tokenizer = vocabulary(special, named, merges=((".", "Ċ"),))
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in NAMED.items()}
    marks = ("image_start", "image_end", "slice_start", "slice_end")
    old = version == 6
    config = (hf.MiniCPMV4_6Config if old else hf.MiniCPMV4_7Config)(
        text_config=text_part(tokenizer, "model_type=qwen3_5_text head_dim=32", layers=8, **LINEAR),
        vision_config=vision_part(image_size=16 * patch, patch_size=patch),
        insert_layer_id=0,
        downsample_mode=mode,
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        **({} if old else {f"{mark}_id": ids[mark] for mark in marks}),
        **({} if old else {"newline_id": tokenizer.convert_tokens_to_ids("Ċ")}),
    )
    images = hf.MiniCPMV4_6ImageProcessorPil(
        patch_size=patch, scale_resolution=resolution, max_slice_nums=slices
    )
    adapter = MiniCPMVAdapter if old else MiniCPMV47Adapter
    whole = hf.MiniCPMV4_7ForConditionalGeneration
    if old:
        whole = hf.MiniCPMV4_6ForConditionalGeneration
    processor = adapter.processor_class(images, tokenizer, chat_template=CHAT)
    return save(whole, config, processor, folder, norms=2.0)


TestMiniCPMV46 = contract(MiniCPMVAdapter, GOLDEN, tiny_minicpm)


# Four times as many tokens; the image processor's own setting is another.
TestMiniCPMV46MergedOnce = contract(
    MiniCPMVAdapter, GOLDEN, partial(tiny_minicpm, mode="4x", slices=2)
)
TestMiniCPMV46Overview = contract(
    MiniCPMVAdapter, GOLDEN, tiny_minicpm, options={"max_tiles": 1}, pytestmark=pytest.mark.slow
)
FOREIGN = ("image_processor.patch_size", 7, (4, 16))
TestMiniCPMV47 = contract(
    MiniCPMV47Adapter, GOLDEN, partial(tiny_minicpm, version=7, slices=3), foreign=FOREIGN
)
# Slices of 448 x 448 pixels in patches of 14, as the image processor's defaults are.
real = loaded(MiniCPMV47Adapter, tiny_minicpm, 7, patch=14, slices=9, resolution=448)


def test_a_photograph_becomes_an_overview_and_slices(real):
    assert real.model.statements == ("A picture becomes an overview and up to 9 slices.",)
    found = views(real, (1200, 800))
    tiles = [f"tile {row},{col}" for row in range(2) for col in range(3)]
    assert [view.name for view in found] == ["overview", *tiles]
    assert [view.shape for view in found] == [(7, 10), *[(8, 8)] * 6]
    assert found[0].extent == pytest.approx((0.0, 0.0, 1200.0, 800.0))
    assert found[5].extent == pytest.approx((400.0, 400.0, 800.0, 800.0))
    assert [view.name for view in views(real, (448, 440))] == ["overview"]


def test_slices_can_be_left_out(tmp_path):
    folder = tiny_minicpm(tmp_path / "m", 7, patch=14, slices=9, resolution=448)
    opened = opens(MiniCPMV47Adapter, folder, max_tiles=1)
    assert "without slices" in opened.model.statements[0]
    assert [view.name for view in views(opened, (1200, 800))] == ["overview"]
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(MiniCPMV47Adapter, folder, max_tiles=0)


def test_slices_stand_where_they_lie_on_the_canvas_of_positions(real):
    inputs = ask(real, (1200, 800))
    positions = inputs.tensors["position_ids"][:, 0].numpy()
    found = real.views(inputs)[0]
    origin = positions[0, found[1].positions[0, 0]]
    for index, view in enumerate(found[1:]):
        top, left = 8 * (index // 3), 8 * (index % 3)
        for (row, col), at in np.ndenumerate(view.positions):
            assert positions[:, at].tolist() == [origin, origin + top + row, origin + left + col]
