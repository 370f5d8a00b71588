"""Qwen3-VL, with and without experts, passes the public contract."""

import json
import shutil

import pytest
import torch
import transformers as hf
from building import fields, save, text_part
from families import FIND, VICUNA, ask, chatml, contract, opens, prompted, rows_of, shows

from vg_engine.core.contract.inputs import AttentionRequest
from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter
from vg_engine.model_adapters.families.qwen3_vl_moe import Qwen3VLMoeAdapter
from vg_engine.testing.tiny_qwen import qwen_processor, qwen_tokenizer, token_ids

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    # No system sentence where nobody gives one (looked up on copies of the hub's template).
    prompted(
        chatml(f"{PICTURE}the cup."),
        ids=(
            *(259, 84, 82, 68, 81, 198, 260, 262, 261, 83, 71, 68, 220, 66, 84, 79, 13, 258),
            *(198, 259, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198),
        ),
    ),
    prompted(chatml(f"{PICTURE}Find the cup.\nNow", "See."), **FIND),
)
DENSE = (hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration)
SPARSE = (hf.Qwen3VLMoeConfig, hf.Qwen3VLMoeForConditionalGeneration)
VISION = fields("""depth=3 hidden_size=32 intermediate_size=64 num_heads=4 out_hidden_size=64
    num_position_embeddings=64 deepstack_visual_indexes=[0,1]""")
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def tiny_qwen3_vl(folder, config_class, model_class, tokens=(1, 40), **text):
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    sizes = {**text_part(tokenizer), "head_dim": 16, "rope_parameters": rope, **text}
    config = config_class(text_config=sizes, vision_config=dict(VISION), **token_ids(tokenizer))
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, patch_size=16, tokens=tokens)
    return save(model_class, config, processor, folder, norms=1.8)


FOREIGN = ("image_processor.patch_size", 14, (35, 30), (200, 150))
TestQwen3VL = contract(
    Qwen3VLAdapter, GOLDEN, lambda folder: tiny_qwen3_vl(folder, *DENSE), foreign=FOREIGN
)
TestQwen3VLMoe = contract(
    Qwen3VLMoeAdapter, GOLDEN, lambda folder: tiny_qwen3_vl(folder, *SPARSE, **EXPERTS)
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The limits of Qwen/Qwen3-VL-4B-Instruct's preprocessor_config.json."""
    folder = tiny_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl") / "real", *DENSE)
    stated = fields("""image_processor_type=Qwen2VLImageProcessorFast patch_size=16 merge_size=2
        size={"longest_edge":16777216,"shortest_edge":65536} processor_class=Qwen3VLProcessor
        temporal_patch_size=2 image_mean=[0.5,0.5,0.5] image_std=[0.5,0.5,0.5]""")
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def test_the_old_names_of_rotation_give_the_same_rows(real, published):
    """The config of Qwen/Qwen3-VL-4B-Instruct states them so, and ties the head."""

    def config(stated):
        text = stated["text_config"]
        rope = text.pop("rope_parameters")
        text |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
        stated["tie_word_embeddings"] = text["tie_word_embeddings"] = True

    folder = shutil.copytree(real, real.parent / "old")
    expected = rows_of(Qwen3VLAdapter, folder)
    images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "processor_config.json").write_text("{}", encoding="utf-8")
    published(folder, images, config=config, add=lambda weights: weights.pop("lm_head.weight"))
    assert (rows_of(Qwen3VLAdapter, folder) - expected).abs().max() < 1e-6


def test_real_settings_make_the_known_number_of_tokens(real):
    opened = opens(Qwen3VLAdapter, real)
    assert opened.model.statements == ("A picture becomes up to 16384 tokens of 32 x 32 pixels.",)
    shows(opened, (640, 480), (15, 20))
    shows(opened, (100, 50), (6, 12))


def test_features_of_inner_layers_reach_the_first_decoder_layers(real):
    """Without them the rows of the second layer are others; leaving early keeps them."""
    opened = opens(Qwen3VLAdapter, real)
    inputs = ask(opened, (96, 64))
    request = AttentionRequest(tuple(head for head in opened.model.all_heads if head.layer == 1))
    expected = opened.rows(inputs, request)[0]
    for merger in opened.model.module.model.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
    assert (opened.rows(inputs, request)[0] - expected).abs().max() > 0.01
