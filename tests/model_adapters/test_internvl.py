"""InternVL passes the public contract: tiles, thumbnail and merged patches."""

import pytest
import torch
from building import fields
from families import (
    FIND,
    VICUNA,
    chatml,
    checkpoint,
    contract,
    opens,
    prompted,
    rows_of,
    tiled,
    views,
)

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.testing.tiny import tiny_internvl

# With ".", newline merged into one token (256), as the tokenizers of large models have it.
MERGES = ((".", "Ċ"),)
PICTURE = "<img><IMG_CONTEXT></img>"
IDS = (
    *(258, 84, 82, 68, 81, 198, 260, 262, 261, 198, 83, 71, 68, 220, 66, 84, 79, 13, 259),
    *(198, 258, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198),
)
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"Look. {PICTURE}\nwhich cup?", "which cup?", form="bare", system="Look."),
    prompted(chatml(f"{PICTURE}\nthe cup."), ids=IDS),
    prompted(chatml(f"{PICTURE}\nFind the cup.\nNow", "See."), **FIND),
)


TestInternVL = contract(
    InternVLAdapter,
    GOLDEN,
    lambda folder: tiny_internvl(folder, merges=MERGES),
    foreign=("image_seq_length", 255, (16, 255)),
)
real_tiles = checkpoint(tiny_internvl, image_size=448, max_tiles=12, layers=2, hidden=32)


def test_a_wide_photograph_becomes_tiles_row_by_row_and_a_thumbnail_last(real_tiles):
    known = {4: (400.0, 400.0, 800.0, 800.0), -1: (0.0, 0.0, 1200.0, 800.0)}
    opened = opens(InternVLAdapter, real_tiles)
    tiled(opened, (1200, 800), (2, 3), (16, 16), known, last=["thumbnail"])


def test_one_tile_has_no_thumbnail(real_tiles):
    opened = opens(InternVLAdapter, real_tiles, max_tiles=1)
    assert [view.name for view in views(opened, (1200, 800))] == ["tile 0,0"]
    assert "up to 1 tile" in opened.model.statements[0]
    with pytest.raises(InputError, match="give a number from 1 on"):
        opens(InternVLAdapter, real_tiles, max_tiles=0)


def test_published_files_give_the_same_rows(tmp_path, published, fast):
    """OpenGVLab/InternVL3-*-hf: its image processor's settings as an issue printed them."""

    def config(stated):
        text = stated["text_config"]
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        text["rope_scaling"] = {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}

    folder = tiny_internvl(tmp_path / "m", image_size=448, max_tiles=12, layers=1)
    before = rows_of(InternVLAdapter, folder, "chat")
    assert len(views(opens(InternVLAdapter, folder), (640, 480))) == 4 * 3 + 1
    images = {
        **fast,
        **fields("""crop_to_patches=false do_convert_rgb=true do_normalize=true do_pad=null
            do_rescale=true do_resize=true image_mean=[0.485,0.456,0.406]
            image_processor_type=GotOcr2ImageProcessorFast image_std=[0.229,0.224,0.225]
            max_patches=12 min_patches=1
            model_valid_processing_keys=["do_convert_rgb","do_resize","size","device"]
            processor_class=InternVLProcessor resample=3 rescale_factor=0.00392156862745098
            size={"height":448,"width":448} size_divisor=null
            video_processor_type=InternVLVideoProcessor"""),
    }
    stated = {"image_seq_length": 256, "processor_class": "InternVLProcessor"}
    published(folder, images, settings=stated, config=config)
    found = rows_of(InternVLAdapter, folder, "chat")
    assert found.shape == before.shape
    assert torch.isfinite(found).all()
