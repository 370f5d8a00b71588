"""A tiny checkpoint of Qwen2-VL, and the parts of those of its line.

The families differ in config and model classes alone: tokenizer, chat template, processor and
token ids are made here, and their tests build the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vg_engine.model_adapters.shared.processors import without_video
from vg_engine.testing.tiny import (
    END_OF_TEXT,
    END_OF_TURN,
    byte_tokenizer,
    save_tiny,
    text_sizes,
)

# Token -> its name in a config, without `_token_id`.
NAMED = {
    "<|vision_start|>": "vision_start",
    "<|vision_end|>": "vision_end",
    "<|image_pad|>": "image",
    "<|video_pad|>": "video",
}
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen2-VL and Qwen2.5-VL add a system sentence where none is given; Qwen3-VL does not.
CHAT_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHAT
)


def tiny_qwen2_vl(
    folder: Path, *, tokens: tuple[int, int] = (1, 48), layers: int = 4, seed: int = 0
) -> Path:
    """Write a tiny Qwen2-VL checkpoint; a token is 28 x 28 pixels, as in the real ones.

    Args:
        folder: is made.
        tokens: fewest and most tokens of a picture.
        layers: of the language model.
        seed: of the random weights.

    Returns:
        `folder`.

    Example:
        >>> from vg_engine import load
        >>> with load(tiny_qwen2_vl(Path("qwen"), layers=1), heads="L0H0") as engine:
        ...     engine.ground("examples/scene.png", "the red circle").soft_map.values.shape
        (6, 6)
    """
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={**text_sizes(tokenizer, layers=layers), "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 4},
        **token_ids(tokenizer),
    )
    processor = qwen_processor(Qwen2VLProcessor, tokenizer, chat=CHAT_WITH_SYSTEM, tokens=tokens)
    torch.manual_seed(seed)
    return save_tiny(Qwen2VLForConditionalGeneration(config), processor, folder)


def qwen_tokenizer(more: Sequence[str] = (), **settings: Any) -> Any:
    """A byte-level tokenizer that merges a full stop with the newline behind it, as theirs do.

    Args:
        more: further control tokens.
        settings: of the tokenizer.
    """
    named = [END_OF_TURN, "<|im_start|>", *NAMED, *more]
    return byte_tokenizer(
        [END_OF_TEXT, *named],
        merges=((".", "Ċ"),),
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        extra_special_tokens=named,
        padding_side="left",
        **settings,
    )


def qwen_processor(
    processor_class: Any,
    tokenizer: Any,
    *,
    chat: str = CHAT,
    patch_size: int = 14,
    tokens: tuple[int, int] = (1, 48),
    image_class: Any = Qwen2VLImageProcessorPil,
    **settings: Any,
) -> Any:
    """A processor of pictures and text.

    Args:
        processor_class: transformers' class.
        tokenizer: its tokenizer.
        chat: its chat template.
        patch_size: in pixels; 2 x 2 patches become one token.
        tokens: fewest and most tokens of a picture.
        image_class: transformers' image processor.
        settings: of the image processor.
    """
    pixels = (2 * patch_size) ** 2
    images = image_class(
        patch_size=patch_size,
        size={"shortest_edge": tokens[0] * pixels, "longest_edge": tokens[1] * pixels},
        **settings,
    )
    return without_video(processor_class)(images, tokenizer, chat_template=chat)


def token_ids(tokenizer: Any, names: Sequence[str] = tuple(NAMED)) -> dict[str, Any]:
    """The ids of the vision tokens as a config has them: `image_token_id` and so on."""
    return {f"{NAMED[name]}_token_id": tokenizer.convert_tokens_to_ids(name) for name in names}


def sharpen_norms(module: torch.nn.Module, factor: float) -> None:
    """Set the scale of the norms of queries and keys: behind them, projections sharpen nothing.

    Args:
        module: with fresh weights; norms whose weight is added to one count as others do.
        factor: what was 1.
    """
    for name, parameter in module.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            parameter.data.add_(factor - 1.0)
