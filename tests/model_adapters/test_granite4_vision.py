"""Granite 4 Vision passes the public contract: blended cells, given to several layers."""

import pytest
import transformers as hf
from building import chat, fields, save, square, text_part, vision_part, vocabulary
from families import VICUNA, checkpoint, contract, image_tokens, opens, prompted, views

from vg_engine.model_adapters.families.granite4_vision import Granite4VisionAdapter

# From memory.
ANSWER = "<|start_of_role|>assistant<|end_of_role|>"
TURN, END = "<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n"
CHAT = chat(TURN, "<image>\n", END, answer=ANSWER)
POINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
LAYERS = 6


def tiny_granite4(folder, *, tile=112, first=1, layers=LAYERS):
    """Windows of 4 x 4 patches become 2 x 2 cells; the picture enters at layer `first`."""
    special = "pad=bos=eos=<|end_of_text|> <|start_of_role|> <|end_of_role|>"
    tokenizer = vocabulary(special, ["<image>"])
    points = [[rows * tile, cols * tile] for rows, cols in POINTS]
    size, more = square(tile), {"vision_feature_select_strategy": "full", "downsample_rate": "2/4"}
    images = hf.LlavaNextImageProcessorPil(size=size, crop_size=size, image_grid_pinpoints=points)
    processor = hf.Granite4VisionProcessor(
        images, tokenizer, patch_size=14, **more, chat_template=CHAT
    )
    config = hf.Granite4VisionConfig(
        vision_config=hf.SiglipVisionConfig(
            **vision_part("hidden_size=64 num_hidden_layers=3 patch_size=14", image_size=tile)
        ),
        text_config=text_part(
            tokenizer, "attention_multiplier=0.2 residual_multiplier=0.5", layers=layers
        ),
        qformer_config=fields("""model_type=blip_2_qformer intermediate_size=64 num_hidden_layers=1
            cross_attention_frequency=1 vocab_size=8"""),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=points,
        **more,
        deepstack_layer_map=[[-2, first]],
        spatial_target_layers=[2, 3, 4, 5],
    )
    return save(hf.Granite4VisionForConditionalGeneration, config, processor, folder)


TestGranite4Vision = contract(
    Granite4VisionAdapter,
    (
        prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
        prompted(
            "<|start_of_role|>user<|end_of_role|><image>\nwhich cup?<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>",
            "which cup?",
        ),
    ),
    tiny_granite4,
    foreign=("downsample_rate", None, (36, 136)),
)
# A tile of 336 pixels: 24 x 24 patches, and half as many cells either way.
real = checkpoint(tiny_granite4, tile=336, first=0)


def test_real_sizes(real):
    opened = opens(Granite4VisionAdapter, real)
    assert image_tokens(opened, (640, 480)) == 12 * 12 + 18 * 25
    thumbnail, tiles = views(opened, (640, 480))
    assert (thumbnail.shape, tiles.shape) == ((12, 12), (18, 24))
    assert tiles.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert "window of 2 x 2 cells (4 x 4 patches)" in opened.model.statements[1]


def test_layers_before_the_picture_have_no_map(real, tmp_path):
    assert opens(Granite4VisionAdapter, real).model.map_layers is None
    later = opens(Granite4VisionAdapter, tiny_granite4(tmp_path / "m", first=1))
    assert later.model.map_layers == (1, 2, 3, 4, 5)
