"""LFM3-VL passes the public contract: convolutions in tower and decoder, windows among layers."""

import torch
import transformers as hf
from building import save, text_part, vision_part
from families import FIND, VICUNA, chatml, contract, grids, prompted

from vg_engine.model_adapters.families.lfm3_vl import Lfm3VlAdapter
from vg_engine.testing import paint
from vg_engine.testing.tiny_qwen import CHAT, qwen_processor, qwen_tokenizer, token_ids

START = "<|startoftext|>"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
# The turns of the LFM2 templates, from memory: no template of this family could be looked up.
TEMPLATE = "{{ bos_token }}" + CHAT
IDS = (
    *(264, 259, 84, 82, 68, 81, 198, 260, 262, 261, 83, 71, 68, 220, 66, 84, 79, 13, 258),
    *(198, 259, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198),
)
GOLDEN = (
    # The tokenizer writes the opening token where the prompt does not.
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"{PICTURE}\nwhich cup?", "which cup?", form="bare", system=""),
    prompted(START + chatml(f"{PICTURE}the cup."), ids=IDS),
    prompted(START + chatml(f"{PICTURE}Find the cup.\nNow", "See."), **FIND),
)
KINDS = ["conv", "full_attention", "conv", "sliding_attention", "full_attention"]


def tiny_lfm3(folder, tokens=(1, 48)):
    """32 pixels per token, as the real one has."""
    tokenizer = qwen_tokenizer((START,), bos_token=START)
    config = hf.Lfm3VlConfig(
        text_config=text_part(
            tokenizer,
            "model_type=lfm3 head_dim=16 sliding_window=24",
            layers=len(KINDS),
            layer_types=list(KINDS),
        ),
        vision_config=vision_part("""num_hidden_layers=3 num_key_value_heads=2
                layer_types=["conv","full_attention","full_attention"]"""),
        projector_hidden_size=64,
        **token_ids(tokenizer),
    )
    processor = qwen_processor(
        hf.Lfm3VlProcessor, tokenizer, chat=TEMPLATE, patch_size=16, tokens=tokens
    )
    return save(hf.Lfm3VlForConditionalGeneration, config, processor, folder, norms=1.7)


class TestLfm3Vl(
    contract(Lfm3VlAdapter, GOLDEN, tiny_lfm3, foreign=("image_processor.merge_size", 1, (16, 4)))
):
    def unmix(self, opened):
        """The tower's convolutions mix neighbours, as its attention mixes all."""
        tower = self.vision_tower(opened.model.module)
        paint.unmix(tower)
        for layer in tower.layers:
            if not layer.is_attention_layer:
                torch.nn.init.zeros_(layer.conv.out_proj.weight)

    def test_only_layers_that_attend_have_heads(self, opened):
        assert {head.layer for head in opened.model.all_heads} == {1, 3, 4}


test_a_photograph_is_squashed_to_whole_tokens = grids(
    Lfm3VlAdapter, tiny_lfm3, ((640, 470), (15, 20)), tokens=(4, 1024)
)
