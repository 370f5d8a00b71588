"""Phi-4-multimodal passes the public contract: a fine grid without its padding, then the whole."""

import pytest
import torch
import transformers as hf
from building import chat, fields, plain, processor_of, square, text_part, vocabulary
from families import contract, opens, prompted, views

from vg_engine.model_adapters.families.phi4_multimodal import Phi4MultimodalAdapter
from vg_engine.testing.tiny import save_tiny

SHAPES = ((60, 60), (100, 60), (50, 110), (40, 30), (150, 130))
NAMED = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
TURNS = ("<|user|>", "<|assistant|>", "<|system|>")
# The marks of turns are from memory.
CHAT = chat("<|ROLE|>", "<|image|>", "<|end|>", answer="<|assistant|>")
ASKED = "<|system|>See.<|end|><|user|><|image|>which cup?<|end|><|assistant|>"
GOLDEN = (
    prompted("Look. <|image|>the cup.", form="bare", system="Look."),
    prompted(ASKED, "which cup?", system="See."),
)
AUDIO = fields("""hidden_size=16 intermediate_size=16 num_blocks=1 num_attention_heads=1
    ext_pw_out_channel=16 depthwise_separable_out_channel=16 nemo_conv_channels=16 input_size=8""")


def tiny(folder, *, side=64, patch=2, most=2, layers=2):
    """A tiny Phi-4-multimodal; 448, 14 and 36 are the real numbers. A tile has 16 x 16 cells."""
    named = NAMED | {turn.strip("<|>"): turn for turn in TURNS}
    special = "pad=<|endoftext|> <|user|> <|assistant|> <|system|> eos=<|end|>"
    tokenizer = vocabulary(special, NAMED, extra_special_tokens=named)
    images = hf.Phi4MultimodalImageProcessor(size=square(side), patch_size=patch, dynamic_hd=most)
    kind = hf.Phi4MultimodalProcessor
    processor = processor_of(kind, images, None, tokenizer, chat_template=CHAT)
    named = {name: tokenizer.convert_tokens_to_ids(token) for name, token in NAMED.items()}
    config = hf.Phi4MultimodalConfig(
        **text_part(tokenizer, layers=layers),
        vision_config={
            # The real one takes what comes before its last layer, which then runs for nothing.
            **fields("""hidden_size=16 intermediate_size=32 num_hidden_layers=1 feature_layer=-1
                num_attention_heads=1"""),
            "image_size": side,
            "crop_size": side,
            "patch_size": patch,
            "image_token_id": named["image_token"],
        },
        audio_config={**AUDIO, "audio_token_id": named["audio_token"]},
    )
    torch.manual_seed(0)
    module = hf.Phi4MultimodalForCausalLM(config)
    for layer in module.model.layers:
        # Queries and keys, not values.
        layer.self_attn.qkv_proj.weight.data[:-32].mul_(12.0)
    # As it is made, what parts the grids is nothing.
    torch.nn.init.normal_(module.model.embed_tokens_extend.image_embed.sub_img_feature_extensor)
    return save_tiny(module, processor, folder)


FOREIGN = ("image_processor.patch_size", 28, (5, 545))


MEMBERS = {"shapes": SHAPES, "load_plain": plain(hf.Phi4MultimodalForCausalLM)}
TestPhi4Multimodal = contract(Phi4MultimodalAdapter, GOLDEN, tiny, foreign=FOREIGN, **MEMBERS)


def test_a_photograph_is_padded_below_and_seen_again_as_a_whole(tmp_path):
    folder = tiny(tmp_path / "448", side=448, patch=14, most=36, layers=1)
    opened = opens(Phi4MultimodalAdapter, folder)
    fine, whole = views(opened, (640, 480))
    # 896 x 672 of 896 x 896 pixels are picture: 48 of 64 rows of patches.
    assert (fine.shape, whole.shape) == ((24, 32), (16, 16))
    assert fine.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert whole.extent == pytest.approx((0.0, 0.0, 640.0, 640.0))
    assert "vision-lora" in opened.model.statements[0]
