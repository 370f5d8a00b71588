"""Video-LLaVA passes the public contract for pictures, in both geometries."""

import pytest
import transformers as hf
from building import save, square, text_part, vision_part, vocabulary
from families import VICUNA, contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.video_llava import VideoLlavaAdapter
from vg_engine.testing.tiny import LLAVA_CHAT


def tiny_video_llava(folder, *, side=112):
    tokenizer = vocabulary("pad=<pad> bos=<s> eos=</s>", ["<image>", "<video>"])
    # The real one has a video part, which needs torchvision; of pictures it makes the same.
    size = {"shortest_edge": side}
    images = hf.VideoLlavaImageProcessor(size=size, crop_size=square(side))
    processor = hf.LlavaProcessor(images, tokenizer, chat_template=LLAVA_CHAT)
    config = hf.VideoLlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            **vision_part("num_hidden_layers=3 patch_size=14", image_size=side)
        ),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_seq_length=(side // 14) ** 2,
    )
    return save(hf.VideoLlavaForConditionalGeneration, config, processor, folder)


GOLDEN = (
    prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
    prompted("USER: <image>\nwhich cup? ASSISTANT:", "which cup?"),
)
TestVideoLlava = contract(VideoLlavaAdapter, GOLDEN, tiny_video_llava)


PAD = {"geometry": "pad"}
TestPad = contract(
    VideoLlavaAdapter, GOLDEN, tiny_video_llava, options=PAD, pytestmark=pytest.mark.slow
)


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
    shows(opened, (640, 480), (16, 16), extent)
    refuses(opened, "num_additional_image_tokens", 2, (257, 256), (640, 480))
