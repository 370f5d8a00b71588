"""Video-LLaVA passes the public contract for pictures, in both geometries."""

from typing import Any, ClassVar

import pytest
import transformers as hf
from building import save, text_part, vision_part, vocabulary
from families import VICUNA, ask, contract, opens, prompted

from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.video_llava import VideoLlavaAdapter
from vg_engine.testing.tiny import BOS, EOS, LLAVA_CHAT, PAD


def tiny_video_llava(folder, *, side=112):
    tokenizer = vocabulary(f"pad={PAD} bos={BOS} eos={EOS}", ["<image>", "<video>"])
    processor_class: Any = hf.LlavaProcessor
    # The real one has a video part, which needs torchvision; of pictures it makes the same.
    processor = processor_class(
        image_processor=hf.VideoLlavaImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer,
        chat_template=LLAVA_CHAT,
    )
    config = hf.VideoLlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            **vision_part("num_hidden_layers=3"), image_size=side, patch_size=14
        ),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_seq_length=(side // 14) ** 2,
    )
    return save(hf.VideoLlavaForConditionalGeneration, config, processor, folder)


TestVideoLlava = contract(
    VideoLlavaAdapter,
    (
        prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
        prompted("USER: <image>\nwhich cup? ASSISTANT:", "which cup?"),
    ),
    tiny_video_llava,
)


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
    opened = opens(VideoLlavaAdapter, folder, geometry=geometry)
    inputs = ask(opened, (640, 480))
    (view,) = opened.views(inputs)[0]
    assert view.shape == (16, 16)
    assert view.extent == pytest.approx(extent)
    opened.model.processor.num_additional_image_tokens = 2
    with pytest.raises(TokenCountError, match=r"expected 257 image tokens .* made 256"):
        opened.views(inputs)
