"""`internvl_chat` checkpoints: InternVL 1.5, 2 and 2.5 (and 3), with three kinds of decoder.

Facts from public code: OpenGVLab/InternVL (modeling_internvl_chat.py, modeling_intern_vit.py,
conversation.py) and transformers' convert_internvl_weights_to_hf.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from vg_engine.core.errors import ModelError, UnsupportedModelError
from vg_engine.model_adapters.conversion import vocabulary
from vg_engine.model_adapters.conversion.configs import chat_template, checked, text_config
from vg_engine.model_adapters.conversion.protocol import (
    ASSUMED,
    Converter,
    Part,
    Plan,
    Request,
    Rule,
)
from vg_engine.model_adapters.conversion.source import Checkpoint
from vg_engine.model_adapters.shared.processors import without_video

_SCRIPT = "transformers: models/internvl/convert_internvl_weights_to_hf.py"
_ORIGINAL = "OpenGVLab/InternVL: internvl/model/internvl_chat/modeling_intern_vit.py"
_SIGNS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}

_L = r"vision_model\.encoder\.layers\.(\d+)\."
_N = r"model.vision_tower.encoder.layer.\1."
_E = r"vision_model\.embeddings\."
_V = "model.vision_tower.embeddings."
_M = "model.multi_modal_projector."


def _thirds(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Split queries, keys and values, which the original stacks."""
    return tensor.chunk(3) if tensor.shape[0] % 3 == 0 else [tensor] * 3


VISION_RULES = (
    Rule(_E + "class_embedding", (_V + "cls_token",), _SCRIPT),
    Rule(_E + "position_embedding", (_V + "position_embeddings",), _SCRIPT),
    Rule(_E + r"patch_embedding\.(.+)", (_V + r"patch_embeddings.projection.\1",), _SCRIPT),
    Rule(
        _L + r"attn\.qkv\.(.+)",
        tuple(_N + rf"attention.{part}_proj.\2" for part in "qkv"),
        _SCRIPT,
        _thirds,
    ),
    Rule(_L + r"attn\.proj\.(.+)", (_N + r"attention.projection_layer.\2",), _SCRIPT),
    Rule(_L + r"attn\.([qk]_norm)\.weight", (_N + r"attention.\2.weight",), _ORIGINAL),
    Rule(_L + r"norm1\.(.+)", (_N + r"layernorm_before.\2",), _SCRIPT),
    Rule(_L + r"norm2\.(.+)", (_N + r"layernorm_after.\2",), _SCRIPT),
    Rule(_L + r"ls([12])", (_N + r"lambda_\2",), _SCRIPT),
    Rule(_L + r"mlp\.(.+)", (_N + r"mlp.\2",), _SCRIPT),
)
PROJECTOR_RULES = (
    Rule(r"mlp1\.0\.(.+)", (_M + r"layer_norm.\1",), _SCRIPT),
    Rule(r"mlp1\.1\.(.+)", (_M + r"linear_1.\1",), _SCRIPT),
    Rule(r"mlp1\.3\.(.+)", (_M + r"linear_2.\1",), _SCRIPT),
)


def hugging_rules(known: str) -> tuple[Rule, ...]:
    """Return the rules of a decoder saved by transformers (Qwen2, LLaMA): only prefixes change."""
    return (
        Rule(r".*\.rotary_emb\.inv_freq", (), known),
        Rule(r"language_model\.model\.(.+)", (r"model.language_model.\1",), known),
        Rule(r"language_model\.lm_head\.(.+)", (r"lm_head.\1",), known),
    )


