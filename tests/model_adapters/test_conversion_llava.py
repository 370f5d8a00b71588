"""LLaVA-format checkpoints, written here from the format's own definition, and converted.

The original's keys come from haotian-liu/LLaVA: a LLaMA under `model.` and `lm_head`, a projector
`model.mm_projector`, and (in some) the tower under `model.vision_tower.vision_tower`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from typer.testing import CliRunner, Result

import vg_engine
from vg_engine.cli.main import app
from vg_engine.model_adapters.conversion.llava_original import chat
from vg_engine.testing.tiny import byte_tokenizer, sharpen

SIZE, PATCH, ROWS = 56, 14, 259


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def native(*, linear: bool = False, seed: int = 0) -> Any:
    """The model that the original is; its last row is the one that originals lack."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=128, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
            image_size=SIZE, patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=ROWS + 1, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
            max_position_embeddings=512,
        ),
        image_token_index=ROWS,
        image_seq_length=(SIZE // PATCH) ** 2,
        projector_hidden_act="linear" if linear else "gelu",
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    sharpen(model.get_decoder())
    if linear:
        second = model.model.multi_modal_projector.linear_2
        second.weight.data, second.bias.data = torch.eye(64), torch.zeros(64)
    return model


def original_keys(model: Any, *, tower: bool = False, linear: bool = False) -> dict[str, Any]:
    """The same weights under the names that LLaVA's own code gives them."""
    inner = model.model
    keys = {f"model.{k}": v for k, v in inner.language_model.state_dict().items()}
    keys["lm_head.weight"] = model.lm_head.weight.data
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        keys[name] = keys[name][:ROWS].clone()
    projector = inner.multi_modal_projector
    if linear:
        keys["model.mm_projector.weight"] = projector.linear_1.weight.data
        keys["model.mm_projector.bias"] = projector.linear_1.bias.data
    else:
        for place, layer in (("0", projector.linear_1), ("2", projector.linear_2)):
            keys[f"model.mm_projector.{place}.weight"] = layer.weight.data
            keys[f"model.mm_projector.{place}.bias"] = layer.bias.data
    keys["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    if tower:
        for name, value in tower_keys(model).items():
            keys[f"model.vision_tower.vision_tower.{name}"] = value
    return keys


def tower_keys(model: Any) -> dict[str, Any]:
    keys = {f"vision_model.{k}": v for k, v in model.model.vision_tower.state_dict().items()}
    keys["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    return keys


def write_original(folder: Path, keys: dict[str, Any], *, form: str = "bin", **said: Any) -> Path:
    """An original's folder: config, tokenizer without `<image>`, weights in one of three forms."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "hidden_act": "silu", "vocab_size": ROWS, "bos_token_id": 257, "eos_token_id": 258,
        "pad_token_id": -1, "tie_word_embeddings": False, "torch_dtype": "float16",
        "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 128, "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch", "mm_use_im_start_end": False,
        "image_aspect_ratio": "pad", "mm_vision_tower": "some/clip-tower",
        "freeze_mm_mlp_adapter": False, "transformers_version": "4.31.0",
    } | said  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer(
        ["<pad>", "<s>", "</s>"], pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    write_weights(folder, keys, form)
    return folder


def write_weights(folder: Path, keys: dict[str, Any], form: str) -> None:
    if form == "safetensors":
        save_file({k: v.contiguous() for k, v in keys.items()}, folder / "model.safetensors")
        return
    if form == "bin":
        torch.save(keys, folder / "pytorch_model.bin")
        return
    names, half = sorted(keys), len(keys) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: keys[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_tower(folder: Path, model: Any, **said: Any) -> Path:
    folder.mkdir(parents=True)
    config = model.config.vision_config.to_dict() | {"architectures": ["CLIPVisionModel"]} | said
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tower_keys(model), folder / "pytorch_model.bin")
    return folder


def logits(model: Any, image_token: int = ROWS) -> torch.Tensor:
    torch.manual_seed(1)
    ids = torch.tensor([[257, 72, 101, *[image_token] * 16, 10, 70, 33, 46]])
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=torch.randn(1, 3, SIZE, SIZE))
    return out.logits[..., :ROWS]  # type: ignore[no-any-return]


def loaded(folder: Path) -> Any:
    made: Any = LlavaForConditionalGeneration
    model, info = made.from_pretrained(folder, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "vg_engine_conversion.json").read_text())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("form", ["bin", "sharded", "safetensors"])
def test_with_a_tower_of_its_own_nothing_is_lost(tmp_path: Path, form: str) -> None:
    model = native()
    source = write_original(tmp_path / "o", original_keys(model, tower=True), form=form)
    done = call(source, tmp_path / "n", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == report_of(tmp_path / "n")
    new = loaded(tmp_path / "n")
    assert torch.equal(logits(new), logits(model))
    rows = new.get_input_embeddings().weight
    assert rows.shape[0] == ROWS + 1
    assert torch.allclose(rows[-1], rows[:-1].mean(dim=0))
    report = report_of(tmp_path / "n")
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in report["dropped"]
    grown = ["lm_head.weight", "model.language_model.embed_tokens.weight"]
    assert sorted(report["rows_added"]) == grown


def test_with_a_separate_tower_a_picture_is_grounded(tmp_path: Path, photo: Path) -> None:
    model = native()
    source = write_original(tmp_path / "o", original_keys(model))
    tower = write_tower(tmp_path / "t", model)
    done = call(source, tmp_path / "n", "--vision-tower", tower)
    assert done.exit_code == 0, done.output
    assert "keys assumed, never seen in a checkpoint: 0 tensors" in done.stdout
    assert torch.equal(logits(loaded(tmp_path / "n")), logits(model))
    ran = CliRunner().invoke(
        app, ["run", "--model", str(tmp_path / "n"), "--image", str(photo), "--text", "a", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    assert "padded to a square" in ran.stderr
    assert len(json.loads(ran.stdout)["boxes"][0]) == 4


def test_the_picture_is_cut_where_the_original_cut_it(tmp_path: Path) -> None:
    source = write_original(
        tmp_path / "o", original_keys(native(), tower=True), image_aspect_ratio="square"
    )
    done = call(source, tmp_path / "n")
    assert "cut to their centre" in done.stderr
    with vg_engine.load(str(tmp_path / "n")) as engine:
        assert type(engine.model.processor.image_processor).__name__ == "CLIPImageProcessorPil"


def test_a_single_linear_projector_is_exact(tmp_path: Path) -> None:
    model = native(linear=True)
    source = write_original(
        tmp_path / "llava-v0", original_keys(model, tower=True, linear=True),
        mm_projector_type=None, mm_use_im_start_end=True,
    )  # fmt: skip
    done = call(source, tmp_path / "n")
    assert done.exit_code == 0, done.output
    assert torch.equal(logits(loaded(tmp_path / "n")), logits(model))
    report = report_of(tmp_path / "n")
    assert report["made"] == [
        f"model.multi_modal_projector.linear_2.{part}" for part in ("weight", "bias")
    ]
    assert "Conversation v0" in done.stderr
    assert json.loads((tmp_path / "n/config.json").read_text())["mm_use_im_start_end"] is True
    with vg_engine.load(str(tmp_path / "n")) as engine:
        said = engine.model.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}],
            add_generation_prompt=True,
        )
    assert said.endswith("questions.###Human: <im_start><image><im_end>\nWhere?###Assistant:")


def test_the_chat_is_the_originals() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    talk = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]},
        {"role": "user", "content": [{"type": "text", "text": "Bye"}]},
    ]
    (text,), _ = render_jinja_template(
        [talk], chat_template=chat("v1", marks=False), add_generation_prompt=True
    )
    # conv_vicuna_v1 of haotian-liu/LLaVA: one space between system, user and assistant.
    assert text == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: <image>\nHi "
        "ASSISTANT: Ho</s>USER: Bye ASSISTANT:"
    )


@pytest.fixture
def delta(tmp_path: Path) -> tuple[Path, Path, Any]:
    """A delta, its base, and the model that they make; the base lacks one row."""
    model, other = native(linear=True), native(linear=True, seed=3)
    for name, value in model.state_dict().items():
        if name.endswith("norm.weight"):
            value.fill_(1.01)
    whole = original_keys(model, tower=True, linear=True)
    base = {k: v for k, v in original_keys(other).items() if "mm_" not in k}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        base[name] = base[name][: ROWS - 1].clone()
    difference = {}
    for name, value in whole.items():
        difference[name] = value.clone()
        if name in base and "inv_freq" not in name:
            difference[name][: len(base[name])] -= base[name]
    source = write_original(tmp_path / "delta", difference, mm_projector_type="linear")
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    write_weights(folder, base, "sharded")
    return source, folder, model


def test_a_delta_is_added_to_its_base(tmp_path: Path, delta: tuple[Path, Path, Any]) -> None:
    source, base, model = delta
    done = call(source, tmp_path / "n", "--base", base)
    assert done.exit_code == 0, done.output
    assert torch.allclose(logits(loaded(tmp_path / "n")), logits(model), atol=2e-4)


def test_a_delta_needs_its_base(tmp_path: Path, delta: tuple[Path, Path, Any]) -> None:
    done = call(delta[0], tmp_path / "n")
    assert done.exit_code == 2
    assert "holds delta weights" in done.stderr
    assert "--base DIR" in done.stderr


def test_a_delta_needs_the_right_base(tmp_path: Path, delta: tuple[Path, Path, Any]) -> None:
    keys = torch.load(delta[1] / "pytorch_model-00001-of-00002.bin", weights_only=True)
    keys["lm_head.weight"] = torch.zeros(ROWS, 32)
    torch.save(keys, delta[1] / "pytorch_model-00001-of-00002.bin")
    done = call(delta[0], tmp_path / "n", "--base", delta[1])
    assert done.exit_code == 2
    assert "is not the base of" in done.stderr
    assert "lm_head.weight [259, 32] under [259, 64]" in done.stderr


def test_whole_weights_take_no_base(tmp_path: Path) -> None:
    source = write_original(tmp_path / "o", original_keys(native(), tower=True))
    done = call(source, tmp_path / "n", "--base", source)
    assert done.exit_code == 2
    assert "leave --base out" in done.stderr


def sharegpt(tmp_path: Path, model: Any) -> Path:
    return write_original(
        tmp_path / "ShareGPT4V-7B", original_keys(model),
        architectures=["Share4VLlamaForCausalLM"], model_type="share4v",
        mm_vision_tower="Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12",
    )  # fmt: skip


def test_sharegpt4v_takes_its_own_tower(tmp_path: Path) -> None:
    model = native()
    tower = write_tower(tmp_path / "t", model)
    done = call(sharegpt(tmp_path, model), tmp_path / "n", "--vision-tower", tower)
    assert done.exit_code == 0, done.output
    assert torch.equal(logits(loaded(tmp_path / "n")), logits(model))
    assert report_of(tmp_path / "n")["vision_tower"] == str(tower)


def test_sharegpt4v_is_never_paired_with_another_tower(tmp_path: Path) -> None:
    model = native()
    source = sharegpt(tmp_path, model)
    done = call(source, tmp_path / "n")
    assert done.exit_code == 2
    assert "its own, fine-tuned one (Lin-Chen/ShareGPT4V" in done.stderr
    vision = model.config.vision_config.to_dict()
    plain = write_tower(tmp_path / "t", model, model_type="clip", vision_config=vision)
    done = call(source, tmp_path / "n", "--vision-tower", plain)
    assert done.exit_code == 2
    assert "is a whole CLIP model" in done.stderr


def test_the_vision_side_of_a_whole_clip_is_taken(tmp_path: Path) -> None:
    model = native()
    source = write_original(tmp_path / "o", original_keys(model))
    vision = model.config.vision_config.to_dict()
    tower = write_tower(tmp_path / "t", model, model_type="clip", vision_config=vision)
    keys = torch.load(tower / "pytorch_model.bin", weights_only=True)
    keys |= {"logit_scale": torch.ones(()), "text_model.final_layer_norm.bias": torch.ones(4)}
    torch.save(keys, tower / "pytorch_model.bin")
    done = call(source, tmp_path / "n", "--vision-tower", tower)
    assert done.exit_code == 0, done.output
    assert "logit_scale" in report_of(tmp_path / "n")["dropped"]


@pytest.mark.parametrize(
    ("said", "tower", "words"),
    [
        ({}, None, "hold no vision tower; download the one it names (some/clip-tower)"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14"}, {}, "pictures of 56"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, {}, "give that tower"),
        ({}, {"model_type": "siglip"}, "no CLIP vision tower"),
        ({}, {"hidden_size": 64}, "of another shape"),
        ({}, {"hidden_size": "wide"}, "does not make a CLIPVisionConfig"),
        ({"image_aspect_ratio": "anyres"}, {}, "LLaVA-NeXT (1.6)"),
        ({"mm_projector_type": "resampler"}, {}, "of no format that is known here"),
        ({"hidden_size": 32}, {}, "of another shape"),
        ({"hidden_size": "wide"}, {}, "does not make a LlamaConfig"),
        ({"num_hidden_layers": 4}, {}, "9 missing (model.language_model.layers.3."),
        ({"num_hidden_layers": 2}, {}, "9 unexpected (model.language_model.layers.2."),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, said: dict[str, Any], tower: dict[str, Any] | None, words: str
) -> None:
    model = native()
    source = write_original(tmp_path / "o", original_keys(model), **said)
    extra = () if tower is None else ("--vision-tower", write_tower(tmp_path / "t", model, **tower))
    done = call(source, tmp_path / "n", *extra)
    assert done.exit_code == 2, done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "n").exists()
    assert not list(tmp_path.glob(".n.*"))


def test_two_towers_are_refused(tmp_path: Path) -> None:
    model = native()
    source = write_original(tmp_path / "o", original_keys(model, tower=True))
    done = call(source, tmp_path / "n", "--vision-tower", write_tower(tmp_path / "t", model))
    assert done.exit_code == 2
    assert "leave --vision-tower out" in done.stderr


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    source = write_original(tmp_path / "o", original_keys(native(), tower=True))
    (source / "tokenizer.json").unlink()
    done = call(source, tmp_path / "n")
    assert done.exit_code == 2
    assert "put its tokenizer.json" in done.stderr
    shutil.rmtree(source)
