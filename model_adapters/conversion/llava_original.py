"""LLaVA-format checkpoints: LLaVA v1 and 1.5, ShareGPT4V.

Facts from public code: haotian-liu/LLaVA (llava_arch.py, builder.py, run_llava.py, apply_delta.py,
conversation.py), InternLM/InternLM-XComposer (projects/ShareGPT4V: share4v_arch.py) and
transformers' convert_llava_weights_to_hf.py. A key list was seen for LLaVA-1.5-7B alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vg_engine.core.errors import InputError, UnsupportedModelError
from vg_engine.model_adapters.conversion import clip, vocabulary
from vg_engine.model_adapters.conversion.configs import chat_template, checked, text_config
from vg_engine.model_adapters.conversion.protocol import Converter, Part, Plan, Request, Rule

_SCRIPT = "transformers: models/llava/convert_llava_weights_to_hf.py"
_ORIGINAL = "haotian-liu/LLaVA: llava/model/llava.py"
_ARCHITECTURES = ("LlavaLlamaForCausalLM", "Share4VLlamaForCausalLM")
_OWN_TOWER = "Share4VLlamaForCausalLM"
_PROJECTORS = (None, "linear", "mlp2x_gelu")

TEXT_RULES = (
    Rule(r".*\.rotary_emb\.inv_freq", (), _SCRIPT),
    Rule(r"model\.(embed_tokens|layers|norm)\.(.+)", (r"model.language_model.\1.\2",), _SCRIPT),
    Rule(r"lm_head\.(.+)", (r"lm_head.\1",), _SCRIPT),
)
PROJECTOR_RULES = (
    Rule(r"model\.mm_projector\.0\.(.+)", (r"model.multi_modal_projector.linear_1.\1",), _SCRIPT),
    Rule(r"model\.mm_projector\.2\.(.+)", (r"model.multi_modal_projector.linear_2.\1",), _SCRIPT),
    Rule(
        r"model\.mm_projector\.(weight|bias)",
        (r"model.multi_modal_projector.linear_1.\1",),
        _ORIGINAL,
    ),
)


class LlavaOriginal(Converter):
    """One tower, one projector, one LLaMA; deltas where the first ones were published so."""

    name: ClassVar[str] = "llava"
    summary: ClassVar[str] = "LLaVA v1 and 1.5, ShareGPT4V, as their authors published them"
    takes_tower: ClassVar[bool] = True
    delta_norm: ClassVar[str | None] = "model.norm.weight"

    def claims(self, config: Mapping[str, Any]) -> bool:
        """The original's architectures with the projectors that native LLaVA can express."""
        names = config.get("architectures") or [None]
        return names[0] in _ARCHITECTURES and config.get("mm_projector_type") in _PROJECTORS

    def plan(self, request: Request) -> Plan:
        """A native LLaVA; a single linear projector gets an identity behind it."""
        source, config = request.source, request.source.config
        name = source.folder.name
        _check_kind(config, name)
        tower = _tower(request)
        vision = tower.config
        linear = "model.mm_projector.weight" in source.entries
        # The original cuts the prompt at <image> and tokenises each part as a text of its own.
        tokenizer, rows = vocabulary.with_picture(source, legacy=True)
        text = text_config(
            LlamaConfig, config, source=name, vocab_size=rows, tie_word_embeddings=False
        )
        select = config.get("mm_vision_select_feature", "patch")
        native = checked(
            LlavaConfig,
            source=name,
            vision_config=vision,
            text_config=text,
            image_token_index=int(tokenizer.convert_tokens_to_ids("<image>")),
            image_seq_length=(vision.image_size // vision.patch_size) ** 2,
            projector_hidden_act="linear" if linear else "gelu",
            vision_feature_layer=int(config.get("mm_vision_select_layer", -1)),
            vision_feature_select_strategy="full" if select == "cls_patch" else "default",
        )
        version, why = _version(config, name, linear=linear)
        marks = bool(config.get("mm_use_im_start_end"))
        processor = processor_of(
            tower,
            tokenizer,
            chat(version, marks=marks),
            pads=config.get("image_aspect_ratio") == "pad",
            strategy=native.vision_feature_select_strategy,
        )
        second = "model.multi_modal_projector.linear_2"
        return Plan(
            config=native,
            model_class=LlavaForConditionalGeneration,
            parts=(Part(source, (*tower.inside, *PROJECTOR_RULES, *TEXT_RULES)), *tower.outside),
            processor=processor,
            made={f"{second}.weight": _identity, f"{second}.bias": _zeros} if linear else {},
            grown=("model.language_model.embed_tokens.weight", "lm_head.weight"),
            statements=(*tower.statements, why, *_said(config, request, linear=linear)),
            extra={"mm_use_im_start_end": True} if marks else {},
        )


def _check_kind(config: Mapping[str, Any], name: str) -> None:
    shape = str(config.get("image_aspect_ratio"))
    if "anyres" in shape or "unpad" in str(config.get("mm_patch_merge_type")):
        raise UnsupportedModelError(
            f"{name} cuts pictures into tiles ({shape}): that is LLaVA-NeXT (1.6), which is not "
            "converted here; take its -hf form"
        )


def _tower(request: Request) -> clip.Tower:
    """Return the tower in the checkpoint, else the given one; never a guess."""
    source, name = request.source, request.source.folder.name
    wanted = str(request.source.config.get("mm_vision_tower") or "its CLIP model")
    own = (source.config.get("architectures") or [None])[0] == _OWN_TOWER
    if clip.inside(source):
        if request.vision_tower is not None:
            raise InputError(f"{name} holds its own vision tower; leave --vision-tower out")
        return clip.from_checkpoint(source, named=wanted)
    if request.vision_tower is None:
        whose = "its own, fine-tuned one" if own else "the one it names"
        raise InputError(
            f"the weights of {name} hold no vision tower; download {whose} ({wanted}) and give "
            "its folder: --vision-tower DIR"
        )
    if own and clip.is_plain(request.vision_tower):
        raise InputError(
            f"{name} has its own, fine-tuned vision tower ({wanted}), and "
            f"{request.vision_tower.folder} is a whole CLIP model; give the tower's folder"
        )
    return clip.from_folder(request.vision_tower, named=wanted)


def _version(config: Mapping[str, Any], name: str, *, linear: bool) -> tuple[str, str]:
    """Find the conversation's version, by the projector or, in old checkpoints, by their name."""
    names = f"{name} {config.get('_name_or_path', '')}".lower()
    if linear and re.search(r"v0(?!\d)", names):
        return "v0", "Conversation v0 (Human/Assistant, ###), after the checkpoint's name."
    known = not linear or "v1" in names
    return "v1", "Conversation v1 (USER/ASSISTANT)" + ("." if known else ", assumed: no name says.")


def _said(config: Mapping[str, Any], request: Request, *, linear: bool) -> list[str]:
    statements = []
    if request.was_delta:
        statements.append("The base was added to the delta weights.")
    if linear:
        statements.append("Its one linear projector has an exact identity behind it.")
    if config.get("mm_use_im_start_end"):
        statements.append(
            "It was trained with <im_start> and <im_end> around the picture: the chat template "
            "writes them, the bare prompt form does not."
        )
    if config.get("image_aspect_ratio") != "pad":
        statements.append("Its config asks for no padding: pictures are cut to their centre.")
    return statements


def chat(version: str, *, marks: bool) -> str:
    """The chat template of a conversation version, with or without marks around the picture."""
    user, assistant, between, end = (
        ("Human", "Assistant", "###", "###")
        if version == "v0"
        else ("USER", "ASSISTANT", " ", "</s>")
    )
    picture = "<im_start><image><im_end>" if marks else "<image>"
    return chat_template(
        "llava", user=user, assistant=assistant, between=between, end=end, picture=picture
    )


def processor_of(
    tower: clip.Tower,
    tokenizer: Any,
    template: str | None,
    *,
    pads: bool = True,
    strategy: str = "default",
) -> Any:
    """Make LLaVA's processor; it pads pictures to a square, or cuts them to their centre."""
    maker: Any = LlavaImageProcessorPil if pads else CLIPImageProcessorPil
    sizes = clip.picture_settings(tower)
    made: Any = LlavaProcessor
    return made(
        image_processor=maker(**sizes, do_pad=True) if pads else maker(**sizes),
        tokenizer=tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
        image_token="<image>",  # noqa: S106 - a token of text
        chat_template=template,
    )


def _identity(like: torch.Tensor) -> torch.Tensor:
    return torch.eye(*like.shape, dtype=like.dtype)


def _zeros(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=like.dtype)