def internlm_rules(heads: int, groups: int) -> tuple[Rule, ...]:
    """Return InternLM2's rules: other names; queries, keys and values interleaved per key head.

    Args:
        heads: number of query heads.
        groups: number of key heads; each has its queries, then one key, then one value.
    """
    layer, new = r"language_model\.model\.layers\.(\d+)\.", r"model.language_model.layers.\1."
    split = functools.partial(_ungrouped, each=heads // groups, groups=groups)
    renamed = {
        r"attention\.wo": "self_attn.o_proj",
        r"feed_forward\.w1": "mlp.gate_proj",
        r"feed_forward\.w2": "mlp.down_proj",
        r"feed_forward\.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    return (
        Rule(r".*\.rotary_emb\.inv_freq", (), _SCRIPT),
        Rule(
            layer + r"attention\.wqkv\.(.+)",
            tuple(new + rf"self_attn.{part}_proj.\2" for part in "qkv"),
            _SCRIPT,
            split,
        ),
        *(
            Rule(layer + old + r"\.(.+)", (new + to + r".\2",), _SCRIPT)
            for old, to in renamed.items()
        ),
        Rule(
            r"language_model\.model\.tok_embeddings\.(.+)",
            (r"model.language_model.embed_tokens.\1",),
            _SCRIPT,
        ),
        Rule(r"language_model\.model\.norm\.(.+)", (r"model.language_model.norm.\1",), _SCRIPT),
        Rule(r"language_model\.output\.(.+)", (r"lm_head.\1",), _SCRIPT),
    )


def _ungrouped(tensor: torch.Tensor, *, each: int, groups: int) -> Sequence[torch.Tensor]:
    rows = tensor.reshape(groups, each + 2, -1, *tensor.shape[1:])
    parts = rows[:, :each], rows[:, each], rows[:, each + 1]
    return [part.reshape(-1, *tensor.shape[1:]) for part in parts]


class InternVLChat(Converter):
    """InternViT, pixel shuffle, two linear layers; InternLM2, Qwen2 or LLaMA."""

    name: ClassVar[str] = "internvl_chat"
    summary: ClassVar[str] = "InternVL 1.5, 2, 2.5 and 3, as their authors published them"

    def claims(self, config: Mapping[str, Any]) -> bool:
        """Their own model type, which no native class has."""
        return config.get("model_type") == "internvl_chat"

    def plan(self, request: Request) -> Plan:
        """A native InternVL."""
        source, config = request.source, request.source.config
        name = source.folder.name
        vision, llm = _parts_of(config, name)
        _check_kind(config, name)
        tokenizer = vocabulary.load_tokenizer(source.folder, named=_SIGNS)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        text, rules = _language(llm, source, vocabulary.rows_needed(tokenizer))
        tower = _vision(vision, name)
        side = int(config.get("force_image_size") or tower.image_size[0])
        ratio = float(config.get("downsample_ratio", 0.5))
        cells = int((side // tower.patch_size[0]) ** 2 * ratio**2)
        native = checked(
            InternVLConfig,
            source=name,
            vision_config=tower,
            text_config=text,
            image_token_id=int(tokenizer.convert_tokens_to_ids(_SIGNS["context_image_token"])),
            image_seq_length=cells,
            downsample_ratio=ratio,
            vision_feature_layer=int(config.get("select_layer", -1)),
            tie_word_embeddings=bool(text.tie_word_embeddings),
        )
        template = str(config.get("template"))
        return Plan(
            config=native,
            model_class=InternVLForConditionalGeneration,
            parts=(Part(source, (*VISION_RULES, *PROJECTOR_RULES, *rules)),),
            processor=_processor(config, tokenizer, side, cells, chat(template)),
            grown=("model.language_model.embed_tokens.weight", "lm_head.weight"),
            statements=(
                f"Conversation {template!r}; its system sentence is part of the template.",
            ),
        )


def _parts_of(config: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    vision, llm = config.get("vision_config"), config.get("llm_config")
    if not isinstance(vision, Mapping) or not isinstance(llm, Mapping):
        raise ModelError(
            f"config.json of {name} lacks vision_config or llm_config; download it again"
        )
    return vision, llm


def _check_kind(config: Mapping[str, Any], name: str) -> None:
    """Refuse settings that the native class does not have."""
    wrong = []
    if config.get("ps_version", "v1") != "v2":
        wrong.append("its picture tokens run column by column (ps_version v1, before InternVL 1.5)")
    if config.get("pad2square"):
        wrong.append("it pads pictures to squares (pad2square)")
    if config.get("dynamic_image_size") and not config.get("use_thumbnail"):
        wrong.append("it cuts tiles without a thumbnail (use_thumbnail false)")
    if config.get("use_backbone_lora") or config.get("use_llm_lora"):
        wrong.append("it holds LoRA layers that were not merged")
    if str(config.get("template")) not in CHATS:
        wrong.append(f"its conversation {config.get('template')!r} is not known here")
    if wrong:
        raise UnsupportedModelError(f"{name} cannot be a native InternVL: {'; '.join(wrong)}")


def _language(
    llm: Mapping[str, Any], source: Checkpoint, wanted: int
) -> tuple[Any, tuple[Rule, ...]]:
    """Make the decoder's native config and its rules."""
    name = source.folder.name
    kind = (llm.get("architectures") or [None])[0]
    table = "tok_embeddings" if kind == "InternLM2ForCausalLM" else "embed_tokens"
    entry = source.entries.get(f"language_model.model.{table}.weight")
    rows = max(wanted, entry.shape[0] if entry is not None and entry.shape else 0)
    # Tied where only one of the two tables is there.
    head = "output" if kind == "InternLM2ForCausalLM" else "lm_head"
    tied = f"language_model.{head}.weight" not in source.entries
    changes: dict[str, Any] = {
        "vocab_size": rows,
        "tie_word_embeddings": tied and bool(llm.get("tie_word_embeddings", False)),
    }
    if kind == "InternLM2ForCausalLM":
        bias = bool(llm.get("bias", False))
        text = text_config(LlamaConfig, llm, source=name, attention_bias=bias, **changes)
        return text, internlm_rules(text.num_attention_heads, text.num_key_value_heads)
    if kind == "Qwen2ForCausalLM":
        return text_config(Qwen2Config, llm, source=name, **changes), hugging_rules(_SCRIPT)
    if kind == "LlamaForCausalLM":
        return text_config(LlamaConfig, llm, source=name, **changes), hugging_rules(ASSUMED)
    raise UnsupportedModelError(
        f"the language model of {name} is a {kind}; InternLM2, Qwen2 and LLaMA decoders are "
        "converted"
    )


def _vision(vision: Mapping[str, Any], name: str) -> Any:
    same = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_channels", "patch_size", "image_size", "hidden_act", "norm_type", "layer_norm_eps",
        "initializer_range",
    )  # fmt: skip
    fields = {key: vision[key] for key in same if key in vision}
    # The original class's own defaults, which a config.json may leave out: those of the 6B tower.
    defaults = {
        "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48,
        "num_attention_heads": 25, "norm_type": "rms_norm", "image_size": 224,
    }  # fmt: skip
    return checked(
        InternVLVisionConfig,
        source=name,
        attention_bias=bool(vision.get("qkv_bias", False)),
        use_qk_norm=bool(vision.get("qk_normalization", True)),
        **(defaults | fields),
    )


# Names in config.json of the conversations that the template knows.
CHATS = ("Hermes-2", "internlm2-chat", "internvl2_5")


def chat(name: str) -> str:
    """The chat template of a conversation, with the picture where the processor expects it."""
    picture = _SIGNS["context_image_token"]
    return chat_template("internvl_chat", conversation=name, picture=picture)


def _processor(
    config: Mapping[str, Any], tokenizer: Any, side: int, cells: int, template: str
) -> Any:
    tiles = bool(config.get("dynamic_image_size"))
    images = GotOcr2ImageProcessorPil(
        size={"height": side, "width": side},
        image_mean=IMAGENET_DEFAULT_MEAN,
        image_std=IMAGENET_DEFAULT_STD,
        crop_to_patches=tiles,
        min_patches=int(config.get("min_dynamic_patch", 1)) if tiles else 1,
        max_patches=int(config.get("max_dynamic_patch", 6)) if tiles else 1,
    )
    return without_video(InternVLProcessor)(
        image_processor=images,
        tokenizer=tokenizer,
        image_seq_length=cells,
        chat_template=template,
    )
