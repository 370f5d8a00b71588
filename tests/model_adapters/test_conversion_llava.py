"""LLaVA-format checkpoints, written here from the format's own definition, and converted.

The original's keys come from haotian-liu/LLaVA: a LLaMA under `model.` and `lm_head`, a projector
`model.mm_projector`, and (in some) the tower under `model.vision_tower.vision_tower`.
"""

import json

import pytest
import torch
from families import fields
from originals import call, grounded, loaded, logits, refused, report_of, restate
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils.chat_template_utils import render_jinja_template

import vg_engine
from vg_engine.model_adapters.conversion.llava_original import chat
from vg_engine.testing.tiny import byte_tokenizer, sharpen

ROWS = 259
VISION = fields("""hidden_size=128 intermediate_size=64 num_hidden_layers=3 num_attention_heads=2
    image_size=56 patch_size=14""")
TEXT = fields("""hidden_size=64 intermediate_size=96 num_hidden_layers=3 num_attention_heads=4
    num_key_value_heads=2 rms_norm_eps=1e-5 max_position_embeddings=512""")
WHOLE_CLIP = {"model_type": "clip", "vision_config": VISION}
SHAREGPT = fields("""architectures=["Share4VLlamaForCausalLM"] model_type=share4v
    mm_vision_tower=Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12""")
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def native(*, linear=False, seed=0):
    """The model that the original is; its last row is the one that originals lack."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT, vocab_size=ROWS + 1),
        image_token_index=ROWS,
        image_seq_length=16,
        projector_hidden_act="linear" if linear else "gelu",
    )
    model = LlavaForConditionalGeneration(config).eval()
    sharpen(model.get_decoder())
    if linear:
        second = model.model.multi_modal_projector.linear_2
        second.weight.data, second.bias.data = torch.eye(64), torch.zeros(64)
    return model


def tower_keys(model):
    keys = {f"vision_model.{k}": v for k, v in model.model.vision_tower.state_dict().items()}
    return keys | {"vision_model.embeddings.position_ids": torch.arange(17)[None]}


def original_keys(model, *, tower=True):
    """The same weights under the names that LLaVA's own code gives them."""
    inner = model.model
    keys = {f"model.{k}": v for k, v in inner.language_model.state_dict().items()}
    keys["lm_head.weight"] = model.lm_head.weight.data
    keys |= {name: keys[name][:ROWS].clone() for name in EMBEDDINGS}
    projector = inner.multi_modal_projector
    layers = {"0.": projector.linear_1, "2.": projector.linear_2}
    if model.config.projector_hidden_act == "linear":
        layers = {"": projector.linear_1}
    for place, layer in layers.items():
        keys |= {f"model.mm_projector.{place}{k}": v for k, v in layer.state_dict().items()}
    keys["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    if tower:
        keys |= {f"model.vision_tower.vision_tower.{k}": v for k, v in tower_keys(model).items()}
    return keys


def write_original(folder, keys, form="bin", **description):
    """An original's folder: config, tokenizer without `<image>`, weights in one of three forms."""
    folder.mkdir(parents=True)
    config = fields("""architectures=["LlavaLlamaForCausalLM"] model_type=llava hidden_act=silu
        bos_token_id=257 eos_token_id=258 pad_token_id=-1 tie_word_embeddings=false
        torch_dtype=float16 mm_projector_type=mlp2x_gelu mm_hidden_size=128
        mm_vision_select_layer=-2 mm_vision_select_feature=patch mm_use_im_start_end=false
        image_aspect_ratio=pad mm_vision_tower=some/clip-tower freeze_mm_mlp_adapter=false
        transformers_version=4.31.0""")
    (folder / "config.json").write_text(
        json.dumps(config | TEXT | {"vocab_size": ROWS} | description)
    )
    byte_tokenizer([*SPECIAL.values()], **SPECIAL).save_pretrained(folder)
    write_weights(folder, keys, form)
    return folder


def write_weights(folder, keys, form):
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


def check_same_logits(folder, model, within=0.0):
    new = loaded(LlavaForConditionalGeneration, folder)
    ours, theirs = (logits(each, [ROWS] * 16, ROWS) for each in (new, model))
    assert (ours - theirs).abs().max() <= within
    return new


@pytest.fixture(scope="module")
def model():
    return native()


@pytest.fixture
def source(tmp_path, model):
    """An original with a tower of its own."""
    return write_original(tmp_path / "o", original_keys(model))


@pytest.fixture
def towerless(tmp_path, model):
    return write_original(tmp_path / "o", original_keys(model, tower=False))


@pytest.fixture
def tower(tmp_path, model):
    folder = tmp_path / "t"
    folder.mkdir()
    config = model.config.vision_config.to_dict() | {"architectures": ["CLIPVisionModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tower_keys(model), folder / "pytorch_model.bin")
    return folder


def test_a_tower_that_transformers_saved_again_is_the_same(tmp_path, model, towerless):
    """Since version 5 its weights have no prefix `vision_model.`, alone or inside a checkpoint."""
    tower = model.model.vision_tower
    tower.save_pretrained(tmp_path / "t")
    assert "embeddings.class_embedding" in load_file(tmp_path / "t" / "model.safetensors")
    call(towerless, tmp_path / "n", "--vision-tower", tmp_path / "t")
    check_same_logits(tmp_path / "n", model)
    keys = original_keys(model, tower=False)
    keys |= {f"model.vision_tower.vision_tower.{k}": v for k, v in tower.state_dict().items()}
    call(write_original(tmp_path / "inside", keys), tmp_path / "m")
    check_same_logits(tmp_path / "m", model)


@pytest.mark.parametrize("form", ["bin", "sharded", "safetensors"])
def test_with_a_tower_of_its_own_nothing_is_lost(tmp_path, model, form):
    source, new = write_original(tmp_path / "o", original_keys(model), form), tmp_path / "n"
    report = json.loads(call(source, new, "--json").stdout)
    assert report == report_of(new)
    rows = check_same_logits(new, model).get_input_embeddings().weight
    assert rows.shape[0] == ROWS + 1
    assert torch.allclose(rows[-1], rows[:-1].mean(dim=0))
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in report["dropped"]
    grown = ["lm_head.weight", "model.language_model.embed_tokens.weight"]
    assert sorted(report["rows_added"]) == grown


def test_shards_that_were_left_beside_the_whole_file_are_not_read(tmp_path, model, source):
    write_weights(source, original_keys(native(seed=3)), "sharded")
    call(source, tmp_path / "n")
    check_same_logits(tmp_path / "n", model)


def test_with_a_separate_tower_a_picture_is_grounded(tmp_path, model, towerless, tower):
    done = call(towerless, tmp_path / "n", "--vision-tower", tower)
    assert "keys assumed, never seen in a checkpoint: 0 tensors" in done.stdout
    check_same_logits(tmp_path / "n", model)
    assert "padded to a square" in grounded(tmp_path / "n").stderr


def test_the_picture_is_cut_where_the_original_cut_it(tmp_path, source):
    restate(source, image_aspect_ratio="square")
    assert "cut to their centre" in call(source, tmp_path / "n").stderr
    with vg_engine.load(str(tmp_path / "n")) as engine:
        assert type(engine.model.processor.image_processor).__name__ == "CLIPImageProcessorPil"


ASKED = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}


def test_a_single_linear_projector_is_exact(tmp_path):
    model, new = native(linear=True), tmp_path / "n"
    description = {"mm_projector_type": None, "mm_use_im_start_end": True}
    done = call(write_original(tmp_path / "llava-v0", original_keys(model), **description), new)
    check_same_logits(new, model)
    second = "model.multi_modal_projector.linear_2"
    assert report_of(new)["made"] == [f"{second}.weight", f"{second}.bias"]
    assert "Conversation v0" in done.stderr
    assert json.loads((new / "config.json").read_text())["mm_use_im_start_end"] is True
    with vg_engine.load(str(new)) as engine:
        text = engine.model.processor.apply_chat_template([ASKED], add_generation_prompt=True)
    assert text.endswith("questions.###Human: <im_start><image><im_end>\nWhere?###Assistant:")


def test_the_chat_is_the_originals():
    talk = [
        ASKED,
        {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]},
        {"role": "user", "content": [{"type": "text", "text": "Bye"}]},
    ]
    (text,), _ = render_jinja_template(
        [talk], chat_template=chat("v1", marks=False), add_generation_prompt=True
    )
    # conv_vicuna_v1 of haotian-liu/LLaVA: one space between system, user and assistant.
    assert text == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: <image>\n"
        "Where? ASSISTANT: Ho</s>USER: Bye ASSISTANT:"
    )


