"""Granite-Docling passes the public contract, on its coarse and on its fine route."""

from functools import partial

import transformers as hf
from building import save, square, text_part, vision_part, vocabulary
from families import checkpoint, contract, opens, prompted, tiled, views

from vg_engine.model_adapters.families.granite_docling import GraniteDoclingAdapter

# What Granite-Docling-258M's template writes (rendered from a copy of it).
CHAT = (
    "{% for message in messages %}<|start_of_role|>{{ message['role'] }}<|end_of_role|>"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% else %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
FAKE = "<fake_token_around_image>"
# A page of one tile has a row, and no whole page behind it.
ONE = f"{FAKE}<row_1_col_1><image>\n"
GOLDEN = (
    prompted(f"Look. {ONE}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"<|start_of_role|>user<|end_of_role|>{ONE}which cup?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>",
        "which cup?",
    ),
)


def tiny(folder, *, side=128, patch=8, layers=4, **images):
    """A tiny Granite-Docling; 512 pixels with patches of 16 make the real 8 x 8 cells."""
    named = ["<|start_of_role|>", "<|end_of_role|>", FAKE, "<image>", "<global-img>"]
    named += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tokenizer = vocabulary("pad=<|end_of_text|>", named)
    settings = {"size": square(side), "max_patches": 4, **images}
    images = hf.GraniteDoclingImageProcessorPil(**settings)
    more = {"image_seq_len": (side // patch // 4) ** 2, "chat_template": CHAT}
    processor = hf.GraniteDoclingProcessor(images, tokenizer, **more)
    config = hf.GraniteDoclingConfig(
        vision_config=hf.GraniteDoclingVisionConfig(
            **vision_part("num_hidden_layers=3 out_hidden_size=64 deepstack_visual_indexes=[0,1]"),
            image_size=side,
            patch_size=patch,
        ),
        text_config=hf.GraniteDoclingTextConfig(
            **text_part(tokenizer, layers=layers), attention_multiplier=0.25
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return save(hf.GraniteDoclingForConditionalGeneration, config, processor, folder)


TestGraniteDocling = contract(
    GraniteDoclingAdapter, GOLDEN, tiny, foreign=("image_seq_len", 63, (16, 63))
)
SHAPES = ((240, 240), (333, 190), (187, 341), (97, 61), (500, 150))
TestFineRoute = contract(
    GraniteDoclingAdapter, GOLDEN, partial(tiny, fine_route=True), shapes=SHAPES
)
real_tiles = checkpoint(tiny, side=512, patch=16, layers=1, max_patches=12)


def test_a_page_becomes_tiles_of_eight_by_eight_cells(real_tiles):
    known = {4: (160.0, 160.0, 320.0, 320.0)}
    opened = opens(GraniteDoclingAdapter, real_tiles)
    tiled(opened, (480, 640), (4, 3), (8, 8), known, last=["thumbnail"])
    opened = opens(GraniteDoclingAdapter, real_tiles, max_tiles=1)
    assert [view.name for view in views(opened, (480, 640))] == ["tile 0,0"]


def test_wide_pages_may_get_more_tiles(tmp_path):
    """The spread rule of the image processor, which needs its own look at the page."""
    spread = {"dense_max_patches": 9, "dense_min_aspect": 1.5}
    opened = opens(GraniteDoclingAdapter, tiny(tmp_path / "m", layers=1, **spread))
    assert len(views(opened, (800, 400))) > 5 >= len(views(opened, (400, 800)))
