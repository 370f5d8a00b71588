"""Yi-VL passes the public contract, and its projector is the one with the norms."""

import shutil

import pytest
import torch
from families import TOWER, checkpoint, plain, prompted, save, shows
from originals import llava_processor, restate, saved_again
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig

from vg_engine.core.errors import WeightsError
from vg_engine.model_adapters.conversion.yi_vl import CHAT
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.yi_vl import YiVLAdapter
from vg_engine.model_adapters.modules.yi_vl import (
    YiVLConfig,
    YiVLForConditionalGeneration,
    YiVLProjector,
)
from vg_engine.testing import AdapterContract, open_adapter
from vg_engine.testing.tiny import BOS, EOS, PAD, byte_tokenizer, text_sizes

SYSTEM = (
    "This is a chat between an inquisitive human and an AI assistant. Assume the role of the AI "
    "assistant. Read all the images carefully, and respond to the human's questions with "
    "informative, helpful, detailed and polite answers. "
    "这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。"
    "仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。"
)


def tiny_yi_vl(folder, image_size=112, **sizes):
    tokenizer = byte_tokenizer(
        [PAD, BOS, EOS, "<image>"],
        merges=((".", "Ċ"),),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=["<image>"],
        padding_side="left",
    )
    vision = {**TOWER, "num_hidden_layers": 3, "image_size": image_size, "patch_size": 14}
    config = YiVLConfig(
        vision_config=CLIPVisionConfig(**vision, hidden_act="gelu"),
        text_config=LlamaConfig(rope_theta=5e6, **text_sizes(tokenizer, **sizes)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // 14) ** 2,
    )
    processor = llava_processor(tokenizer, image_size, CHAT)
    return save(YiVLForConditionalGeneration, config, processor, folder)


class TestYiVL(AdapterContract):
    adapter = YiVLAdapter
    golden = (
        prompted(f"{SYSTEM}\n\n<image>\nthe cup.", form="bare"),
        prompted(
            "Look.\n\n<image>\nwhich cup?",
            "which cup?",
            form="bare",
            system="Look.",
            ids=(43, 78, 78, 74, 256, 198, 260, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30),
        ),
        # A full stop and the newline that the template sets behind it are one token (256).
        prompted(f"{SYSTEM}\n\n### Human: <image>\nthe cup.\n### Assistant:", rows=(256,)),
        prompted(
            "Look.\n\n### Human: <image>\n它。\n### Assistant:",
            "它。",
            system="Look.",
            query_row="expression_all",
            rows=(161, 106, 225, 159, 222, 224),
        ),
    )

    load_plain = plain(YiVLForConditionalGeneration)

    def build(self, folder):
        tiny_yi_vl(folder)


real_grid = checkpoint(tiny_yi_vl, image_size=448, layers=2, hidden=32)


def test_the_real_grid_is_32_by_32_over_the_padded_picture(real_grid, caplog):
    opened = open_adapter(YiVLAdapter(), str(real_grid))
    shows(opened, (640, 480), (32, 32), (0.0, -80.0, 640.0, 560.0))
    assert "padded to a square" in opened.model.statements[0]
    assert "model of type" not in caplog.text


def test_the_projector_norms_behind_each_linear_layer(real_grid):
    """Against the definition with plain numbers, layer by layer."""
    projector = YiVLProjector(YiVLConfig.from_pretrained(real_grid))
    for parameter in projector.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(2, 5, 32)

    def linear(x, layer):
        return x @ layer.weight.T + layer.bias

    def norm(x, layer):
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * layer.weight + layer.bias

    def gelu(x):
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))

    hidden = gelu(norm(linear(features, projector.linear_1), projector.norm_1))
    expected = norm(linear(hidden, projector.linear_2), projector.norm_2)
    assert (projector(features) - expected).abs().max() < 1e-4


def test_saved_and_loaded_again_nothing_is_missing(real_grid, tmp_path):
    _, again = saved_again(YiVLForConditionalGeneration, real_grid, tmp_path)
    assert again.config.model_type == "yi_vl"
    assert again.config.text_config.rope_parameters["rope_theta"] == 5e6
    with pytest.raises(ValueError, match="yi_vl"):
        AutoConfig.from_pretrained(tmp_path)


def test_the_llava_adapter_refuses_the_weights_of_yi_vl(real_grid, tmp_path):
    """Its projector has no norms: it would be another model, silently."""
    shutil.copytree(real_grid, tmp_path, dirs_exist_ok=True)
    restate(tmp_path, model_type="llava")
    with pytest.raises(WeightsError, match=r"multi_modal_projector\.norm_1"):
        open_adapter(LlavaAdapter(), str(tmp_path))
