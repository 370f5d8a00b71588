"""MiniCPM-OCR passes the public contract: overview, slices, linear attention."""

from typing import Any

import pytest
import transformers as hf
from building import chat, fields, processor_of, save, text_part, vision_part, vocabulary
from families import chatml, contract, opens, prompted, views

from vg_engine.model_adapters.families.minicpm_ocr import MiniCPMOcrAdapter

SHAPES = ((120, 120), (130, 60), (50, 110), (40, 60), (200, 150))
NAMED = fields("""image=<|image_pad|> video=<|video_pad|> image_start=<image>
        image_end=</image> slice_start=<slice> slice_end=</slice> image_id_start=<image_id>
        image_id_end=</image_id>""")
PICTURE = "<image_id>0</image_id><image><|image_pad|></image>"
# The turns of MiniCPM-V 4.6, whose tokenizer it shares; its own template was not to be found.
ANSWER = "<|im_start|>assistant\n"
CHAT = chat("<|im_start|>ROLE\n", "<|image_pad|>\n", "<|im_end|>\n", answer=ANSWER)
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(chatml(f"{PICTURE}\nwhich cup?", "See."), "which cup?", system="See."),
)
LINEAR = fields("""linear_key_head_dim=16 linear_value_head_dim=16 linear_num_key_heads=2
    linear_num_value_heads=4""")
LINEAR["rope_parameters"] = fields("""rope_type=default mrope_section=[2,1,1]
    mrope_interleaved=true partial_rotary_factor=0.25""")


def tiny(folder, *, patch=4, slices=4, resolution=64, **more: Any):
    """8 pixels per token, and slices of about 64 x 64; 14, 448 and 9 are the real numbers."""
    special = "pad=<|endoftext|> eos=<|im_end|> <|im_start|>"
    tokenizer = vocabulary(special, {f"{name}_token": token for name, token in NAMED.items()})
    config = hf.MiniCPMOcrConfig(
        text_config=text_part(
            tokenizer,
            "model_type=qwen3_5_text head_dim=32",
            layer_types=["linear_attention", "full_attention"] * 2,
            **LINEAR,
        ),
        vision_config=vision_part(image_size=16 * patch, patch_size=patch),
        insert_layer_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids(NAMED["image"]),
        video_token_id=tokenizer.convert_tokens_to_ids(NAMED["video"]),
    )
    images = hf.MiniCPMOcrImageProcessor(
        patch_size=patch, scale_resolution=resolution, max_slice_nums=slices, **more
    )
    processor = processor_of(
        MiniCPMOcrAdapter.processor_class, images, None, tokenizer, chat_template=CHAT
    )
    return save(hf.MiniCPMOcrForConditionalGeneration, config, processor, folder, norms=2.0)


FOREIGN = ("image_processor.downsample_mode", "16x", (16, 64))
TestMiniCPMOcr = contract(MiniCPMOcrAdapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)


def test_a_photograph_has_an_overview_and_slices_and_nothing_is_chosen_by_letters(tmp_path):
    settings = {"patch": 14, "slices": 9, "resolution": 448, "small_image_upsize": "adaptive"}
    opened = opens(MiniCPMOcrAdapter, tiny(tmp_path / "m", **settings))
    assert "enlarged" in opened.model.statements[-1]
    found = views(opened, (640, 480))
    assert [view.name for view in found] == ["overview", "tile 0,0", "tile 0,1"]
    assert {view.shape for view in found[1:]} == {(20, 13)}
    assert found[2].extent == pytest.approx((320.0, 0.0, 640.0, 480.0))