@pytest.fixture
def delta(tmp_path):
    """A delta, its base, and the model that they make; the base lacks one row."""
    model, other = native(linear=True), native(linear=True, seed=3)
    for name, value in model.state_dict().items():
        if name.endswith("norm.weight"):
            value.fill_(1.01)
    base = {k: v for k, v in original_keys(other, tower=False).items() if "mm_" not in k}
    base |= {name: base[name][: ROWS - 1].clone() for name in EMBEDDINGS}
    difference = {name: value.clone() for name, value in original_keys(model).items()}
    for name, value in base.items():
        if "inv_freq" not in name:
            difference[name][: len(value)] -= value
    source = write_original(tmp_path / "delta", difference, mm_projector_type="linear")
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    write_weights(folder, base, "sharded")
    return source, folder, model


def test_a_delta_is_added_to_its_base(tmp_path, delta):
    source, base, model = delta
    call(source, tmp_path / "n", "--base", base)
    check_same_logits(tmp_path / "n", model, within=2e-4)


def test_a_delta_needs_its_base(tmp_path, delta):
    source, base, _ = delta
    refused("holds delta weights.*--base DIR", source, tmp_path / "n")
    shard = base / "pytorch_model-00001-of-00002.bin"
    keys = torch.load(shard, weights_only=True)
    torch.save(keys | {"lm_head.weight": torch.zeros(ROWS, 32)}, shard)
    words = r"is not the base of.*lm_head\.weight \[259, 32\] under \[259, 64\]"
    refused(words, source, tmp_path / "n", "--base", base)


