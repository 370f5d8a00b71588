"""Gemma 3 passes the public contract, with pan and scan and without."""

from typing import Any, ClassVar

import pytest
import torch
import transformers as hf
from building import edited, fields, siglip, square, text_part, vocabulary
from families import RENAMED, VICUNA, checkpoint, contract, opens, prompted, refuses, shows, views

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.gemma3 import Gemma3Adapter
from vg_engine.testing.tiny import save_tiny
from vg_engine.testing.tiny_qwen import sharpen_norms

# What Google's template writes for a question about one picture: a system sentence stands in
# front of the user's words, and every text is stripped.
CHAT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'][0]['text'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' + (first if loop.first else '') }}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}"
    "{{ '<start_of_image>' }}{% else %}{{ item['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"
TURN, ANSWER = "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"
KINDS = ("image", "boi", "eoi")
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"<bos>{TURN}{PICTURE}which cup?{ANSWER}", "which cup?"),
    prompted(
        f"<bos>{TURN}Look.\n\n{PICTURE}the cup.{ANSWER}",
        system="Look.",
        query_row="prompt_last",
        rows=(198,),
    ),
)


def tiny_gemma3(folder, *, side=112, layers=4, smallest: int | None = 40):
    """A tiny checkpoint: patches of 14 pixels, pooled 2 x 2."""
    named = fields("""image_token=<image_soft_token> boi_token=<start_of_image>
        eoi_token=<end_of_image>""")
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos> <start_of_turn> <end_of_turn>", named)
    tokens = (side // 28) ** 2
    images = hf.Gemma3ImageProcessorPil(size=square(side), pan_and_scan_min_crop_size=smallest)
    processor = hf.Gemma3Processor(images, tokenizer, chat_template=CHAT, image_seq_length=tokens)
    config = hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(
            **text_part(tokenizer, layers=layers),
            **fields("head_dim=16 query_pre_attn_scalar=16 sliding_window_pattern=2"),
            # Every other layer sees a window that ends inside the picture.
            sliding_window=24,
        ),
        vision_config=siglip(side),
        mm_tokens_per_image=tokens,
        **{f"{n}_token_index": getattr(tokenizer, f"{n}_token_id") for n in KINDS},
    )
    torch.manual_seed(0)
    module = hf.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(module.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    sharpen_norms(module.get_decoder(), 1.7)
    return save_tiny(module, processor, folder)


TestGemma3 = contract(Gemma3Adapter, GOLDEN, tiny_gemma3)


class TestGemma3WithPanAndScan(TestGemma3):
    options: ClassVar[dict[str, Any]] = {"pan_and_scan": True}
    padding = ({"padding_side": "left"},)


real_size = checkpoint(tiny_gemma3, side=448, layers=2, smallest=None)


def test_a_photograph_is_squashed_to_16_by_16_cells(real_size):
    opened = opens(Gemma3Adapter, real_size)
    shows(opened, (640, 480), (16, 16))
    assert opened.model.statements == ("Pictures are squashed to a square.",)


def test_crops_of_a_long_picture_stand_behind_it(real_size):
    opened = opens(Gemma3Adapter, real_size, pan_and_scan=True)
    # 1001 pixels in 3 crops: two of 334 pixels, and what is left.
    crops = [("picture", 0, 1001), ("crop 0", 0, 334), ("crop 1", 334, 668), ("crop 2", 668, 1001)]
    assert {view.name: view.extent for view in views(opened, (1001, 334))} == {
        name: pytest.approx((left, 0.0, right, 334.0)) for name, left, right in crops
    }
    assert len(views(opened, (500, 490))) == 1


def test_the_option_is_true_or_false(real_size):
    with pytest.raises(InputError, match="give true or false"):
        opens(Gemma3Adapter, real_size, pan_and_scan="yes")
    opened = opens(Gemma3Adapter, real_size)
    refuses(opened, "module.config.mm_tokens_per_image", 64, (64, 256))


def test_published_files_give_the_same_rows(tmp_path, same_rows):
    """google/gemma-3-4b-it: settings that leave pan and scan open, and one rotation's scale."""

    def config(stated):
        text = stated["text_config"]
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope["full_attention"]["rope_theta"]
        text["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        text["rope_scaling"] = {"factor": 8.0, "rope_type": "linear"}
        text["sliding_window_pattern"] = 2
        del text["layer_types"]

    folder = tiny_gemma3(tmp_path / "m", side=448, layers=2, smallest=None)
    with edited(folder / "config.json") as stated:
        full = stated["text_config"]["rope_parameters"]["full_attention"]
        full.update(rope_type="linear", factor=8.0)
    images = fields("""do_convert_rgb=null do_normalize=true do_pan_and_scan=null do_rescale=true
        do_resize=true image_mean=[0.5,0.5,0.5] image_processor_type=Gemma3ImageProcessor
        image_seq_length=256 image_std=[0.5,0.5,0.5] pan_and_scan_max_num_crops=null
        pan_and_scan_min_crop_size=null pan_and_scan_min_ratio_to_activate=null
        processor_class=Gemma3Processor resample=2 rescale_factor=0.00392156862745098
        size={"height":448,"width":448}""")
    settings = {"image_seq_length": 256, "processor_class": "Gemma3Processor"}
    same_rows(Gemma3Adapter, folder, images, settings=settings, renamed=RENAMED, config=config)
