"""`internvl_chat` checkpoints, written here from the format's own definition, and converted.

The original's keys come from OpenGVLab/InternVL: InternViT under `vision_model`, the connector
`mlp1`, a decoder under `language_model`; InternLM2 keeps, per key head, its queries, one key, one
value (internlm/InternLM: modeling_internlm2.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
)
from typer.testing import CliRunner, Result

import vg_engine
from vg_engine.cli.main import app
from vg_engine.testing.tiny import byte_tokenizer, sharpen

SIZE, PATCH, HEADS, GROUPS, WIDE = 56, 14, 4, 2, 64
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
ROWS = 256 + len(SPECIAL)
CONTEXT = ROWS - 1
SHARED = {
    "hidden_size": WIDE, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": ROWS,
    "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1024, "rope_theta": 1000000.0,
}  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def native(kind: str, *, large_tower: bool = False) -> Any:
    torch.manual_seed(0)
    fields = SHARED | {"bos_token_id": None, "eos_token_id": 258}
    if kind == "Qwen2ForCausalLM":
        text: Any = Qwen2Config(**fields)
    elif kind == "InternLM2ForCausalLM":
        dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000000.0}
        text = LlamaConfig(**{k: v for k, v in fields.items() if k != "rope_theta"},
                           rope_parameters=dynamic)  # fmt: skip
    else:
        text = LlamaConfig(**fields)
    six = {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}
    three = {"use_qk_norm": False, "norm_type": "layer_norm", "attention_bias": True}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            image_size=[SIZE, SIZE], patch_size=[PATCH, PATCH], **(six if large_tower else three),
        ),
        text_config=text,
        image_token_id=CONTEXT,
        image_seq_length=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = InternVLForConditionalGeneration(config).eval()
    sharpen(model.get_decoder())
    for name, value in model.named_parameters():
        if "norm" in name or name.endswith("bias"):  # else swapped norms would go unseen
            value.data.add_(torch.randn_like(value) / 5)
    return model


def vision_keys(model: Any) -> dict[str, Any]:
    tower, at = model.model.vision_tower.state_dict(), "vision_model.encoder.layers."
    first = "vision_model.embeddings."
    keys = {
        first + "class_embedding": tower["embeddings.cls_token"],
        first + "position_embedding": tower["embeddings.position_embeddings"],
        first + "patch_embedding.weight": tower["embeddings.patch_embeddings.projection.weight"],
        first + "patch_embedding.bias": tower["embeddings.patch_embeddings.projection.bias"],
    }
    for layer in range(2):
        old, new = f"encoder.layer.{layer}.", f"{at}{layer}."
        for part in ("weight", "bias"):
            three = [tower.get(f"{old}attention.{n}_proj.{part}") for n in "qkv"]
            if three[0] is not None:
                keys[f"{new}attn.qkv.{part}"] = torch.cat(three)
        for ours, theirs in (
            ("attention.projection_layer.weight", "attn.proj.weight"),
            ("attention.projection_layer.bias", "attn.proj.bias"),
            ("attention.q_norm.weight", "attn.q_norm.weight"),
            ("attention.k_norm.weight", "attn.k_norm.weight"),
            ("layernorm_before.weight", "norm1.weight"),
            ("layernorm_before.bias", "norm1.bias"),
            ("layernorm_after.weight", "norm2.weight"),
            ("layernorm_after.bias", "norm2.bias"),
            ("lambda_1", "ls1"),
            ("lambda_2", "ls2"),
            ("mlp.fc1.weight", "mlp.fc1.weight"),
            ("mlp.fc1.bias", "mlp.fc1.bias"),
            ("mlp.fc2.weight", "mlp.fc2.weight"),
            ("mlp.fc2.bias", "mlp.fc2.bias"),
        ):
            if old + ours in tower:
                keys[new + theirs] = tower[old + ours]
    return keys


def text_keys(model: Any, kind: str) -> dict[str, Any]:
    inner = model.model.language_model.state_dict()
    if kind != "InternLM2ForCausalLM":
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
        for ours, theirs in (
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ):
            keys[f"{new}{theirs}.weight"] = inner[f"{old}{ours}.weight"]
    return keys


def write_original(folder: Path, model: Any, kind: str, **said: Any) -> Path:
    folder.mkdir(parents=True)
    tower = model.config.vision_config
    six = bool(tower.use_qk_norm)
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "downsample_ratio": 0.5, "dynamic_image_size": True, "use_thumbnail": True,
        "min_dynamic_patch": 1, "max_dynamic_patch": 6, "force_image_size": SIZE,
        "ps_version": "v2", "select_layer": -1, "template": "internlm2-chat", "pad2square": False,
        "use_backbone_lora": 0, "use_llm_lora": 0, "torch_dtype": "bfloat16",
        "llm_config": SHARED | {
            "architectures": [kind], "bias": False, "bos_token_id": 1, "eos_token_id": 2,
            "hidden_act": "silu", "torch_dtype": "bfloat16", "num_beams": 1,
            "attn_implementation": "flash_attention_2", "tie_word_embeddings": False,
        } | ({"rope_scaling": {"factor": 2.0, "type": "dynamic"}} if "LM2" in kind else {}),
        "vision_config": {
            "architectures": ["InternVisionModel"], "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIZE, "num_channels": 3,
            "patch_size": PATCH, "qkv_bias": not six, "qk_normalization": six, "hidden_act": "gelu",
            "norm_type": "rms_norm" if six else "layer_norm", "layer_norm_eps": 1e-6,
            "drop_path_rate": 0.1, "use_flash_attn": True, "initializer_factor": 1.0,
        },
    } | said  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer(
        SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)  # fmt: skip
    projector = model.model.multi_modal_projector
    keys = vision_keys(model) | text_keys(model, kind)
    places = (("0", projector.layer_norm), ("1", projector.linear_1), ("3", projector.linear_2))
    for place, part in places:
        keys[f"mlp1.{place}.weight"], keys[f"mlp1.{place}.bias"] = part.weight, part.bias
    torch.save({k: v.detach().clone() for k, v in keys.items()}, folder / "pytorch_model.bin")
    return folder


def logits(model: Any) -> torch.Tensor:
    torch.manual_seed(1)
    ids = torch.tensor([[257, 72, 101, *[CONTEXT] * 4, 10, 70, 33, 46]])
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=torch.randn(1, 3, SIZE, SIZE))
    return out.logits[..., :ROWS]  # type: ignore[no-any-return]


def loaded(folder: Path) -> Any:
    made: Any = InternVLForConditionalGeneration
    model, info = made.from_pretrained(folder, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


KINDS = ("InternLM2ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM")


@pytest.mark.parametrize("large_tower", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(tmp_path: Path, kind: str, large_tower: bool) -> None:
    model = native(kind, large_tower=large_tower)
    source = write_original(tmp_path / "o", model, kind)
    done = call(source, tmp_path / "n")
    assert done.exit_code == 0, done.output
    new = loaded(tmp_path / "n")
    assert torch.equal(logits(new), logits(model))
    text = new.config.text_config
    assert text.rope_parameters["rope_theta"] == 1000000.0
    if "LM2" in kind:
        assert text.rope_parameters["rope_type"] == "dynamic"
        assert text.rope_parameters["factor"] == 2.0
    report = json.loads((tmp_path / "n/vg_engine_conversion.json").read_text())
    assumed = [rule["pattern"] for rule in report["assumed_never_seen"]]
    assert bool(assumed) == (kind == "LlamaForCausalLM")


def test_a_picture_is_grounded(tmp_path: Path) -> None:
    model = native("InternLM2ForCausalLM")
    source = write_original(tmp_path / "o", model, "InternLM2ForCausalLM", max_dynamic_patch=4)
    assert call(source, tmp_path / "n").exit_code == 0
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (60, 120, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(photo)
    ran = CliRunner().invoke(
        app, ["run", "--model", str(tmp_path / "n"), "--image", str(photo), "--text", "a", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    assert len(json.loads(ran.stdout)["boxes"][0]) == 4
    with vg_engine.load(str(tmp_path / "n")) as engine:
        processor = engine.model.processor
        images = processor.image_processor
        assert (images.max_patches, images.size["height"]) == (4, SIZE)
        assert np.allclose(images.image_mean, [0.485, 0.456, 0.406])
        talk = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}
        ]
        said = processor.apply_chat_template(talk, add_generation_prompt=True)
    # OpenGVLab/InternVL, conversation.py: MPT style, so nothing stands between the turns.
    assert said.startswith("<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发")
    assert said.endswith(
        "人工智能助手。<|im_end|><|im_start|>user\n<IMG_CONTEXT>\nWhere?<|im_end|>"
        "<|im_start|>assistant\n"
    )


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    model = native("Qwen2ForCausalLM")
    model.lm_head.weight.data = model.get_input_embeddings().weight.data.clone()
    source = write_original(tmp_path / "o", model, "Qwen2ForCausalLM")
    config = json.loads((source / "config.json").read_text())
    config["llm_config"]["tie_word_embeddings"] = True
    (source / "config.json").write_text(json.dumps(config))
    keys = torch.load(source / "pytorch_model.bin", weights_only=True)
    del keys["language_model.lm_head.weight"]
    torch.save(keys, source / "pytorch_model.bin")
    done = call(source, tmp_path / "n")
    assert done.exit_code == 0, done.output
    assert torch.equal(logits(loaded(tmp_path / "n")), logits(model))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"ps_version": "v1"}, "run column by column (ps_version v1"),
        ({"pad2square": True}, "pad2square"),
        ({"use_thumbnail": False}, "without a thumbnail"),
        ({"use_llm_lora": 16}, "LoRA"),
        ({"template": "phi3-chat"}, "conversation 'phi3-chat' is not known"),
        ({"llm_config": {"architectures": ["Phi3ForCausalLM"]}}, "speaks through Phi3ForCausalLM"),
        ({"llm_config": None}, "lacks vision_config or llm_config"),
    ],
)
def test_what_has_no_native_form_is_one_line(
    tmp_path: Path, said: dict[str, Any], words: str
) -> None:
    source = write_original(
        tmp_path / "o", native("Qwen2ForCausalLM"), "Qwen2ForCausalLM", **said
    )  # fmt: skip
    done = call(source, tmp_path / "n")
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "n").exists()


def test_it_holds_its_tower(tmp_path: Path) -> None:
    source = write_original(tmp_path / "o", native("Qwen2ForCausalLM"), "Qwen2ForCausalLM")
    done = call(source, tmp_path / "n", "--vision-tower", source)
    assert done.exit_code == 2
    assert "holds its vision tower" in done.stderr
    done = call(source, tmp_path / "n", "--base", source)
    assert done.exit_code == 2
    assert "leave --base out" in done.stderr


def test_a_wrong_number_of_heads_is_seen(tmp_path: Path) -> None:
    kind = "InternLM2ForCausalLM"
    source = write_original(tmp_path / "o", native(kind), kind)
    config = json.loads((source / "config.json").read_text())
    config["llm_config"]["num_key_value_heads"] = 4
    (source / "config.json").write_text(json.dumps(config))
    done = call(source, tmp_path / "n")
    assert done.exit_code == 2
    assert "self_attn" in done.stderr or "wqkv" in done.stderr
