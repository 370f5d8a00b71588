"""`internvl_chat` checkpoints, written here from the format's own definition, and converted.

The original's keys come from OpenGVLab/InternVL: InternViT under `vision_model`, the connector
`mlp1`, a decoder under `language_model`; InternLM2 keeps, per key head, its queries, one key, one
value (internlm/InternLM: modeling_internlm2.py).
"""

import json

import numpy as np
import pytest
import torch
from families import fields
from originals import call, grounded, loaded, logits, refused, report_of, restate
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
)

import vg_engine
from vg_engine.testing.tiny import byte_tokenizer, sharpen

HEADS, GROUPS, WIDE = 4, 2, 64
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
ROWS = 256 + len(SPECIAL)
SHARED = fields(f"""hidden_size={WIDE} intermediate_size=96 num_hidden_layers=3 vocab_size={ROWS}
    num_attention_heads={HEADS} num_key_value_heads={GROUPS} rms_norm_eps=1e-5
    max_position_embeddings=1024 rope_theta=1000000.0""")
SEEN = fields("hidden_size=32 intermediate_size=48 num_hidden_layers=2 num_attention_heads=4")
INTERNLM, QWEN, LLAMA = "InternLM2ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"


def native(kind, *, large_tower=False):
    torch.manual_seed(0)
    text = SHARED | {"bos_token_id": None, "eos_token_id": 258}
    if kind == INTERNLM:
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": text.pop("rope_theta")}
        text["rope_parameters"] = rope
    norms = {"use_qk_norm": False, "norm_type": "layer_norm", "attention_bias": True}
    if large_tower:
        norms = {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            image_size=[56, 56], patch_size=[14, 14], **SEEN, **norms
        ),
        text_config=(Qwen2Config if kind == QWEN else LlamaConfig)(**text),
        image_token_id=ROWS - 1,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config).eval()
    sharpen(model.get_decoder())
    for name, value in model.named_parameters():
        if "norm" in name or name.endswith("bias"):  # else swapped norms would go unseen
            value.data.add_(torch.randn_like(value) / 5)
    return model


# Our names of parts and the original's.
IN_TOWER = fields("""attention.projection_layer=attn.proj attention.q_norm=attn.q_norm
    attention.k_norm=attn.k_norm layernorm_before=norm1 layernorm_after=norm2 mlp.fc1=mlp.fc1
    mlp.fc2=mlp.fc2""")
IN_TEXT = fields("""self_attn.o_proj=attention.wo mlp.gate_proj=feed_forward.w1
    mlp.down_proj=feed_forward.w2 mlp.up_proj=feed_forward.w3 input_layernorm=attention_norm
    post_attention_layernorm=ffn_norm""")


def vision_keys(model):
    tower, first = model.model.vision_tower.state_dict(), "vision_model.embeddings."
    keys = {
        first + "class_embedding": tower["embeddings.cls_token"],
        first + "position_embedding": tower["embeddings.position_embeddings"],
    }
    for part in ("weight", "bias"):
        patches = tower[f"embeddings.patch_embeddings.projection.{part}"]
        keys[f"{first}patch_embedding.{part}"] = patches
    for layer in range(2):
        old, new = f"encoder.layer.{layer}.", f"vision_model.encoder.layers.{layer}."
        keys |= {f"{new}ls{n}": tower[f"{old}lambda_{n}"] for n in (1, 2)}
        for part in ("weight", "bias"):
            three = [tower.get(f"{old}attention.{n}_proj.{part}") for n in "qkv"]
            if three[0] is not None:
                keys[f"{new}attn.qkv.{part}"] = torch.cat(three)
            for ours, theirs in IN_TOWER.items():
                if f"{old}{ours}.{part}" in tower:
                    keys[f"{new}{theirs}.{part}"] = tower[f"{old}{ours}.{part}"]
    return keys


def text_keys(model, kind):
    inner = model.model.language_model.state_dict()
    if kind != INTERNLM:
        keys = {f"language_model.model.{k}": v for k, v in inner.items()}
        return keys | {"language_model.lm_head.weight": model.lm_head.weight.data}
    keys = {
        "language_model.model.tok_embeddings.weight": inner["embed_tokens.weight"],
        "language_model.model.norm.weight": inner["norm.weight"],
        "language_model.output.weight": model.lm_head.weight.data,
    }
    wide, each = WIDE // HEADS, HEADS // GROUPS
    for layer in range(3):
        old, new = f"layers.{layer}.", f"language_model.model.layers.{layer}."
        q, k, v = (inner[f"{old}self_attn.{n}_proj.weight"] for n in "qkv")
        rows = []
        for group in range(GROUPS):
            rows.append(q[group * each * wide : (group + 1) * each * wide])
            rows += [part[group * wide : (group + 1) * wide] for part in (k, v)]
        keys[new + "attention.wqkv.weight"] = torch.cat(rows)
        for ours, theirs in IN_TEXT.items():
            keys[f"{new}{theirs}.weight"] = inner[f"{old}{ours}.weight"]
    return keys


