"""Granite-Docling passes the public contract, on its coarse and on its fine route."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GraniteDoclingConfig,
    GraniteDoclingForConditionalGeneration,
    GraniteDoclingProcessor,
)
from transformers.models.granite_docling.configuration_granite_docling import (
    GraniteDoclingTextConfig,
    GraniteDoclingVisionConfig,
)
from transformers.models.granite_docling.image_processing_pil_granite_docling import (
    GraniteDoclingImageProcessorPil,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.granite_docling import GraniteDoclingAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

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
    Golden("the cup", Prompt(system="Look."), f"Look. {ONE}\nthe cup.", rows=(13,)),
    Golden(
        "which cup?",
        Prompt("chat"),
        f"<|start_of_role|>user<|end_of_role|>{ONE}which cup?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>",
        rows=(30,),
    ),
)


def tiny(folder: Path, *, side: int = 128, patch: int = 8, layers: int = 4, **images: Any) -> Path:
    """A tiny Granite-Docling; 512 pixels with patches of 16 make the real 8 x 8 cells.

    Args:
        folder: is made.
        side, patch: of a tile and of a patch, in pixels.
        layers: of the language model.
        images: settings of the image processor.
    """
    special = ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", FAKE, "<image>"]
    special += ["<global-img>"]
    special += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tokenizer = byte_tokenizer(
        special, pad_token=special[0], extra_special_tokens=special[1:], padding_side="left"
    )
    settings = {"size": {"height": side, "width": side}, "max_patches": 4, **images}
    made: Any = GraniteDoclingProcessor
    processor = made(
        GraniteDoclingImageProcessorPil(**settings),
        tokenizer,
        image_seq_len=(side // patch // 4) ** 2,
        chat_template=CHAT,
    )
    config: Any = GraniteDoclingConfig
    config = config(
        vision_config=GraniteDoclingVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=side,
            patch_size=patch,
            out_hidden_size=64,
            deepstack_visual_indexes=[0, 1],
        ),
        text_config=GraniteDoclingTextConfig(
            **text_sizes(tokenizer, layers=layers), attention_multiplier=0.25
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return save_tiny(GraniteDoclingForConditionalGeneration(config), processor, folder)


def views(opened, size):
    return opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))[0]


class TestGraniteDocling(AdapterContract):
    adapter = GraniteDoclingAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny(folder)


class TestFineRoute(AdapterContract):
    adapter = GraniteDoclingAdapter
    golden = GOLDEN
    shapes = ((240, 240), (333, 190), (187, 341), (97, 61), (500, 150))

    def build(self, folder: Path) -> None:
        tiny(folder, fine_route=True)


@pytest.fixture(scope="module")
def real_tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("granite") / "512"
    return tiny(folder, side=512, patch=16, layers=1, max_patches=12)


def test_a_page_becomes_tiles_of_eight_by_eight_cells(real_tiles):
    opened = open_adapter(GraniteDoclingAdapter(), str(real_tiles))
    found = views(opened, (480, 640))
    names = [f"tile {row},{col}" for row in range(4) for col in range(3)]
    assert [view.name for view in found] == [*names, "thumbnail"]
    assert {view.shape for view in found} == {(8, 8)}
    assert found[4].extent == pytest.approx((160.0, 160.0, 320.0, 320.0))


def test_wide_pages_may_get_more_tiles(tmp_path):
    """The spread rule of the image processor, which needs its own look at the page."""
    spread = {"dense_max_patches": 9, "dense_min_aspect": 1.5}
    opened = open_adapter(GraniteDoclingAdapter(), str(tiny(tmp_path / "m", layers=1, **spread)))
    assert len(views(opened, (800, 400))) > 5 >= len(views(opened, (400, 800)))


def test_one_tile_has_no_thumbnail(real_tiles):
    opened = open_adapter(GraniteDoclingAdapter(), str(real_tiles), options={"max_tiles": 1})
    assert [view.name for view in views(opened, (480, 640))] == ["tile 0,0"]


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real_tiles):
    opened = open_adapter(GraniteDoclingAdapter(), str(real_tiles), options={"max_tiles": 1})
    opened.model.processor.image_seq_len = 63
    with pytest.raises(TokenCountError, match=r"expected 64 image tokens .* made 63"):
        views(opened, (64, 64))
