"""Molmo 2 passes the public contract: overlapping crops that make one grid, pooled patches."""

import pytest
import transformers as hf
from building import chat, fields, processor_of, save, square, text_part, vision_part, vocabulary
from families import chatml, contract, opens, prompted, views

from vg_engine.model_adapters.families.molmo2 import Molmo2Adapter

SHAPES = ((120, 120), (230, 110), (90, 210), (60, 70), (330, 240))
END, START = "<|im_end|>", "<|im_start|>"
MARKS = (
    *("<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<low_res_im_start>", "<im_low>"),
    *("<frame_start>", "<frame_end>", "<|image|>", "<|video|>"),
)
# The turns are Qwen's, on which most of these models are built; from memory.
CHAT = chat("<|im_start|>ROLE\n", "<|image|>", "<|im_end|>\n", answer="<|im_start|>assistant\n")
ROW = "<im_patch><im_col>"
# 64 x 64 pixels: 5 rows of the whole picture, 7 of the finer grid; runs of cells are written once.
PICTURE = f"<low_res_im_start>{ROW * 5}<im_end><im_start>{ROW * 7}<im_end>"
GOLDEN = (
    prompted(f"{END}Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(END + chatml(f"{PICTURE}which cup?", "See."), "which cup?", system="See."),
)


def tiny(folder, *, side=63, patch=7, margin=2, crops=4, layers=3):
    """A tiny Molmo 2; 378 pixels, patches of 14, margins of 4 and 8 crops are the real numbers."""
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    named |= {mark.strip("<>"): mark for mark in MARKS[:-2]}
    special = f"pad=<|endoftext|> {START} eos={END}"
    tokenizer = vocabulary(special, MARKS, extra_special_tokens=named)
    sizes = {"patch_size": patch, "overlap_margins": [margin, margin], "max_crops": crops}
    images = hf.Molmo2ImageProcessor(size=square(side), **sizes)
    processor = processor_of(hf.Molmo2Processor, images, None, tokenizer, chat_template=CHAT)
    config = hf.Molmo2Config(
        vision_config=vision_part(
            "num_hidden_layers=3 num_key_value_heads=4 head_dim=8",
            image_size=[side, side],
            patch_size=patch,
        ),
        adapter_config=fields("""vision_feature_layer=[2,1] hidden_size=32 num_attention_heads=4
                num_key_value_heads=4 head_dim=8 intermediate_size=64 text_hidden_size=64"""),
        text_config=text_part(tokenizer, "additional_vocab_size=8 head_dim=16", layers=layers),
        image_patch_id=tokenizer.convert_tokens_to_ids("<im_patch>"),
    )
    return save(hf.Molmo2ForConditionalGeneration, config, processor, folder, norms=2.6)


TestMolmo2 = contract(
    Molmo2Adapter, GOLDEN, tiny, shapes=SHAPES, foreign=("image_processor.max_crops", 1, (50, 74))
)


def test_a_photograph_is_seen_twice(tmp_path):
    folder = tiny(tmp_path / "378", side=378, patch=14, margin=4, crops=8, layers=1)
    whole, fine = views(opens(Molmo2Adapter, folder), (640, 480))
    # 27 patches make 14 cells, the last of them half empty.
    assert (whole.shape, fine.shape) == ((14, 14), (23, 23))
    assert whole.extent == pytest.approx((0.0, 0.0, 640 * 28 / 27, 480 * 28 / 27))
    assert fine.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