def test_sharegpt4v_takes_its_own_tower(tmp_path, model, towerless, tower):
    restate(towerless, **SHAREGPT)
    call(towerless, tmp_path / "n", "--vision-tower", tower)
    check_same_logits(tmp_path / "n", model)
    assert report_of(tmp_path / "n")["vision_tower"] == str(tower)


def test_the_vision_side_of_a_whole_clip_is_taken(tmp_path, towerless, tower):
    restate(tower, **WHOLE_CLIP)
    keys = torch.load(tower / "pytorch_model.bin", weights_only=True)
    keys |= {"logit_scale": torch.ones(()), "text_model.final_layer_norm.bias": torch.ones(4)}
    torch.save(keys, tower / "pytorch_model.bin")
    call(towerless, tmp_path / "n", "--vision-tower", tower)
    assert "logit_scale" in report_of(tmp_path / "n")["dropped"]


@pytest.mark.parametrize(
    ("description", "changed", "words"),
    [
        ({}, None, r"hold no vision tower; download the one it names \(some/clip-tower\)"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14"}, {}, "pictures of 56"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, {}, "give that tower"),
        ({}, {"model_type": "siglip"}, "no CLIP vision tower"),
        ({}, {"hidden_size": 64}, "of another shape"),
        ({}, {"hidden_size": "wide"}, "is no valid CLIPVisionConfig"),
        ({"image_aspect_ratio": "anyres"}, {}, r"LLaVA-NeXT \(1\.6\)"),
        ({"mm_projector_type": "resampler"}, {}, "in no format that is known here"),
        ({"hidden_size": 32}, {}, "of another shape"),
        ({"hidden_size": "wide"}, {}, "is no valid LlamaConfig"),
        ({"num_hidden_layers": 4}, {}, r"9 missing \(model\.language_model\.layers\.3\."),
        ({"num_hidden_layers": 2}, {}, r"9 unexpected \(model\.language_model\.layers\.2\."),
        (SHAREGPT, None, r"its own, fine-tuned one \(Lin-Chen/ShareGPT4V"),
        (SHAREGPT, WHOLE_CLIP, "is a whole CLIP model"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, towerless, tower, description, changed, words):
    restate(towerless, **description)
    restate(tower, **(changed or {}))
    extra = () if changed is None else ("--vision-tower", tower)
    refused(words, towerless, tmp_path / "n", *extra)


def test_whole_weights_take_neither_tower_nor_base_but_need_a_tokenizer(tmp_path, source, tower):
    refused("leave --base out", source, tmp_path / "n", "--base", source)
    refused("leave --vision-tower out", source, tmp_path / "n", "--vision-tower", tower)
    (source / "tokenizer.json").unlink()
    refused("put its tokenizer.json", source, tmp_path / "n")
