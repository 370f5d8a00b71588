"""Nemotron 3 Nano Omni passes the public contract: Mamba layers, a tower with register tokens."""

import transformers as hf
from building import chat, fields, processor_of, save, text_part, vocabulary
from families import chatml, contract, grids, prompted

from vg_engine.model_adapters.families.nemotron_h_omni import NemotronHOmniAdapter

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 270))
NAMED = fields("""image_token=<image> image_start_token=<img> image_end_token=</img>
        video_token=<video> audio_token=<so_embedding>""")
KINDS = ["linear_attention", "full_attention", "moe", "mlp", "full_attention"]
PICTURE = "<img><image></img>"
# The turns are ChatML's, from memory; thinking is left out.
CHAT = chat("<|im_start|>ROLE\n", "<image>\n", "<|im_end|>\n", answer="<|im_start|>assistant\n")
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(chatml(f"{PICTURE}\nwhich cup?", "See."), "which cup?", system="See."),
)


def tiny(folder, *, patch=8, patches: tuple[int, int] = (16, 200)):
    """A tiny one; patches of 16, 1,024 to 13,312 of them, are the real numbers."""
    named = NAMED | {"start": "<|im_start|>"}
    special = "<unk> <|im_start|> pad=eos=<|im_end|>"
    tokenizer = vocabulary(special, NAMED, extra_special_tokens=named)
    images = hf.NemotronH_Omni_Reasoning_V3ImageProcessor(
        patch_size=patch, min_num_patches=patches[0], max_num_patches=patches[1]
    )
    kind = hf.NemotronH_Omni_Reasoning_V3Processor
    processor = processor_of(kind, images, None, tokenizer, chat_template=CHAT)
    sizes = text_part(tokenizer, layers=len(KINDS))
    del sizes["num_hidden_layers"]
    config = hf.NemotronH_Omni_Reasoning_V3_Config(
        text_config={
            **sizes,
            **fields("""model_type=nemotron_h head_dim=16 ssm_state_size=16 mamba_num_heads=4
                mamba_head_dim=16 n_groups=2 chunk_size=16 n_routed_experts=4
                moe_intermediate_size=32 moe_shared_expert_intermediate_size=32"""),
            "layers_block_type": list(KINDS),
        },
        vision_config={
            **fields("""model_type=radio hidden_size=32 num_hidden_layers=2 num_attention_heads=4
                video_temporal_patch_size=2"""),
            "patch_size": patch,
            "max_img_size": 32 * patch,
        },
        **fields("audio_config=null vision_hidden_size=32 projector_hidden_size=64"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        audio_token_id=tokenizer.convert_tokens_to_ids("<so_embedding>"),
    )
    return save(hf.NemotronH_Omni_Reasoning_V3, config, processor, folder)


FOREIGN = ("image_processor.downsample_ratio", 1.0, (64, 16))


class TestNemotronHOmni(
    contract(NemotronHOmniAdapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)
):
    def test_only_layers_that_attend_have_heads(self, opened):
        assert {head.layer for head in opened.model.all_heads} == {1, 4}


test_a_photograph_keeps_its_shape = grids(
    NemotronHOmniAdapter, tiny, ((640, 470), (15, 20)), patch=16, patches=(1024, 13312)
)
