"""Idefics3 passes the public contract: tiles named in the text, the whole picture last."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.idefics3 import Idefics3Adapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes

# What transformers' own tests show of the Idefics3-8B template.
CHAT = (
    "<|begin_of_text|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% else %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
FAKE = "<fake_token_around_image>"
WHOLE = f"{FAKE}<global-img><image>{FAKE}"
TILES = (
    f"{FAKE}<row_1_col_1><image>{FAKE}<row_1_col_2><image>\n"
    f"{FAKE}<row_2_col_1><image>{FAKE}<row_2_col_2><image>\n\n{WHOLE}"
)


def golden(picture: str) -> tuple[Golden, ...]:
    return (
        Golden("the cup", Prompt(system="Look."), f"Look. {picture}\nthe cup.", rows=(13,)),
        Golden(
            "which cup?",
            Prompt("chat"),
            f"<|begin_of_text|>User:{picture}which cup?<end_of_utterance>\nAssistant:",
            rows=(30,),
        ),
    )


def tiny(folder: Path, *, side: int = 112, across: int = 2, split: bool = True) -> Path:
    """A tiny Idefics3; sides of 364 pixels, four across, are the real ones."""
    special = ["<|begin_of_text|>", "<pad>", FAKE, "<image>", "<end_of_utterance>", "<global-img>"]
    special += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tokenizer = byte_tokenizer(
        special,
        bos_token=special[0],
        pad_token="<pad>",
        eos_token="<end_of_utterance>",
        extra_special_tokens=special[2:],
        padding_side="left",
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": across * side},
        max_image_size={"longest_edge": side},
        do_image_splitting=split,
    )
    made: Any = Idefics3Processor
    processor = made(images, tokenizer, image_seq_len=(side // 28) ** 2, chat_template=CHAT)
    config: Any = Idefics3Config
    config = config(
        vision_config=Idefics3VisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=side,
            patch_size=14,
        ),
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return save_tiny(Idefics3ForConditionalGeneration(config), processor, folder)


def views(opened, size):
    return opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))[0]


class TestIdefics3(AdapterContract):
    adapter = Idefics3Adapter
    golden = golden(TILES)

    def build(self, folder: Path) -> None:
        tiny(folder)


class TestWithoutSplitting(AdapterContract):
    adapter = Idefics3Adapter
    golden = golden(WHOLE)

    def build(self, folder: Path) -> None:
        tiny(folder, split=False)


@pytest.fixture(scope="module")
def real_tiles(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("idefics3") / "364", side=364, across=4)


def test_a_photograph_is_enlarged_to_four_tiles_across(real_tiles):
    opened = open_adapter(Idefics3Adapter(), str(real_tiles))
    found = views(opened, (640, 480))
    names = [f"tile {row},{col}" for row in range(3) for col in range(4)]
    assert [view.name for view in found] == [*names, "thumbnail"]
    assert {view.shape for view in found} == {(13, 13)}
    assert found[5].extent == pytest.approx((160.0, 160.0, 320.0, 320.0))
    assert found[-1].extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


@pytest.mark.parametrize("resized", [True, False])
def test_every_shape_has_the_tiles_that_the_processor_makes(tmp_path, resized):
    """Shapes on either side of a further row: the rounding is the image processor's."""
    opened = open_adapter(Idefics3Adapter(), str(tiny(tmp_path / "m", side=56, across=4)))
    opened.model.processor.image_processor.do_resize = resized
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        width, height = (int(n) for n in generator.integers(20, 224, 2))
        found = views(opened, (width, height))
        seen.add(found[-2].name if len(found) > 1 else "one")
    assert len(seen) >= 7


def test_a_processor_that_does_not_belong_to_the_model_is_refused(tmp_path):
    opened = open_adapter(Idefics3Adapter(), str(tiny(tmp_path / "m", split=False)))
    opened.model.processor.image_seq_len = 15
    with pytest.raises(TokenCountError, match=r"expected 16 image tokens .* made 15"):
        views(opened, (64, 64))
