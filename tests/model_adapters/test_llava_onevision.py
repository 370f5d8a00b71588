"""LLaVA-OneVision passes the public contract, with grids that are shrunk and grids that are not."""

import pytest
import transformers as hf
from building import fields, processor_of, save, siglip, square, text_part, vocabulary
from families import RENAMED, VICUNA, contract, image_tokens, loaded, prompted, views

from vg_engine.model_adapters.families.llava_onevision import LlavaOnevisionAdapter

# As published: a blank behind the role, the text on a line of its own (looked up on copies).
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>"
    "{% else %}{{ '\n' + content['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_onevision(folder, *, tile=62, most=9, across=3, layers: int = 4):
    """Canvases of up to `across` x `across` tiles, shrunk to the cells of `most`."""
    tokenizer = vocabulary("pad=<|endoftext|> <|im_start|> eos=<|im_end|>", ["<image>", "<video>"])
    counts = range(1, across + 1)
    points = [[rows * tile, cols * tile] for rows in counts for cols in counts]
    images = hf.LlavaOnevisionImageProcessorPil(size=square(tile), image_grid_pinpoints=points)
    more = {"num_image_tokens": (tile // 14) ** 2, "vision_feature_select_strategy": "full"}
    processor = processor_of(
        hf.LlavaOnevisionProcessor, images, tokenizer, chat_template=CHAT, **more
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=siglip(tile),
        text_config=hf.Qwen2Config(**text_part(tokenizer, layers=layers)),
        image_grid_pinpoints=points,
        vision_aspect_ratio=f"anyres_max_{most}",
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    whole = hf.LlavaOnevisionForConditionalGeneration
    return save(whole, config, processor, folder, sharpness=10.0)


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


def test_real_sizes(opened):
    """A picture of 640 x 480 on 2 x 2 tiles: 40.5 of 54 rows of cells show it, 40 are kept."""
    found = views(opened, (640, 480))
    names = ["thumbnail", "tile 0,0", "tile 0,1", "tile 1,0", "tile 1,1"]
    assert [view.name for view in found] == names
    assert image_tokens(opened, (640, 480)) == 27 * 27 + 40 * 55
    assert [view.shape for view in found[1:]] == [(20, 27)] * 4
    # 96 pixels of border above, 7 rows of 14 pixels dropped; 378 of a tile's 384 pixels are seen.
    scale = 640 / 768
    assert found[1].extent == pytest.approx((0, 2 * scale, 378 * scale, 282 * scale))


def test_real_sizes_of_a_large_picture_are_shrunk(opened):
    """A square of 2304 pixels on 6 x 6 tiles: 162 x 162 cells, shrunk to those of nine tiles."""
    thumbnail, tiles = views(opened, (2304, 2304))
    assert (thumbnail.shape, tiles.shape) == ((27, 27), (81, 81))
    assert image_tokens(opened, (2304, 2304)) == 27 * 27 + 81 * 82
    assert tiles.extent == pytest.approx((-3.0, -3.0, 2301.0, 2301.0))


SETTINGS = fields("""image_token=<image> num_image_tokens=729
        processor_class=LlavaOnevisionProcessor video_token=<video>
        vision_feature_select_strategy=full""")


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, same_rows, settings):
    """llava-hf/llava-onevision-qwen2-*-ov-hf, as their converter wrote them."""
    images = fields("""aspect_ratio_setting=anyres do_convert_rgb=true do_normalize=true do_pad=true
        do_rescale=true do_resize=true image_mean=[0.48145466,0.4578275,0.40821073]
        image_processor_type=LlavaOnevisionImageProcessor processor_class=LlavaOnevisionProcessor
        image_std=[0.26862954,0.26130258,0.27577711] resample=3
        rescale_factor=0.00392156862745098 size={"height":384,"width":384}""")
    sides = range(384, 2305, 384)
    images["image_grid_pinpoints"] = [[height, width] for height in sides for width in sides]
    folder = tiny_onevision(tmp_path / "m", tile=384, across=6, layers=1)
    same_rows(LlavaOnevisionAdapter, folder, images, settings=settings, renamed=RENAMED)
