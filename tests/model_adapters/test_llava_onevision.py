"""LLaVA-OneVision passes the public contract, with grids that are shrunk and grids that are not."""

import pytest
import transformers as hf
from building import TOWER, fields, save, text_part, vocabulary
from families import VICUNA, ask, contract, loaded, prompted

from vg_engine.model_adapters.families.llava_onevision import LlavaOnevisionAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing.tiny import END_OF_TEXT, END_OF_TURN

# As published: a blank behind the role, the text on a line of its own (looked up on copies).
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>"
    "{% else %}{{ '\n' + content['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_onevision(folder, *, tile=62, most=9, across=3, layers: int = 4):
    """Canvases of up to `across` x `across` tiles, shrunk to the cells of `most`."""
    tokenizer = vocabulary(
        f"pad={END_OF_TEXT} <|im_start|> eos={END_OF_TURN}", ["<image>", "<video>"]
    )
    points = [
        [rows * tile, cols * tile] for rows in range(1, across + 1) for cols in range(1, across + 1)
    ]
    processor = without_video(hf.LlavaOnevisionProcessor)(
        hf.LlavaOnevisionImageProcessorPil(
            size={"height": tile, "width": tile}, image_grid_pinpoints=points
        ),
        tokenizer,
        num_image_tokens=(tile // 14) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT,
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(
            **TOWER, image_size=tile, patch_size=14, vision_use_head=False
        ),
        text_config=hf.Qwen2Config(**text_part(tokenizer, layers=layers)),
        image_grid_pinpoints=points,
        vision_aspect_ratio=f"anyres_max_{most}",
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return save(
        hf.LlavaOnevisionForConditionalGeneration, config, processor, folder, sharpness=10.0
    )


TestOnevision = contract(
    LlavaOnevisionAdapter,
    (
        prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
        prompted("<|im_start|>user <image>\nthe cup.<|im_end|><|im_start|>assistant\n"),
        prompted(
            "<|im_start|>system \nSee.<|im_end|><|im_start|>user <image>\nwhich cup?<|im_end|>"
            "<|im_start|>assistant\n",
            "which cup?",
            system="See.",
        ),
    ),
    tiny_onevision,
    foreign=("num_image_tokens", 576, (88, 2928)),
)


class TestShrunk(TestOnevision):
    """Pictures on more than four tiles are shrunk to the cells of four."""

    strips = False  # a cell is blended out of the nearest four
    foreign = ("num_image_tokens", 576, (136, 1176))

    def build(self, folder):
        tiny_onevision(folder, tile=118, most=4)


# Tiles of 384 pixels, patches of 14 and canvases of up to 6 x 6 tiles, as published.
opened = loaded(LlavaOnevisionAdapter, tiny_onevision, tile=384, across=6, layers=1)


def image_tokens(opened, inputs):
    return int((inputs.tensors["input_ids"] == opened.model.processor.image_token_id).sum())


def test_real_sizes(opened):
    """A picture of 640 x 480 on 2 x 2 tiles: 40.5 of 54 rows of cells show it, 40 are kept."""
    inputs = ask(opened, (640, 480))
    found = opened.views(inputs)[0]
    names = ["thumbnail", "tile 0,0", "tile 0,1", "tile 1,0", "tile 1,1"]
    assert [view.name for view in found] == names
    assert image_tokens(opened, inputs) == 27 * 27 + 40 * 55
    assert [view.shape for view in found[1:]] == [(20, 27)] * 4
    # 96 pixels of border above, 7 rows of 14 pixels dropped; 378 of a tile's 384 pixels are seen.
    scale = 640 / 768
    expected = (0, 2 * scale, 378 * scale, 282 * scale)
    assert found[1].extent == pytest.approx(expected)


def test_real_sizes_of_a_large_picture_are_shrunk(opened):
    """A square of 2304 pixels on 6 x 6 tiles: 162 x 162 cells, shrunk to those of nine tiles."""
    inputs = ask(opened, (2304, 2304))
    thumbnail, tiles = opened.views(inputs)[0]
    assert (thumbnail.shape, tiles.shape) == ((27, 27), (81, 81))
    assert image_tokens(opened, inputs) == 27 * 27 + 81 * 82
    assert tiles.extent == pytest.approx((-3.0, -3.0, 2301.0, 2301.0))


SETTINGS = fields("""image_token=<image> num_image_tokens=729
        processor_class=LlavaOnevisionProcessor video_token=<video>
        vision_feature_select_strategy=full""")


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, same_rows, settings):
    """llava-hf/llava-onevision-qwen2-*-ov-hf, as their converter wrote them."""

    folder = tiny_onevision(tmp_path / "m", tile=384, across=6, layers=1)
    images = {
        **fields("""aspect_ratio_setting=anyres do_convert_rgb=true do_normalize=true
            do_pad=true do_rescale=true do_resize=true"""),
        "image_grid_pinpoints": [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)],
        **fields("""image_mean=[0.48145466,0.4578275,0.40821073]
            image_processor_type=LlavaOnevisionImageProcessor
            image_std=[0.26862954,0.26130258,0.27577711] processor_class=LlavaOnevisionProcessor
            resample=3 rescale_factor=0.00392156862745098 size={"height":384,"width":384}"""),
    }
    renamed = [(r"^vision_tower\.", "vision_tower.vision_model.")]
    same_rows(
        LlavaOnevisionAdapter, folder, images, settings=settings, renamed=renamed, form="chat"
    )
