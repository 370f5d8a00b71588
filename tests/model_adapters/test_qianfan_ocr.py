"""Qianfan-OCR passes the public contract: InternVL's tiles behind another placeholder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    QianfanOCRConfig,
    QianfanOCRForConditionalGeneration,
    QianfanOCRProcessor,
    QianfanOCRVisionConfig,
    Qwen3Config,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, TokenCountError
from vg_engine.model_adapters.families.qianfan_ocr import QianfanOCRAdapter
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import (
    END_OF_TEXT,
    END_OF_TURN,
    INTERNVL_CHAT,
    byte_tokenizer,
    save_tiny,
    text_sizes,
)

# InternVL's template, from memory, with the placeholder that the processor documents.
CHAT = INTERNVL_CHAT.replace("<IMG_CONTEXT>", "<image>")
GOLDEN = (
    Golden(
        "the cup",
        Prompt(system="Look."),
        "Look. <img><IMG_CONTEXT></img>\nthe cup.",
        rows=(13,),
    ),
    Golden(
        "which cup?",
        Prompt("chat", query_row="prompt_last"),
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nwhich cup?<|im_end|>\n<|im_start|>assistant\n",
        rows=(198,),
    ),
)


def tiny(folder: Path, *, image_size: int = 112, most: int = 4, layers: int = 4) -> Path:
    """A tiny Qianfan-OCR, whose tokenizer does not know the placeholder `<image>`."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
    }
    tokenizer = byte_tokenizer(
        [END_OF_TEXT, "<|im_start|>", END_OF_TURN, *named.values()],
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        extra_special_tokens=named,
        padding_side="left",
    )
    length = (image_size // 28) ** 2
    images = GotOcr2ImageProcessorPil(
        size={"height": image_size, "width": image_size}, max_patches=most
    )
    made: Any = QianfanOCRProcessor
    processor = made(images, tokenizer, image_seq_length=length, chat_template=CHAT)
    config: Any = QianfanOCRConfig
    config = config(
        vision_config=QianfanOCRVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=(image_size, image_size),
        ),
        text_config=Qwen3Config(**text_sizes(tokenizer, layers=layers), head_dim=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=length,
    )
    torch.manual_seed(0)
    module: Any = QianfanOCRForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed, so projections cannot sharpen.
        if ".q_norm." in name or ".k_norm." in name:
            parameter.data.mul_(2.0)
    return save_tiny(module, processor, folder)


class TestQianfanOCR(AdapterContract):
    adapter = QianfanOCRAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny(folder)

    def test_the_placeholder_is_no_word_of_the_model(self, opened):
        """The tokenizer learnt it here, beyond the embeddings; it never reaches the model."""
        inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
        known = opened.model.module.get_input_embeddings().num_embeddings
        assert opened.model.processor.tokenizer.convert_tokens_to_ids("<image>") == known
        assert inputs.tensors["input_ids"].max() < known
        with pytest.raises(ExpressionError, match="<image>"):
            opened.prepare([noise((64, 64))], [Expression(0, "the <image> cup")])


@pytest.fixture(scope="module")
def real_tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qianfan") / "448"
    return tiny(folder, image_size=448, most=12, layers=1)


def test_a_page_becomes_tiles_and_a_thumbnail_last(real_tiles):
    opened = open_adapter(QianfanOCRAdapter(), str(real_tiles))
    (found,) = opened.views(opened.prepare([noise((640, 480))], [Expression(0, "it")]))
    names = [f"tile {row},{col}" for row in range(3) for col in range(4)]
    assert [view.name for view in found] == [*names, "thumbnail"]
    assert {view.shape for view in found} == {(16, 16)}
    assert found[-1].extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real_tiles):
    opened = open_adapter(QianfanOCRAdapter(), str(real_tiles), options={"max_tiles": 1})
    opened.model.processor.image_seq_length = 255
    with pytest.raises(TokenCountError, match=r"expected 256 image tokens .* made 255"):
        opened.views(opened.prepare([noise((64, 64))], [Expression(0, "it")]))
