"""Cosmos 3's two reasoners pass the public contract."""

import torch
import transformers as hf
from building import fields, save, text_part, vision_part
from families import VICUNA, chatml, contract, grids, opens, prompted
from safetensors.torch import load_file, save_file

from vg_engine.model_adapters.families.cosmos3 import Cosmos3EdgeAdapter, Cosmos3OmniAdapter
from vg_engine.testing.tiny_qwen import qwen_processor, qwen_tokenizer, token_ids

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
# ChatML, from memory of the models that these are made of.
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(chatml(f"{PICTURE}the cup.")),
)


def tiny_omni(folder):
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = hf.Cosmos3OmniConfig(
        text_config=text_part(
            tokenizer, "model_type=qwen3_vl_text head_dim=16", rope_parameters=rope
        ),
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 num_position_embeddings=64 deepstack_visual_indexes=[0]"""),
        **token_ids(tokenizer),
    )
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, patch_size=16, tokens=(1, 40))
    return save(hf.Cosmos3OmniForConditionalGeneration, config, processor, folder, norms=1.8)


def tiny_edge(folder, tokens=(1, 40)):
    tokenizer = qwen_tokenizer()
    config = hf.Cosmos3EdgeConfig(
        text_config=text_part(
            tokenizer,
            """head_dim=16 rope_parameters={"rope_type":"default","mrope_section":[4,2,2]}""",
        ),
        vision_config=vision_part("num_patches=64"),
        projector_hidden_size=64,
        **token_ids(tokenizer),
    )
    images = {"image_class": hf.Cosmos3EdgeImageProcessorPil, "patch_size": 16, "tokens": tokens}
    processor = qwen_processor(hf.Cosmos3EdgeProcessor, tokenizer, **images)
    return save(hf.Cosmos3EdgeForConditionalGeneration, config, processor, folder)


TestCosmos3Omni = contract(Cosmos3OmniAdapter, GOLDEN, tiny_omni)
TestCosmos3Edge = contract(Cosmos3EdgeAdapter, GOLDEN, tiny_edge)


def test_the_generator_is_left_out(tmp_path):
    """Keys of the generator beside the reasoner's are no reason to refuse a checkpoint."""
    folder = tiny_omni(tmp_path / "unified")
    weights = load_file(folder / "model.safetensors")
    weights["proj_out.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert opens(Cosmos3OmniAdapter, folder).model.layers == 4


# The defaults of the family's image processor. A strip is first enlarged to 3200 x 32: one row.
test_real_limits_of_edge_make_the_known_number_of_tokens = grids(
    Cosmos3EdgeAdapter,
    tiny_edge,
    ((640, 480), (15, 20)),
    ((300, 3), (1, 100)),
    says=("A picture becomes up to 16384 tokens of 32 x 32 pixels.",),
    tokens=(64, 16384),
)
