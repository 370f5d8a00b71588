"""InternVL's later language models pass the contract as well: Qwen3 and gpt-oss (InternVL 3.5)."""

from functools import partial
from typing import Any

import pytest
import transformers as hf
from building import by_default, save, text_part
from families import chatml, contract, opens, prompted, sees_a_window

from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared.processors import without_video
from vg_engine.testing.tiny import INTERNVL_CHAT, tiny_internvl

ASKED = chatml("<img><IMG_CONTEXT></img>\nwhich cup?")
GOLDEN = (
    prompted("Look. <img><IMG_CONTEXT></img>\nthe cup.", form="bare", system="Look."),
    prompted(ASKED, "which cup?", query_row="prompt_last", rows=(198,)),
)
# Shorter than the tiles of most pictures, so that some layers cannot see all of them.
WINDOW = 24


def with_decoder(folder, config_class: Any, *, norms=1.0, sharpness=12.0, **settings: Any):
    """A tiny InternVL whose language model is another one."""
    tiny_internvl(folder)
    adapter = opens(InternVLAdapter, folder)
    processor = adapter.model.processor
    adapter.model.close()
    sizes = {**text_part(processor.tokenizer), "head_dim": 16, **settings}
    made: Any = hf.InternVLConfig.from_pretrained(folder)
    config = hf.InternVLConfig(
        vision_config=made.vision_config,
        text_config=config_class(**sizes),
        image_token_id=made.image_token_id,
        image_seq_length=made.image_seq_length,
        tie_word_embeddings=False,
    )
    built: Any = without_video(hf.InternVLProcessor)
    length = processor.image_seq_length
    parts = (processor.image_processor, processor.tokenizer)
    processor = built(*parts, image_seq_length=length, chat_template=INTERNVL_CHAT)
    whole = hf.InternVLForConditionalGeneration
    save(whole, config, processor, folder, norms=norms, sharpness=sharpness)


TestQwen3 = contract(
    InternVLAdapter,
    GOLDEN,
    lambda folder: with_decoder(folder, hf.Qwen3Config, norms=2.0),
    pytestmark=pytest.mark.slow,
)


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
TestQwen3Moe = contract(
    InternVLAdapter,
    GOLDEN,
    lambda folder: with_decoder(folder, hf.Qwen3MoeConfig, norms=2.0, **EXPERTS),
    pytestmark=pytest.mark.slow,
)


SINKS = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}
GPT_OSS = partial(with_decoder, config_class=hf.GptOssConfig, sharpness=8.0, **SINKS)


class TestGptOss(contract(InternVLAdapter, GOLDEN, GPT_OSS, load_plain=by_default)):
    def test_its_own_eager_attention_is_the_base(self, opened):
        """It has no sdpa: the sink of its heads is known to its own eager function alone."""
        assert not opened.model.module.get_decoder()._supports_sdpa

    def test_layers_with_a_window_do_not_see_the_whole_picture(self, opened):
        sees_a_window(opened, WINDOW)
