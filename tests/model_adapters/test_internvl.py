"""InternVL passes the public contract: tiles, thumbnail and merged patches."""

from pathlib import Path

import pytest
import torch

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, TokenCountError
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter, paint
from vg_engine.testing.tiny import tiny_internvl

# With ".", newline merged into one token (256), as the tokenizers of large models have it.
MERGES = ((".", "Ċ"),)
# fmt: off
GOLDEN = (
    Golden(
        "the cup",
        Prompt(),
        "A chat between a curious user and an artificial intelligence assistant. The "
        "assistant gives helpful, detailed, and polite answers to the user's questions. "
        "<img><IMG_CONTEXT></img>\nthe cup.",
        (
            32, 220, 66, 71, 64, 83, 220, 65, 68, 83, 86, 68, 68, 77, 220, 64, 220, 66, 84, 81,
            72, 78, 84, 82, 220, 84, 82, 68, 81, 220, 64, 77, 67, 220, 64, 77, 220, 64, 81, 83,
            72, 69, 72, 66, 72, 64, 75, 220, 72, 77, 83, 68, 75, 75, 72, 70, 68, 77, 66, 68, 220,
            64, 82, 82, 72, 82, 83, 64, 77, 83, 13, 220, 51, 71, 68, 220, 64, 82, 82, 72, 82, 83,
            64, 77, 83, 220, 70, 72, 85, 68, 82, 220, 71, 68, 75, 79, 69, 84, 75, 11, 220, 67, 68,
            83, 64, 72, 75, 68, 67, 11, 220, 64, 77, 67, 220, 79, 78, 75, 72, 83, 68, 220, 64, 77,
            82, 86, 68, 81, 82, 220, 83, 78, 220, 83, 71, 68, 220, 84, 82, 68, 81, 6, 82, 220, 80,
            84, 68, 82, 83, 72, 78, 77, 82, 13, 220, 260, 262, 261, 198, 83, 71, 68, 220, 66, 84,
            79, 13,
        ),
        (13,),
    ),
    Golden(
        "which cup?",
        Prompt(system="Look."),
        "Look. <img><IMG_CONTEXT></img>\nwhich cup?",
        (
            43, 78, 78, 74, 13, 220, 260, 262, 261, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30,
        ),
        (30,),
    ),
    Golden(
        "the cup",
        Prompt("chat"),
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nthe cup.<|im_end|>\n"
        "<|im_start|>assistant\n",
        (
            258, 84, 82, 68, 81, 198, 260, 262, 261, 198, 83, 71, 68, 220, 66, 84, 79, 13, 259,
            198, 258, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198,
        ),
        (13,),
    ),
    Golden(
        "它。",
        Prompt("chat", query_row="expression_all"),
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\n它。<|im_end|>\n<|im_start|>assistant\n",
        (
            258, 84, 82, 68, 81, 198, 260, 262, 261, 198, 161, 106, 225, 159, 222, 224, 259, 198,
            258, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198,
        ),
        (161, 106, 225, 159, 222, 224),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression}\nNow", system="See."),
        "<|im_start|>system\nSee.<|im_end|>\n<|im_start|>user\n<img><IMG_CONTEXT></img>\nFind"
        " the cup.\nNow<|im_end|>\n<|im_start|>assistant\n",
        (
            258, 82, 88, 82, 83, 68, 76, 198, 50, 68, 68, 13, 259, 198, 258, 84, 82, 68, 81, 198,
            260, 262, 261, 198, 37, 72, 77, 67, 220, 83, 71, 68, 220, 66, 84, 79, 256, 45, 78, 86,
            259, 198, 258, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198,
        ),
        (256,),
    ),
    Golden(
        "the cup",
        Prompt("chat", query_row="prompt_last"),
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nthe cup.<|im_end|>\n"
        "<|im_start|>assistant\n",
        (
            258, 84, 82, 68, 81, 198, 260, 262, 261, 198, 83, 71, 68, 220, 66, 84, 79, 13, 259,
            198, 258, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198,
        ),
        (198,),
    ),
)
# fmt: on


class TestInternVL(AdapterContract):
    adapter = InternVLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_internvl(folder, merges=MERGES)


def views(opened, size):
    return opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))[0]


@pytest.fixture(scope="module")
def real_tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("internvl") / "448"
    return tiny_internvl(folder, image_size=448, max_tiles=12, layers=2, hidden=32)


def test_a_wide_photograph_becomes_tiles_row_by_row_and_a_thumbnail_last(real_tiles):
    opened = open_adapter(InternVLAdapter(), str(real_tiles))
    found = views(opened, (1200, 800))
    assert [view.name for view in found] == [
        "tile 0,0",
        "tile 0,1",
        "tile 0,2",
        "tile 1,0",
        "tile 1,1",
        "tile 1,2",
        "thumbnail",
    ]
    assert {view.shape for view in found} == {(16, 16)}
    assert found[4].extent == pytest.approx((400.0, 400.0, 800.0, 800.0))
    assert found[-1].extent == pytest.approx((0.0, 0.0, 1200.0, 800.0))


def test_the_real_tiles_pass_the_paint_probe(real_tiles):
    opened = open_adapter(InternVLAdapter(), str(real_tiles), options={"max_tiles": 4})
    paint.unmix(opened.model.module.model.vision_tower)
    report = paint.probe(opened, paint.embeddings, [(900, 500)])
    report.check()
    assert report.right == report.planned >= 30


def test_one_tile_has_no_thumbnail(real_tiles):
    opened = open_adapter(InternVLAdapter(), str(real_tiles), options={"max_tiles": 1})
    assert [view.name for view in views(opened, (1200, 800))] == ["tile 0,0"]
    assert "up to 1 tile" in opened.model.statements[0]


def test_wrong_numbers_of_tiles_are_refused(real_tiles):
    with pytest.raises(InputError, match="give a number from 1 on"):
        open_adapter(InternVLAdapter(), str(real_tiles), options={"max_tiles": 0})


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real_tiles):
    opened = open_adapter(InternVLAdapter(), str(real_tiles), options={"max_tiles": 1})
    opened.model.processor.image_seq_length = 255
    with pytest.raises(TokenCountError, match=r"expected 256 image tokens .* made 255"):
        views(opened, (64, 64))


def test_published_files_give_the_same_rows(tmp_path, published, fast):
    """OpenGVLab/InternVL3-*-hf: its image processor's settings as an issue printed them."""

    def rows():
        opened = open_adapter(InternVLAdapter(), str(folder))
        inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")], Prompt("chat"))
        assert len(opened.views(inputs)[0]) == 4 * 3 + 1
        return opened.rows(inputs)[0]

    def config(stated):
        text = stated["text_config"]
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        text["rope_scaling"] = {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}

    folder = tiny_internvl(tmp_path / "m", image_size=448, max_tiles=12, layers=1)
    expected = rows()
    images = {
        **fast,
        "crop_to_patches": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": None,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "image_std": [0.229, 0.224, 0.225],
        "max_patches": 12,
        "min_patches": 1,
        "model_valid_processing_keys": ["do_convert_rgb", "do_resize", "size", "device"],
        "processor_class": "InternVLProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 448, "width": 448},
        "size_divisor": None,
        "video_processor_type": "InternVLVideoProcessor",
    }
    settings = {"image_seq_length": 256, "processor_class": "InternVLProcessor"}
    published(folder, images, settings=settings, config=config)
    found = rows()
    assert found.shape == expected.shape
    assert torch.isfinite(found).all()
