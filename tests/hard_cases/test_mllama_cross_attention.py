"""Hard case 3: Mllama through the hooks: the picture is on the keys of cross-attention layers.

Those keys are no text: tiles x (class token + patches), filled up to the most tiles that a
picture may have.
"""

import numpy as np
import pytest
import torch
from families import fields
from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from vg_engine.core.errors import HeadsError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.mllama import MllamaAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import noise
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

# A tile of 56 pixels is a class token and 4 x 4 patches; there is always room for four tiles.
TILE, PATCH, SIDE, MOST = 56, 14, 4, 4
TOKENS = 1 + SIDE * SIDE
CROSS = (1, 3, 5)
EXPRESSIONS = ("the cup", "a dog that looks to the far left", "it")
# (width, height) of pictures that are not resized, and their columns and rows of tiles.
SHAPES = (((56, 56), (1, 1)), ((112, 56), (2, 1)), ((100, 104), (2, 2)), ((56, 150), (1, 3)))


@pytest.fixture(scope="module")
def case(tmp_path_factory, case_of):
    begin, pad, image = "<|begin_of_text|>", "<|finetune_right_pad_id|>", "<|image|>"
    tokenizer = byte_tokenizer(
        [begin, pad, "<|python_tag|>", image],
        bos_token=begin,
        eos_token=pad,
        pad_token=pad,
        extra_special_tokens=[image],
        padding_side="left",
    )
    config = MllamaConfig(
        text_config={**text_sizes(tokenizer, layers=6), "cross_attention_layers": list(CROSS)},
        vision_config=fields(f"""image_size={TILE} patch_size={PATCH} max_num_tiles={MOST}
            hidden_size=32 intermediate_size=64 num_hidden_layers=3 num_global_layers=1
            attention_heads=4 intermediate_layers_indices=[1,2] vision_output_dim=96"""),
        image_token_index=tokenizer.convert_tokens_to_ids(image),
    )
    torch.manual_seed(0)
    module = MllamaForConditionalGeneration(config)
    for name, parameter in module.named_parameters():
        # Queries and keys are normed here, so projections cannot sharpen; gates open at zero.
        if "cross_attn.q_norm" in name or "cross_attn.k_norm" in name:
            parameter.data.mul_(3.5)
        if "gate" in name and parameter.numel() == 1:
            parameter.data.fill_(0.5)
    images = MllamaImageProcessorPil(size={"height": TILE, "width": TILE}, max_image_tiles=MOST)
    folder = tmp_path_factory.mktemp("mllama") / "tiny"
    save_tiny(module, MllamaProcessor(images, tokenizer), folder, sharpness=4.0)
    heads, call = [Head(3, 1), Head(5, 0)], {"add_special_tokens": False}
    return case_of(MllamaAdapter, folder, heads=heads, call=call)


def boxes_of(tiles):
    """(left, top, right, bottom) of tiles, row by row."""
    cols, rows = tiles
    corners = ((col * TILE, row * TILE) for row, col in np.ndindex(rows, cols))
    return [(left, top, left + TILE, top + TILE) for left, top in corners]


def test_maps_equal_eager_cross_attention(case, by_pixels):
    prompts = {text: f"<|image|><|begin_of_text|>{VICUNA}\n{text}." for text in EXPRESSIONS}
    found = []
    for size, (cols, rows_) in SHAPES:
        boxes, canvas = boxes_of((cols, rows_)), (cols * TILE, rows_ * TILE)

        def read(rows, _):
            assert rows.shape == (len(CROSS) * 4, MOST * TOKENS)
            tiles = rows.reshape(-1, MOST, TOKENS)
            used = len(boxes)  # noqa: B023 - called in this round
            assert not tiles[:, used:].any()  # room for tiles that this picture has not got
            seen = tiles[:, :used, 1:]  # every tile begins with its class token
            grids = [seen[:, tile].reshape(-1, SIDE, SIDE) for tile in range(used)]
            parts = list(zip(grids, boxes, strict=True))  # noqa: B023 - the same
            return by_pixels(parts, canvas, (PATCH, PATCH)), seen.reshape(len(rows), -1)  # noqa: B023 - the same

        found.append(case.check(noise(size, 9), prompts, read, CROSS))
    worst, sharpest = np.max(found, axis=0)
    print(f"mllama: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


@pytest.mark.parametrize("heads", [[Head(2, 0)], [Head(2, 0), Head(3, 0)]])
def test_heads_of_self_attention_are_refused(case, heads):
    """Their keys are text: a map read from them would be another thing's, without an error."""
    assert case.engine.model.map_layers == CROSS
    with pytest.raises(HeadsError, match="L2H0"):
        case.engine.maps(noise((56, 56)), "it", heads)
