"""Gemma 3 passes the public contract, with pan and scan and without."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, TokenCountError
from vg_engine.model_adapters.families.gemma3 import Gemma3Adapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

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
GOLDEN = (
    Golden("the cup", Prompt(), f"{VICUNA} {PICTURE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat"),
        f"<bos><start_of_turn>user\n{PICTURE}which cup?<end_of_turn>\n<start_of_turn>model\n",
        rows=(30,),
    ),
    Golden(
        "the cup",
        Prompt("chat", system="Look.", query_row="prompt_last"),
        f"<bos><start_of_turn>user\nLook.\n\n{PICTURE}the cup.<end_of_turn>\n"
        "<start_of_turn>model\n",
        rows=(198,),
    ),
)


def tiny_gemma3(
    folder: Path, *, side: int = 112, layers: int = 4, smallest: int | None = 40
) -> Path:
    """A tiny checkpoint: patches of 14 pixels, pooled 2 x 2."""
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = byte_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *named.values()],
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens=named,
        padding_side="left",
    )
    tokens = (side // 28) ** 2
    images = Gemma3ImageProcessorPil(
        size={"height": side, "width": side}, pan_and_scan_min_crop_size=smallest
    )
    made: Any = Gemma3Processor
    processor = made(images, tokenizer, chat_template=CHAT, image_seq_length=tokens)
    made = Gemma3Config
    config = made(
        text_config=Gemma3TextConfig(
            **text_sizes(tokenizer, layers=layers),
            head_dim=16,
            query_pre_attn_scalar=16,
            # Every other layer sees a window that ends inside the picture.
            sliding_window=24,
            sliding_window_pattern=2,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=side,
            patch_size=14,
            vision_use_head=False,
        ),
        mm_tokens_per_image=tokens,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    torch.manual_seed(0)
    module: Any = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(module.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed, so projections cannot sharpen; their norms are 1 + weight.
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(parameter, 0.7)
    return save_tiny(module, processor, folder)


class TestGemma3(AdapterContract):
    adapter = Gemma3Adapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_gemma3(folder)


class TestGemma3WithPanAndScan(TestGemma3):
    options: ClassVar[dict[str, Any]] = {"pan_and_scan": True}
    padding = ({"padding_side": "left"},)


@pytest.fixture(scope="module")
def real_size(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma3") / "448"
    return tiny_gemma3(folder, side=448, layers=2, smallest=None)


def views(opened, size):
    return opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))[0]


def test_a_photograph_is_squashed_to_16_by_16_cells(real_size):
    opened = open_adapter(Gemma3Adapter(), str(real_size))
    (view,) = views(opened, (640, 480))
    assert view.shape == (16, 16)
    assert view.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert opened.model.statements == ("Pictures are squashed to a square.",)


def test_crops_of_a_long_picture_stand_behind_it(real_size):
    opened = open_adapter(Gemma3Adapter(), str(real_size), options={"pan_and_scan": True})
    # 1001 pixels in 3 crops: two of 334 pixels, and what is left.
    assert {view.name: view.extent for view in views(opened, (1001, 334))} == {
        "picture": pytest.approx((0.0, 0.0, 1001.0, 334.0)),
        "crop 0": pytest.approx((0.0, 0.0, 334.0, 334.0)),
        "crop 1": pytest.approx((334.0, 0.0, 668.0, 334.0)),
        "crop 2": pytest.approx((668.0, 0.0, 1001.0, 334.0)),
    }
    assert len(views(opened, (500, 490))) == 1


def test_the_option_is_true_or_false(real_size):
    with pytest.raises(InputError, match="give true or false"):
        open_adapter(Gemma3Adapter(), str(real_size), options={"pan_and_scan": "yes"})


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real_size):
    opened = open_adapter(Gemma3Adapter(), str(real_size))
    module: Any = opened.model.module
    module.config.mm_tokens_per_image = 64
    with pytest.raises(TokenCountError, match=r"expected 64 image tokens .* made 256"):
        views(opened, (64, 64))


def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows):
    """google/gemma-3-4b-it: settings that leave pan and scan open, and one rotation's scale."""

    def config(stated):
        text = stated["text_config"]
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope["full_attention"]["rope_theta"]
        text["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        text["rope_scaling"] = {"factor": 8.0, "rope_type": "linear"}
        text["sliding_window_pattern"] = 2
        del text["layer_types"]

    def rewrite(folder):
        published(
            folder,
            {
                "do_convert_rgb": None,
                "do_normalize": True,
                "do_pan_and_scan": None,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "Gemma3ImageProcessor",
                "image_seq_length": 256,
                "image_std": [0.5, 0.5, 0.5],
                "pan_and_scan_max_num_crops": None,
                "pan_and_scan_min_crop_size": None,
                "pan_and_scan_min_ratio_to_activate": None,
                "processor_class": "Gemma3Processor",
                "resample": 2,
                "rescale_factor": 0.00392156862745098,
                "size": {"height": 448, "width": 448},
            },
            settings={"image_seq_length": 256, "processor_class": "Gemma3Processor"},
            renamed=[(r"^vision_tower\.", "vision_tower.vision_model.")],
            config=config,
        )

    folder = tiny_gemma3(tmp_path / "m", side=448, layers=2, smallest=None)
    stated = json.loads((folder / "config.json").read_text())
    full = stated["text_config"]["rope_parameters"]["full_attention"]
    full.update(rope_type="linear", factor=8.0)
    (folder / "config.json").write_text(json.dumps(stated))
    assert change_of_rows(Gemma3Adapter, folder, rewrite, "chat") < 1e-6
