"""A published checkpoint's own numbers against our rules, without its weights.

liuhaotian/llava-v1.5-7b: its `pytorch_model.bin.index.json`, quoted in public notes on that model,
lists a LLaMA with `rotary_emb.inv_freq`, the projector `model.mm_projector.{0,2}`, no vision tower,
and a total size of 13,518,798,848 bytes.
"""

import json

import torch
from families import fields
from transformers import CLIPVisionConfig

from vg_engine.model_adapters.conversion import schedule
from vg_engine.model_adapters.conversion.llava_original import LlavaOriginal
from vg_engine.model_adapters.conversion.protocol import Request
from vg_engine.model_adapters.conversion.source import Checkpoint, Entry
from vg_engine.testing.tiny import byte_tokenizer

WIDE, INNER, LAYERS, ROWS, SEEN = 4096, 11008, 32, 32000, 1024
CONFIG = fields(f"""architectures=["LlavaLlamaForCausalLM"] model_type=llava hidden_size={WIDE}
    intermediate_size={INNER} num_hidden_layers={LAYERS} num_attention_heads=32
    num_key_value_heads=32 rms_norm_eps=1e-5 max_position_embeddings=4096 max_length=4096
    vocab_size={ROWS} bos_token_id=1 eos_token_id=2 pad_token_id=0 hidden_act=silu rope_scaling=null
    tie_word_embeddings=false mm_projector_type=mlp2x_gelu mm_hidden_size={SEEN}
    mm_vision_select_layer=-2 mm_vision_select_feature=patch mm_use_im_start_end=false
    use_mm_proj=true mm_vision_tower=openai/clip-vit-large-patch14-336 image_aspect_ratio=pad
    torch_dtype=float16""")


def half(*shape):
    return Entry(shape, torch.float16, "pytorch_model.bin")


def published():
    found = {"model.embed_tokens.weight": half(ROWS, WIDE), "lm_head.weight": half(ROWS, WIDE)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        found |= {f"{at}self_attn.{n}_proj.weight": half(WIDE, WIDE) for n in "qkvo"}
        found |= {f"{at}mlp.{n}_proj.weight": half(INNER, WIDE) for n in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = half(WIDE, INNER)
        found |= {f"{at}{n}_layernorm.weight": half(WIDE) for n in ("input", "post_attention")}
        found[f"{at}self_attn.rotary_emb.inv_freq"] = Entry((64,), torch.float32, "x.bin")
    found["model.norm.weight"] = half(WIDE)
    found |= {f"model.mm_projector.{i}.bias": half(WIDE) for i in (0, 2)}
    found |= {"model.mm_projector.0.weight": half(WIDE, SEEN)}
    return found | {"model.mm_projector.2.weight": half(WIDE, WIDE)}


def tower(folder):
    """The vision side of CLIP-L/14 at 336, by its published shape."""
    sizes = fields(f"""hidden_size={SEEN} intermediate_size=4096 num_hidden_layers=24
        num_attention_heads=16 image_size=336 patch_size=14 projection_dim=768""")
    entries = {
        "embeddings.class_embedding": half(SEEN),
        "embeddings.patch_embedding.weight": half(SEEN, 3, 14, 14),
        "embeddings.position_embedding.weight": half(577, SEEN),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for layer in range(24):
        at = f"encoder.layers.{layer}."
        norms += [f"{at}layer_norm1", f"{at}layer_norm2"]
        for name in ("q", "k", "v", "out"):
            entries[f"{at}self_attn.{name}_proj.weight"] = half(SEEN, SEEN)
            entries[f"{at}self_attn.{name}_proj.bias"] = half(SEEN)
        entries |= {f"{at}mlp.fc1.weight": half(4096, SEEN), f"{at}mlp.fc1.bias": half(4096)}
        entries |= {f"{at}mlp.fc2.weight": half(SEEN, 4096), f"{at}mlp.fc2.bias": half(SEEN)}
    entries |= {f"{name}.{part}": half(SEEN) for name in norms for part in ("weight", "bias")}
    found = Checkpoint(folder, CLIPVisionConfig(**sizes).to_dict())
    found.__dict__["entries"] = {f"vision_model.{name}": e for name, e in entries.items()}
    return found


def test_every_key_of_llava_15_has_its_place(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    byte_tokenizer([*special.values()], **special).save_pretrained(tmp_path)
    source = Checkpoint(tmp_path, CONFIG)
    source.__dict__["entries"] = published()
    sizes = (e.dtype.itemsize * torch.Size(e.shape).numel() for e in source.entries.values())
    assert sum(sizes) == 13_518_798_848
    # The pipeline would read weights to tell deltas; plan and check do not.
    plan = LlavaOriginal().plan(Request(source, tower(tmp_path)))
    made = schedule.make(plan)
    names = [output.name for job in made.jobs for output in job.outputs]
    assert sorted(names) == sorted(schedule.expected_of(plan))
    assert len(made.dropped) == LAYERS
    assert made.dtype == torch.float16
    assert plan.config.image_seq_length == 576