def write_original(folder, model, kind, **description):
    folder.mkdir(parents=True)
    six = bool(model.config.vision_config.use_qk_norm)
    config = fields("""architectures=["InternVLChatModel"] model_type=internvl_chat
        auto_map={"AutoModel":"modeling_internvl_chat.InternVLChatModel"} downsample_ratio=0.5
        dynamic_image_size=true use_thumbnail=true min_dynamic_patch=1 max_dynamic_patch=6
        force_image_size=56 ps_version=v2 select_layer=-1 template=internlm2-chat pad2square=false
        use_backbone_lora=0 use_llm_lora=0 torch_dtype=bfloat16""")
    text = fields("""bias=false bos_token_id=1 eos_token_id=2 hidden_act=silu torch_dtype=bfloat16
        num_beams=1 attn_implementation=flash_attention_2 tie_word_embeddings=false""")
    if kind == INTERNLM:
        text["rope_scaling"] = {"factor": 2.0, "type": "dynamic"}
    tower = fields("""architectures=["InternVisionModel"] image_size=56 num_channels=3 patch_size=14
        hidden_act=gelu layer_norm_eps=1e-6 drop_path_rate=0.1 use_flash_attn=true
        initializer_factor=1.0""")
    norm = "rms_norm" if six else "layer_norm"
    tower |= SEEN | {"qkv_bias": not six, "qk_normalization": six, "norm_type": norm}
    config["llm_config"] = SHARED | text | {"architectures": [kind]}
    config["vision_config"] = tower
    (folder / "config.json").write_text(json.dumps(config | description))
    tokenizer = byte_tokenizer(SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    tokenizer.save_pretrained(folder)
    projector = model.model.multi_modal_projector
    keys = vision_keys(model) | text_keys(model, kind)
    places = {"0": projector.layer_norm, "1": projector.linear_1, "3": projector.linear_2}
    for place, part in places.items():
        keys |= {f"mlp1.{place}.{name}": value for name, value in part.state_dict().items()}
    torch.save({k: v.detach().clone() for k, v in keys.items()}, folder / "pytorch_model.bin")
    return folder


def check_same_logits(folder, model):
    new = loaded(InternVLForConditionalGeneration, folder)
    ours, theirs = (logits(each, [ROWS - 1] * 4, ROWS) for each in (new, model))
    assert torch.equal(ours, theirs)
    return new.config.text_config.rope_parameters


@pytest.mark.parametrize("large_tower", [False, True])
@pytest.mark.parametrize("kind", [INTERNLM, QWEN, LLAMA])
def test_nothing_is_lost(tmp_path, kind, large_tower):
    model, new = native(kind, large_tower=large_tower), tmp_path / "n"
    call(write_original(tmp_path / "o", model, kind), new)
    rope = check_same_logits(new, model)
    assert rope["rope_theta"] == 1000000.0
    if kind == INTERNLM:
        assert (rope["rope_type"], rope["factor"]) == ("dynamic", 2.0)
    assert bool(report_of(new)["assumed_never_seen"]) == (kind == LLAMA)


def test_a_picture_is_grounded(tmp_path):
    source = write_original(tmp_path / "o", native(INTERNLM), INTERNLM, max_dynamic_patch=4)
    call(source, tmp_path / "n")
    grounded(tmp_path / "n")
    with vg_engine.load(str(tmp_path / "n")) as engine:
        processor = engine.model.processor
        images = processor.image_processor
        assert (images.max_patches, images.size["height"]) == (4, 56)
        assert np.allclose(images.image_mean, [0.485, 0.456, 0.406])
        content = [{"type": "image"}, {"type": "text", "text": "Where?"}]
        talk = [{"role": "user", "content": content}]
        description = processor.apply_chat_template(talk, add_generation_prompt=True)
    # OpenGVLab/InternVL, conversation.py: MPT style, so nothing stands between the turns.
    assert description.startswith("<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发")
    assert description.endswith(
        "人工智能助手。<|im_end|><|im_start|>user\n<IMG_CONTEXT>\nWhere?<|im_end|>"
        "<|im_start|>assistant\n"
    )


@pytest.fixture(scope="module")
def qwen():
    return native(QWEN)


def test_a_tied_head_stays_tied(tmp_path):
    model = native(QWEN)
    model.lm_head.weight.data = model.get_input_embeddings().weight.data.clone()
    source = write_original(tmp_path / "o", model, QWEN)
    config = json.loads((source / "config.json").read_text())
    restate(source, llm_config=config["llm_config"] | {"tie_word_embeddings": True})
    keys = torch.load(source / "pytorch_model.bin", weights_only=True)
    del keys["language_model.lm_head.weight"]
    torch.save(keys, source / "pytorch_model.bin")
    call(source, tmp_path / "n")
    check_same_logits(tmp_path / "n", model)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"ps_version": "v1"}, r"run column by column \(ps_version v1"),
        ({"pad2square": True}, "pad2square"),
        ({"use_thumbnail": False}, "without a thumbnail"),
        ({"use_llm_lora": 16}, "LoRA"),
        ({"template": "phi3-chat"}, "conversation 'phi3-chat' is not known"),
        ({"llm_config": {"architectures": ["Phi3ForCausalLM"]}}, "is a Phi3ForCausalLM"),
        ({"llm_config": None}, "lacks vision_config or llm_config"),
    ],
)
def test_what_has_no_native_form_is_one_line(tmp_path, qwen, description, words):
    refused(words, write_original(tmp_path / "o", qwen, QWEN, **description), tmp_path / "n")


def test_it_takes_neither_tower_nor_base(tmp_path, qwen):
    source = write_original(tmp_path / "o", qwen, QWEN)
    refused("holds its vision tower", source, tmp_path / "n", "--vision-tower", source)
    refused("leave --base out", source, tmp_path / "n", "--base", source)


def test_a_wrong_number_of_heads_is_seen(tmp_path):
    source = write_original(tmp_path / "o", native(INTERNLM), INTERNLM)
    config = json.loads((source / "config.json").read_text())
    restate(source, llm_config=config["llm_config"] | {"num_key_value_heads": 4})
    refused("self_attn|wqkv", source, tmp_path / "n")
