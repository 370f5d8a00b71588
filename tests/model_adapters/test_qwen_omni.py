"""The thinkers of Qwen2.5-Omni and Qwen3-Omni pass the public contract, with pictures alone."""

import pytest
import torch
import transformers as hf
from building import edited, fields, save, text_part, vocabulary
from families import VICUNA, chatml, contract, prompted, rows_of
from safetensors.torch import load_file, save_file

from vg_engine.model_adapters.families.qwen2_5_omni import Qwen25OmniAdapter
from vg_engine.model_adapters.families.qwen3_omni import Qwen3OmniAdapter
from vg_engine.testing.tiny_qwen import CHAT, CHAT_WITH_SYSTEM, qwen_processor

# As tokenizer_config.json of the two names them (the second from memory).
NAMED_2_5 = fields("""image_token=<|IMAGE|> audio_token=<|AUDIO|> video_token=<|VIDEO|>
        vision_bos_token=<|vision_bos|> vision_eos_token=<|vision_eos|>
        audio_bos_token=<|audio_bos|> audio_eos_token=<|audio_eos|>""")
NAMED_3 = fields("""image_token=<|image_pad|> audio_token=<|audio_pad|> video_token=<|video_pad|>
        vision_bos_token=<|vision_start|> vision_eos_token=<|vision_end|>
        audio_bos_token=<|audio_start|> audio_eos_token=<|audio_end|>""")


SPECIAL = "pad=<|endoftext|> <|im_start|> eos=<|im_end|>"


def picture(named):
    return named["vision_bos_token"] + named["image_token"] + named["vision_eos_token"]


def golden(named, system=""):
    asked = f"{picture(named)}the cup."
    return (
        prompted(f"{VICUNA} {picture(named)}\nthe cup.", form="bare"),
        prompted(system + chatml(asked)),
        prompted(chatml(asked, "See."), system="See.", query_row="prompt_last", rows=(198,)),
    )


def ids_of(tokenizer, image="image_token_id"):
    """Ids as a thinker's config has them; the start of a vision part is no field of its class."""
    names = {image.replace("image", n): f"{n}_token" for n in ("image", "video", "audio")}
    for part in ("vision", "audio"):
        names |= {f"{part}_start_token_id": f"{part}_bos_token"}
        names |= {f"{part}_end_token_id": f"{part}_eos_token"}
    return {name: getattr(tokenizer, f"{token}_id") for name, token in names.items()}


AUDIO = fields("""d_model=16 encoder_layers=1 encoder_attention_heads=2 encoder_ffn_dim=16
    output_dim=64""")


def tiny_qwen2_5_omni(folder):
    tokenizer = vocabulary(SPECIAL, NAMED_2_5)
    config = hf.Qwen2_5OmniThinkerConfig(
        text_config=text_part(
            tokenizer,
            "tie_word_embeddings=false",
            rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]},
        ),
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 window_size=56 fullatt_block_indexes=[1]"""),
        audio_config=AUDIO,
        **ids_of(tokenizer, "image_token_index"),
    )
    template = CHAT_WITH_SYSTEM.replace("image_pad", "IMAGE").replace("vision_start", "vision_bos")
    template = template.replace("vision_end", "vision_eos")
    processor = qwen_processor(hf.Qwen2VLProcessor, tokenizer, chat=template)
    return save(hf.Qwen2_5OmniThinkerForConditionalGeneration, config, processor, folder)


def tiny_qwen3_omni(folder):
    tokenizer = vocabulary(SPECIAL, NAMED_3)
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = hf.Qwen3OmniMoeThinkerConfig(
        text_config=text_part(
            tokenizer,
            "head_dim=16 num_experts=4 num_experts_per_tok=2 moe_intermediate_size=32",
            rope_parameters=rope,
        ),
        vision_config=fields("""depth=3 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 num_position_embeddings=64 deepstack_visual_indexes=[0,1]"""),
        audio_config=AUDIO | {"downsample_hidden_size": 8},
        **ids_of(tokenizer),
    )
    images = {"patch_size": 16, "tokens": (1, 40)}
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, chat=CHAT, **images)
    whole = hf.Qwen3OmniMoeThinkerForConditionalGeneration
    return save(whole, config, processor, folder, norms=1.8)


SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
TestQwen25Omni = contract(Qwen25OmniAdapter, golden(NAMED_2_5, SYSTEM), tiny_qwen2_5_omni)
TestQwen3Omni = contract(Qwen3OmniAdapter, golden(NAMED_3), tiny_qwen3_omni)
CASES = [
    pytest.param(Qwen25OmniAdapter, tiny_qwen2_5_omni, "qwen2_5_omni", "token2wav", id="2.5"),
    pytest.param(Qwen3OmniAdapter, tiny_qwen3_omni, "qwen3_omni_moe", "code2wav", id="3"),
]


@pytest.mark.parametrize(("adapter", "build", "model_type", "vocoder"), CASES)
def test_a_whole_checkpoint_gives_its_thinker(tmp_path, adapter, build, model_type, vocoder):
    """As the hub's checkpoints are laid out: a config of parts, and keys with their prefixes."""
    folder = build(tmp_path / "whole")
    expected = rows_of(adapter, folder)
    with edited(folder / "config.json") as config:
        thinker = dict(config)
        config.clear()
        config |= {"model_type": model_type, "thinker_config": thinker}
        config["enable_audio_output"] = True
    assert adapter.claims(config)
    weights = load_file(folder / "model.safetensors")
    weights = {f"thinker.{name}": weight for name, weight in weights.items()}
    weights["talker.model.norm.weight"] = torch.zeros(2)
    weights[f"{vocoder}.x.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert (rows_of(adapter, folder) - expected).abs().max() < 1e-6
