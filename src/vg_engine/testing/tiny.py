"""Tiny checkpoints of real architectures, written to a folder and loaded as real ones are.

Weights are random and *sharpened*: with default initialisation attention rows are nearly uniform
and agree with anything. Tokenizers are byte-level, without files to download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
LLAVA_CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
INTERNVL_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(
    special: Sequence[str], *, merges: Sequence[tuple[str, str]] = (), **settings: Any
) -> Any:
    """A byte-level tokenizer: 256 bytes, then `merges`, then `special`; ids in that order.

    Args:
        special: control tokens.
        merges: pairs of byte characters that become one token: (".", "Ċ") merges a full stop
            with the newline behind it, as the tokenizers of large models do.
        settings: of `PreTrainedTokenizerFast`.

    Example:
        >>> tokenizer = byte_tokenizer([PAD, "<image>"], pad_token=PAD)
        >>> tokenizer.convert_ids_to_tokens(tokenizer("<image>ab").input_ids)
        ['<image>', 'a', 'b']
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*letters, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings)


def sharpen(module: torch.nn.Module, factor: float = 12.0) -> None:
    """Scale the query and key projections, so that attention rows have peaks."""
    for name, parameter in module.named_parameters():
        if name.split(".")[-2:-1] in (["q_proj"], ["k_proj"]):
            parameter.data.mul_(factor)


def text_sizes(
    tokenizer: Any, *, layers: int = 4, hidden: int = 64, heads: int = 4
) -> dict[str, Any]:
    """Settings of a tiny decoder's config: half as many key heads, ids of the tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 16384,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def save_tiny(
    module: Any, processor: Any, folder: Path, *, sharpness: float = 12.0, safe: bool = True
) -> Path:
    """Sharpen a model's decoder and write everything that a real checkpoint's folder holds.

    Args:
        module: with random weights, `get_decoder()` its language model.
        processor: with its tokenizer, image processor and chat template.
        folder: is made.
        sharpness: see `sharpen`.
        safe: False writes `.bin` weights.
    """
    sharpen(module.get_decoder(), sharpness)
    folder.mkdir(parents=True, exist_ok=True)
    module.save_pretrained(folder)
    if not safe:
        torch.save(module.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    processor.save_pretrained(folder)
    return folder


def tiny_llava(
    folder: Path,
    *,
    geometry: Literal["crop", "pad"] = "crop",
    image_size: int = 112,
    patch_size: int = 14,
    layers: int = 4,
    hidden: int = 64,
    heads: int = 4,
    seed: int = 0,
    sharpness: float = 12.0,
    merges: Sequence[tuple[str, str]] = (),
    safe: bool = True,
) -> Path:
    """Write a tiny LLaVA-1.5 checkpoint; 336 pixels with patches of 14 make the real 24 x 24.

    Args:
        folder: is made.
        geometry: what its image processor does with pictures that are not square.
        image_size, patch_size: of the vision tower, in pixels.
        layers, hidden, heads: of the language model, which has half as many key heads.
        seed: of the random weights.
        sharpness: factor of the query and key projections; 1 leaves rows nearly uniform.
        merges: of the tokenizer.
        safe: False writes `.bin` weights, as old repositories have them.

    Returns:
        `folder`.

    Example:
        >>> from vg_engine import load
        >>> with load(tiny_llava(Path("llava"), layers=1), heads="L0H0,L0H3") as engine:
        ...     engine.ground("examples/scene.png", "the red circle").soft_map.values.shape
        (8, 8)
    """
    special = [PAD, BOS, EOS, "<image>"]
    tokenizer = byte_tokenizer(
        special,
        merges=merges,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=["<image>"],
        padding_side="left",
    )
    sizes: dict[str, Any] = {
        "size": {"shortest_edge": image_size},
        "crop_size": {"height": image_size, "width": image_size},
    }
    images = (
        CLIPImageProcessorPil(**sizes)
        if geometry == "crop"
        else LlavaImageProcessorPil(do_pad=True, **sizes)
    )
    processor_class: Any = LlavaProcessor
    processor = processor_class(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=image_size,
            patch_size=patch_size,
        ),
        text_config=LlamaConfig(
            **text_sizes(tokenizer, layers=layers, hidden=hidden, heads=heads)
            | {"max_position_embeddings": 4096}
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // patch_size) ** 2,
    )
    torch.manual_seed(seed)
    module = LlavaForConditionalGeneration(config)
    return save_tiny(module, processor, folder, sharpness=sharpness, safe=safe)


def tiny_internvl(
    folder: Path,
    *,
    image_size: int = 112,
    patch_size: int = 14,
    max_tiles: int = 6,
    layers: int = 4,
    hidden: int = 64,
    heads: int = 4,
    seed: int = 0,
    sharpness: float = 12.0,
    merges: Sequence[tuple[str, str]] = (),
    safe: bool = True,
) -> Path:
    """Write a tiny InternVL checkpoint; 448 pixels with patches of 14 make the real 16 x 16.

    Args:
        folder: is made.
        image_size, patch_size: of a tile, in pixels; 2 x 2 patches become one token.
        max_tiles: of a picture; a thumbnail is added where there are several.
        layers, hidden, heads: of the language model, which has half as many key heads.
        seed: of the random weights.
        sharpness: factor of the query and key projections; 1 leaves rows nearly uniform.
        merges: of the tokenizer.
        safe: False writes `.bin` weights.

    Returns:
        `folder`.

    Example:
        >>> from vg_engine import load
        >>> with load(tiny_internvl(Path("internvl"), layers=1), heads="L0H0") as engine:
        ...     engine.ground("examples/scene.png", "the red circle").soft_map.values.shape
        (8, 8)
    """
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    special = [END_OF_TEXT, "<|im_start|>", END_OF_TURN, *named.values()]
    tokenizer = byte_tokenizer(
        special,
        merges=merges,
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        extra_special_tokens=named,
        padding_side="left",
    )
    length = (image_size // (2 * patch_size)) ** 2
    processor = _InternVLProcessor(
        image_processor=GotOcr2ImageProcessorPil(
            size={"height": image_size, "width": image_size},
            min_patches=1,
            max_patches=max_tiles,
            crop_to_patches=False,
        ),
        tokenizer=tokenizer,
        image_seq_length=length,
        chat_template=INTERNVL_CHAT,
    )
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=[image_size, image_size],
            patch_size=[patch_size, patch_size],
        ),
        text_config=Qwen2Config(**text_sizes(tokenizer, layers=layers, hidden=hidden, heads=heads)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=length,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    module = InternVLForConditionalGeneration(config)
    return save_tiny(module, processor, folder, sharpness=sharpness, safe=safe)


class _InternVLProcessor(InternVLProcessor):
    """Without the video part, which needs torchvision; saved under its parent's name."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


# Files name the class that a real checkpoint names.
_InternVLProcessor.__name__ = "InternVLProcessor"
