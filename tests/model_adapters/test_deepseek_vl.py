"""DeepSeek-VL passes the public contract, with one tower and with two."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    DeepseekVLHybridProcessor,
    DeepseekVLProcessor,
    LlamaConfig,
    SamVisionConfig,
    SiglipVisionConfig,
)
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
    DeepseekVLImageProcessorPil,
)
from transformers.models.deepseek_vl_hybrid.image_processing_pil_deepseek_vl_hybrid import (
    DeepseekVLHybridImageProcessorPil,
)

from vg_engine.core.errors import TokenCountError
from vg_engine.core.types import Expression, Prompt
from vg_engine.model_adapters.deepseek_vl import DeepseekVLAdapter
from vg_engine.model_adapters.deepseek_vl_hybrid import DeepseekVLHybridAdapter
from vg_engine.testing import AdapterContract, Golden, Opened, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

IMAGE, END = "<image_placeholder>", "<｜end▁of▁sentence｜>"
# The original conversation's roles and separators, from memory.
CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'] | capitalize }}: {% endif %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image_placeholder>\n{% else %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(system="Look."), f"Look. {IMAGE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat", system="See."),
        f"See.\n\nUser: {IMAGE}\nwhich cup?\n\nAssistant:",
        rows=(30,),
    ),
)
SIDE = 96


def parts(side: int, layers: int) -> tuple[Any, dict[str, Any]]:
    """A tokenizer, and the parts of a config that both models share."""
    special = ["<｜begin▁of▁sentence｜>", END, "<pad>", IMAGE]
    tokenizer = byte_tokenizer(
        special,
        bos_token=special[0],
        eos_token=END,
        pad_token="<pad>",
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
    )
    tower = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=side,
        patch_size=16,
        vision_use_head=False,
    )
    return tokenizer, {
        "vision_config": tower,
        "text_config": LlamaConfig(**text_sizes(tokenizer, layers=layers)),
        "image_token_id": tokenizer.convert_tokens_to_ids(IMAGE),
    }


def tiny(folder: Path, *, side: int = SIDE, layers: int = 4) -> Path:
    """A tiny DeepSeek-VL; 384 pixels make the real 24 x 24 cells."""
    tokenizer, shared = parts(side, layers)
    images = DeepseekVLImageProcessorPil(size={"height": side, "width": side})
    made: Any = DeepseekVLProcessor
    length = (side // 16) ** 2
    processor = made(images, tokenizer, chat_template=CHAT, num_image_tokens=length)
    config: Any = DeepseekVLConfig
    torch.manual_seed(0)
    module = DeepseekVLForConditionalGeneration(config(**shared))
    return save_tiny(module, processor, folder)


def tiny_hybrid(folder: Path, *, side: int = SIDE, large: int = 256, layers: int = 4) -> Path:
    """A tiny hybrid; 384 and 1024 pixels are the real sizes."""
    tokenizer, shared = parts(side, layers)
    images = DeepseekVLHybridImageProcessorPil(
        size={"height": side, "width": side}, high_res_size={"height": large, "width": large}
    )
    made: Any = DeepseekVLHybridProcessor
    length = (side // 16) ** 2
    processor = made(images, tokenizer, chat_template=CHAT, num_image_tokens=length)
    tower = SamVisionConfig(
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=large,
        window_size=7,
        global_attn_indexes=[1],
        mlp_dim=64,
        initializer_range=0.02,
    )
    config: Any = DeepseekVLHybridConfig
    torch.manual_seed(0)
    module: Any = DeepseekVLHybridForConditionalGeneration(
        config(**shared, high_res_vision_config=tower)
    )
    # Zero at first, and learnt: so that the tower's inner layer takes part.
    torch.nn.init.constant_(module.model.high_res_vision_alpha, 0.5)
    return save_tiny(module, processor, folder)


def view(opened, size):
    ((found,),) = opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))
    return found


class TestDeepseekVL(AdapterContract):
    adapter = DeepseekVLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny(folder)


class TestHybrid(AdapterContract):
    adapter = DeepseekVLHybridAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_hybrid(folder)

    def unmix(self, opened: Opened) -> None:
        """Even the kernels out, too: random ones move SAM's half by chance."""
        super().unmix(opened)
        for part in opened.model.module.modules():
            if isinstance(part, torch.nn.Conv2d) and part.kernel_size == (3, 3):
                part.weight.data[:] = part.weight.data.mean((-2, -1), keepdim=True)

    def test_both_towers_are_shown_the_same_square(self, opened):
        """Noise in the middle, plain border: at either size it begins at the same share."""
        inputs = opened.prepare([noise((300, 101))], [Expression(0, "it")])
        starts = []
        for name in ("pixel_values", "high_res_pixel_values"):
            lines = inputs.tensors[name][0].std(dim=(0, 2))
            varied = (lines > lines.max() / 2).nonzero().ravel()
            starts.append([float(varied[0]) / len(lines), float(varied[-1] + 1) / len(lines)])
        _, top, _, bottom = view(opened, (300, 101)).to_original.inverse_box(
            (0.0, 0.0, 300.0, 101.0)
        )
        assert starts[1] == pytest.approx([top / 6, bottom / 6], abs=1.5 / 256)
        assert starts[0] == pytest.approx(starts[1], abs=1.5 / SIDE)


def test_a_photograph_lies_in_the_middle_of_a_square(tmp_path):
    opened = open_adapter(DeepseekVLAdapter(), str(tiny(tmp_path / "m", side=384, layers=1)))
    found = view(opened, (640, 480))
    assert found.shape == (24, 24)
    assert found.extent == pytest.approx((0.0, -80.0, 640.0, 560.0))
    # 401 / 640 of 384 pixels are rounded to 241; 71 of the 143 pixels of border are above.
    assert view(opened, (640, 401)).extent[1] == pytest.approx(-71 * 401 / 241)


def test_the_larger_size_rounds_for_both(tmp_path):
    folder = tiny_hybrid(tmp_path / "m", side=384, large=1024, layers=1)
    opened = open_adapter(DeepseekVLHybridAdapter(), str(folder))
    found = view(opened, (640, 401))
    assert found.shape == (24, 24)
    # 642 of 1024 pixels, behind 191 of border.
    assert found.extent[1] == pytest.approx(-191 * 401 / 642)


@pytest.mark.parametrize(
    ("adapter", "build"), [(DeepseekVLAdapter, tiny), (DeepseekVLHybridAdapter, tiny_hybrid)]
)
def test_a_processor_that_does_not_belong_to_the_model_is_refused(tmp_path, adapter, build):
    opened = open_adapter(adapter(), str(build(tmp_path / "m", layers=1)))
    opened.model.processor.num_image_tokens = 35
    with pytest.raises(TokenCountError, match=r"expected 36 image tokens .* made 35"):
        view(opened, (64, 64))
