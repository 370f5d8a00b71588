"""InternVL's later language models pass the contract as well: Qwen3 and gpt-oss (InternVL 3.5)."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    GptOssConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    Qwen3Config,
    Qwen3MoeConfig,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import INTERNVL_CHAT, save_tiny, text_sizes, tiny_internvl

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
# Shorter than the tiles of most pictures, so that some layers cannot see all of them.
WINDOW = 24


def with_decoder(
    folder: Path, config_class: Any, *, norms: float = 1.0, sharpness: float = 12.0, **settings: Any
) -> None:
    """A tiny InternVL whose language model is another one.

    Args:
        folder: is made.
        config_class: of the language model.
        norms: factor of the query and key norms, which undo what projections are scaled by.
        sharpness: see `save_tiny`.
        settings: of the language model.
    """
    tiny_internvl(folder)
    adapter = open_adapter(InternVLAdapter(), str(folder))
    processor = adapter.model.processor
    adapter.model.close()
    sizes = {**text_sizes(processor.tokenizer), "head_dim": 16, **settings}
    made: Any = InternVLConfig.from_pretrained(folder)
    config: Any = InternVLConfig
    config = config(
        vision_config=made.vision_config,
        text_config=config_class(**sizes),
        image_token_id=made.image_token_id,
        image_seq_length=made.image_seq_length,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    module: Any = InternVLForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        if ".q_norm." in name or ".k_norm." in name:
            parameter.data.mul_(norms)
    built: Any = without_video(InternVLProcessor)
    processor = built(
        processor.image_processor,
        processor.tokenizer,
        image_seq_length=processor.image_seq_length,
        chat_template=INTERNVL_CHAT,
    )
    save_tiny(module, processor, folder, sharpness=sharpness)


class TestQwen3(AdapterContract):
    adapter = InternVLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        with_decoder(folder, Qwen3Config, norms=2.0)


class TestQwen3Moe(AdapterContract):
    adapter = InternVLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        with_decoder(folder, Qwen3MoeConfig, norms=2.0, **experts)


class TestGptOss(AdapterContract):
    adapter = InternVLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
        with_decoder(folder, GptOssConfig, sliding_window=WINDOW, sharpness=8.0, **experts)

    def load_plain(self, folder: Path, attention: str) -> Any:
        """With sdpa where there is one: asked for by name, it is asked for everywhere."""
        if attention == "eager":
            return super().load_plain(folder, attention)
        return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def test_its_own_eager_attention_is_the_base(self, opened):
        """It has no sdpa: the sink of its heads is known to its own eager function alone."""
        assert not opened.model.module.get_decoder()._supports_sdpa

    def test_layers_with_a_window_do_not_see_the_whole_picture(self, opened):
        inputs = opened.prepare([noise((300, 200))], [Expression(0, "the cup")])
        (rows,) = opened.rows(inputs)
        row = inputs.queries[0].rows[0]
        kinds = opened.model.module.config.text_config.layer_types
        for head, values in zip(opened.model.all_heads, rows, strict=True):
            beyond = values[0, : row - WINDOW + 1].max().item()
            assert (beyond == 0) == (kinds[head.layer] == "sliding_attention")
