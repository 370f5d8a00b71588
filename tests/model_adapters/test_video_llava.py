"""Video-LLaVA passes the public contract for pictures, in both geometries."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaProcessor,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)
from transformers.models.video_llava.image_processing_video_llava import VideoLlavaImageProcessor

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.video_llava import VideoLlavaAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import BOS, EOS, LLAVA_CHAT, PAD, byte_tokenizer, save_tiny, text_sizes


def tiny_video_llava(folder: Path, *, side: int = 112) -> Path:
    tokenizer = byte_tokenizer(
        [PAD, BOS, EOS, "<image>", "<video>"],
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=["<image>", "<video>"],
        padding_side="left",
    )
    processor_class: Any = LlavaProcessor
    # The real one has a video part, which needs torchvision; of pictures it makes the same.
    processor = processor_class(
        image_processor=VideoLlavaImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer,
        chat_template=LLAVA_CHAT,
    )
    made: Any = VideoLlavaConfig
    config = made(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=side,
            patch_size=14,
        ),
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_seq_length=(side // 14) ** 2,
    )
    torch.manual_seed(0)
    return save_tiny(VideoLlavaForConditionalGeneration(config), processor, folder)


class TestVideoLlava(AdapterContract):
    adapter = VideoLlavaAdapter
    golden = (
        Golden("the cup", Prompt(), f"{VICUNA} <image>\nthe cup.", rows=(13,)),
        Golden("which cup?", Prompt("chat"), "USER: <image>\nwhich cup? ASSISTANT:", rows=(30,)),
    )

    def build(self, folder: Path) -> None:
        tiny_video_llava(folder)


class TestPad(TestVideoLlava):
    options: ClassVar = {"geometry": "pad"}


@pytest.mark.parametrize(
    ("geometry", "extent"),
    [
        # 298 x 224 pixels, of which 37 are cut off at either end.
        ("crop", (37 / 298 * 640, 0.0, 261 / 298 * 640, 480.0)),
        ("pad", (0.0, -80.0, 640.0, 560.0)),
    ],
)
def test_the_real_grid_is_16_by_16(tmp_path, geometry, extent):
    folder = tiny_video_llava(tmp_path / "224", side=224)
    opened = open_adapter(VideoLlavaAdapter(), str(folder), options={"geometry": geometry})
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    assert view.shape == (16, 16)
    assert view.extent == pytest.approx(extent)
    opened.model.processor.num_additional_image_tokens = 2
    with pytest.raises(TokenCountError, match=r"expected 257 image tokens .* made 256"):
        opened.views(inputs)
