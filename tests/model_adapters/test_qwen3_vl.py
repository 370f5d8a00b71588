"""Qwen3-VL, with and without experts, passes the public contract."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
)

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter
from vg_engine.model_adapters.families.qwen3_vl_moe import Qwen3VLMoeAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import save_tiny, text_sizes
from vg_engine.testing.tiny_qwen import qwen_processor, qwen_tokenizer, sharpen_norms, token_ids

STOP, NEWLINE, STOP_NEWLINE = 13, 198, 256
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
# fmt: off
GOLDEN = (
    Golden("the cup", Prompt(), f"{VICUNA} {PICTURE}\nthe cup.", rows=(STOP,)),
    # No system sentence where nobody gives one (looked up on copies of the hub's template).
    Golden(
        "the cup",
        Prompt("chat"),
        f"<|im_start|>user\n{PICTURE}the cup.<|im_end|>\n<|im_start|>assistant\n",
        (
            259, 84, 82, 68, 81, 198, 260, 262, 261, 83, 71, 68, 220, 66, 84, 79, 13, 258, 198,
            259, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198,
        ),
        rows=(STOP,),
    ),
    Golden(
        "它。",
        Prompt("chat", query_row="expression_all"),
        f"<|im_start|>user\n{PICTURE}它。<|im_end|>\n<|im_start|>assistant\n",
        rows=(161, 106, 225, 159, 222, 224),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression}\nNow", system="See."),
        f"<|im_start|>system\nSee.<|im_end|>\n<|im_start|>user\n{PICTURE}Find the cup.\nNow"
        "<|im_end|>\n<|im_start|>assistant\n",
        rows=(STOP_NEWLINE,),
    ),
    Golden(
        "the cup",
        Prompt("chat", query_row="prompt_last"),
        f"<|im_start|>user\n{PICTURE}the cup.<|im_end|>\n<|im_start|>assistant\n",
        rows=(NEWLINE,),
    ),
)
# fmt: on
VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def tiny_qwen3_vl(folder, config_class, model_class, tokens=(1, 40), **text):
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    sizes = {**text_sizes(tokenizer), "head_dim": 16, "rope_parameters": rope, **text}
    config = config_class(text_config=sizes, vision_config=dict(VISION), **token_ids(tokenizer))
    torch.manual_seed(0)
    module = model_class(config)
    sharpen_norms(module.get_decoder(), 1.8)
    processor = qwen_processor(Qwen3VLProcessor, tokenizer, patch_size=16, tokens=tokens)
    return save_tiny(module, processor, folder)


class TestQwen3VL(AdapterContract):
    adapter = Qwen3VLAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_qwen3_vl(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration)


class TestQwen3VLMoe(AdapterContract):
    adapter = Qwen3VLMoeAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_qwen3_vl(folder, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, **EXPERTS)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The limits of Qwen/Qwen3-VL-4B-Instruct's preprocessor_config.json."""
    folder = tmp_path_factory.mktemp("qwen3_vl") / "real"
    tiny_qwen3_vl(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration)
    stated = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "Qwen3VLProcessor",
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def test_the_old_names_of_rotation_give_the_same_rows(real, published):
    """The config of Qwen/Qwen3-VL-4B-Instruct states them so, and ties the head."""

    def rows():
        opened = open_adapter(Qwen3VLAdapter(), str(folder))
        return opened.rows(opened.prepare([noise((96, 64))], [Expression(0, "it")]))[0]

    def config(stated):
        text = stated["text_config"]
        rope = text.pop("rope_parameters")
        text |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
        stated["tie_word_embeddings"] = text["tie_word_embeddings"] = True

    folder = shutil.copytree(real, real.parent / "old")
    expected = rows()
    images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "processor_config.json").write_text("{}", encoding="utf-8")
    published(folder, images, config=config, add=lambda weights: weights.pop("lm_head.weight"))
    assert (rows() - expected).abs().max() < 1e-6


def test_real_settings_make_the_known_number_of_tokens(real):
    opened = open_adapter(Qwen3VLAdapter(), str(real))
    assert opened.model.statements == ("A picture becomes up to 16384 tokens of 32 x 32 pixels.",)
    for size, shape in (((640, 480), (15, 20)), ((100, 50), (6, 12))):
        inputs = opened.prepare([noise(size)], [Expression(0, "it")])
        (view,) = opened.views(inputs)[0]
        assert view.shape == shape
        assert view.extent == pytest.approx((0.0, 0.0, *map(float, size)))


def test_features_of_inner_layers_reach_the_first_decoder_layers(real):
    """Without them the rows of the second layer are others; leaving early keeps them."""
    opened = open_adapter(Qwen3VLAdapter(), str(real))
    inputs = opened.prepare([noise((96, 64))], [Expression(0, "it")])
    request = AttentionRequest(tuple(head for head in opened.model.all_heads if head.layer == 1))
    expected = opened.rows(inputs, request)[0]
    for merger in opened.model.module.model.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
    assert (opened.rows(inputs, request)[0] - expected).abs().max() > 0.01


def test_a_processor_that_does_not_belong_to_the_model_is_refused(real):
    opened = open_adapter(Qwen3VLAdapter(), str(real))
    inputs = opened.prepare([noise((320, 320))], [Expression(0, "it")])
    opened.model.processor.image_processor.patch_size = 14
    with pytest.raises(TokenCountError, match=r"expected 121 image tokens .*11 x 11.* made 100"):
        opened.views(inputs)
