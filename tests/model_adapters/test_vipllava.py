"""ViP-LLaVA passes the public contract in both geometries; its template is the model card's."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaProcessor,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.vipllava import VipLlavaAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import BOS, EOS, PAD, byte_tokenizer, save_tiny, text_sizes

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
# As the script that wrote the template of llava-hf/vip-llava-7b-hf has it (a copy; that file itself
# was not seen): without the model card's sentence, and with a user's own system sentence twice.
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}###Human: "
    "{% else %}{{ message['content'][0]['text'] }}{% endif %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}###Assistant:{% endif %}"
)


def tiny_vipllava(folder: Path, *, side: int = 112, size: int | None = None) -> Path:
    tokenizer = byte_tokenizer(
        [PAD, BOS, EOS, "<image>"],
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=["<image>"],
        padding_side="left",
    )
    shown = size or side
    processor_class: Any = LlavaProcessor
    # Older files say nothing about patches: the adapter takes them from the config.
    processor = processor_class(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": shown}, crop_size={"height": shown, "width": shown}
        ),
        tokenizer=tokenizer,
        chat_template=CHAT,
    )
    made: Any = VipLlavaConfig
    config = made(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=side,
            patch_size=14,
        ),
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        vision_feature_layer=[-2, -3, 1],
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // 14) ** 2,
    )
    torch.manual_seed(0)
    return save_tiny(VipLlavaForConditionalGeneration(config), processor, folder)


class TestVipLlava(AdapterContract):
    adapter = VipLlavaAdapter
    golden = (
        Golden("the cup", Prompt(), f"{SYSTEM}###Human: <image>\nthe cup.", rows=(13,)),
        Golden(
            "the cup",
            Prompt("chat"),
            "###Human: <image>\nthe cup.###Assistant:",
            rows=(13,),
        ),
        Golden(
            "the cup",
            Prompt("chat", system="See."),
            "See.See.###Human: <image>\nthe cup.###Assistant:",
            rows=(13,),
        ),
        Golden(
            "which cup?",
            Prompt("chat", query_row="prompt_last"),
            "###Human: <image>\nwhich cup?###Assistant:",
            rows=(25,),
        ),
    )

    def build(self, folder: Path) -> None:
        tiny_vipllava(folder)


class TestPad(TestVipLlava):
    options: ClassVar = {"geometry": "pad"}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return tiny_vipllava(tmp_path_factory.mktemp("vipllava") / "336", side=336)


@pytest.mark.parametrize(
    ("geometry", "extent"),
    [("crop", (80.0, 0.0, 560.0, 480.0)), ("pad", (0.0, -80.0, 640.0, 560.0))],
)
def test_the_real_grid_is_24_by_24(real, geometry, extent):
    opened = open_adapter(VipLlavaAdapter(), str(real), options={"geometry": geometry})
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    assert view.shape == (24, 24)
    assert view.extent == extent


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = open_adapter(VipLlavaAdapter(), str(real))
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    opened.model.processor.image_processor.crop_size = {"height": 224, "width": 224}
    with pytest.raises(TokenCountError, match=r"expected 256 image tokens .* made 576"):
        opened.views(inputs)


def test_published_files_give_the_same_rows(tmp_path, published, clip):
    """llava-hf/vip-llava-7b-hf: what LLaVA-1.5's image processor states, and nothing else."""

    def rows():
        opened = open_adapter(VipLlavaAdapter(), str(folder))
        inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")], Prompt("chat"))
        return opened.rows(inputs)[0]

    folder = tiny_vipllava(tmp_path / "m", side=336)
    expected = rows()
    published(folder, clip, renamed=[(r"^vision_tower\.", "vision_tower.vision_model.")])
    assert (rows() - expected).abs().max() < 1e-6
