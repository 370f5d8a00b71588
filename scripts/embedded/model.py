"""The embedded model: a stock LLaVA, small enough to be trained on one core."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from vocabulary import BOS, EOS, IMAGE, PAD, build_processor, build_vocabulary

IMAGE_SIZE, PATCH_SIZE = 112, 8


def build_config(
    *,
    width: int = 128,
    vision_layers: int = 4,
    text_layers: int = 6,
    heads: int = 8,
    image_size: int = IMAGE_SIZE,
    patch_size: int = PATCH_SIZE,
) -> LlavaConfig:
    """The architecture; the features of the last tower layer are used, none is idle."""
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=vision_layers,
        num_attention_heads=max(1, width // 32),
        image_size=image_size,
        patch_size=patch_size,
        projection_dim=width,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(build_vocabulary()),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=text_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=(image_size // patch_size) ** 2,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def sincos_positions(grid: int, width: int) -> torch.Tensor:
    """Two-dimensional sine and cosine codes, (grid * grid, width), row by row."""
    count = width // 4
    rates = 100.0 ** (-torch.arange(count, dtype=torch.float32) / count)
    angles = torch.arange(grid, dtype=torch.float32)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None, :].expand(grid, grid, -1)
    columns = line[None, :, :].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)


@torch.no_grad()
def initialise(model: LlavaForConditionalGeneration) -> None:
    """Weights with which a model of this size learns; the usual 0.02 does not get off the ground.

    Matrices at 1/sqrt(fan in), embeddings of deviation 1, sine-cosine positions, and
    keys equal to queries in the tower: every patch then looks at its neighbours first.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    for stack, names in (
        (model.model.vision_tower, ("out_proj", "fc2")),
        (model.model.language_model, ("o_proj", "down_proj")),
    ):
        outputs = [m for n, m in stack.named_modules() if n.endswith(names)]
        for module in outputs:  # what a layer adds starts small, so that colours and places pass
            module.weight.mul_(1 / math.sqrt(len(outputs)))
    tower: Any = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    config = model.config.vision_config
    codes = sincos_positions(config.image_size // config.patch_size, config.hidden_size)
    tower.embeddings.position_embedding.weight.zero_()
    tower.embeddings.position_embedding.weight[1:] = codes
    nn.init.normal_(tower.embeddings.class_embedding)
    for layer in tower.encoder.layers:
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def build_model(config: LlavaConfig, seed: int) -> LlavaForConditionalGeneration:
    """A freshly initialised model in float32."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model = model.float()
    initialise(model)
    return model


def export(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write float16 safetensors, config, tokenizer and processor, as a LLaVA-1.5 ships them."""
    config = model.config.vision_config
    half = LlavaForConditionalGeneration(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config.eos_token_id = EOS
    half.generation_config.pad_token_id = PAD
    half.save_pretrained(folder)
    build_processor(config.image_size, config.patch_size).save_pretrained(folder)
