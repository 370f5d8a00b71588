"""Mini-Gemini (MGM) as its authors published it, with Gemma or a language model of Llama's type.

From public code: the names of the three projectors and of `mm_projector`, and the parts of the
towers (`vision_tower.vision_tower`, `vision_tower_aux.vision_stem`, `.vision_stages`) from
dvlab-research/MGM (mgm/model/mgm_arch.py, openclip_encoder.py; its issue 103 lists such keys of a
checkpoint trained with its scripts); the names inside the ConvNeXt from timm/models/convnext.py.
Assumed, never seen in a checkpoint: whether the published ones hold their towers. Both are taken:
towers inside, or the CLIP folder given and OpenCLIP's beside it, as in the original's
`model_zoo/OpenAI`; and what else OpenCLIP's file holds, which is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from transformers import ConvNextConfig, GemmaConfig, LlamaConfig

from vg_engine.core.errors import InputError, UnsupportedModelError, WeightsError
from vg_engine.model_adapters.conversion import clip, vocabulary
from vg_engine.model_adapters.conversion.configs import chat_template, checked, text_config
from vg_engine.model_adapters.conversion.llava_original import TEXT_RULES, chat, processor_of
from vg_engine.model_adapters.conversion.protocol import (
    ASSUMED,
    Converter,
    Part,
    Plan,
    Request,
    Rule,
)
from vg_engine.model_adapters.conversion.source import Checkpoint, Entry
from vg_engine.model_adapters.modules.mini_gemini import (
    MiniGeminiConfig,
    MiniGeminiForConditionalGeneration,
)

_ARCH = "dvlab-research/MGM: mgm/model/mgm_arch.py"
_TIMM = "huggingface/pytorch-image-models: timm/models/convnext.py"
_GEMMA = ("MGMGemmaForCausalLM", "MiniGeminiGemmaForCausalLM")
_LLAMA = ("MGMLlamaForCausalLM", "MiniGeminiLlamaForCausalLM")
_INSIDE = r"model\.vision_tower_aux\.vision_"
_OUTSIDE = r"visual\.trunk\."
_NATIVE = "model.vision_tower_aux.convnext"
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_VICUNA_WORDS = 32_100  # language models with more words are no Vicuna

JOINT_RULES = (
    Rule(r"model\.(vlm_uni_\w+_projector\..+)", (r"model.mining.\1",), _ARCH),
    Rule(r"model\.mm_projector\.([02]\..+)", (r"model.multi_modal_projector.\1",), _ARCH),
)
TIED_HEAD = Rule(r"lm_head\.weight", (), "transformers: models/gemma/modeling_gemma.py")


def convnext_rules(prefix: str) -> tuple[Rule, ...]:
    """From timm's names behind a prefix (a regular expression) to those of transformers."""
    block = prefix + r"stages\.(\d+)\.blocks\.(\d+)\."
    layer = _NATIVE + r".encoder.stages.\1.layers.\2."
    stage = prefix + r"stages\.(\d+)\.downsample\.([01])\.(.+)"
    return (
        Rule(prefix + r"stem\.0\.(.+)", (_NATIVE + r".embeddings.patch_embeddings.\1",), _TIMM),
        Rule(prefix + r"stem\.1\.(.+)", (_NATIVE + r".embeddings.layernorm.\1",), _TIMM),
        Rule(stage, (_NATIVE + r".encoder.stages.\1.downsampling_layer.\2.\3",), _TIMM),
        Rule(block + r"conv_dw\.(.+)", (layer + r"dwconv.\3",), _TIMM),
        Rule(block + r"norm\.(.+)", (layer + r"layernorm.\3",), _TIMM),
        Rule(block + r"mlp\.fc([12])\.(.+)", (layer + r"pwconv\3.\4",), _TIMM),
        Rule(block + r"gamma", (layer + "layer_scale_parameter",), _TIMM),
    )


OPEN_CLIP_RULES = (
    *convnext_rules(_OUTSIDE),
    # Heads and the whole text side.
    Rule(r"visual\.(?:head|trunk\.(?:head|norm_pre))\..+|(?!visual\.).+", (), ASSUMED),
)


class OpenClip(Checkpoint):
    """A folder of OpenCLIP, whose file has a name of its own."""

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every key with shape, type and file."""
        for name in _OPEN_CLIP:
            if (self.folder / name).is_file():
                return dict(self._entries_of(name))
        raise WeightsError(f"{self.folder} holds neither {' nor '.join(_OPEN_CLIP)}")


class MiniGemini(Converter):
    """Two towers, mining, projector, language model; the sizes without HD."""

    name: ClassVar[str] = "mini_gemini"
    summary: ClassVar[str] = "Mini-Gemini (MGM) 2B, 7B, 13B, as their authors published them"
    takes_tower: ClassVar[bool] = True

    def claims(self, config: Mapping[str, Any]) -> bool:
        """The original's architectures, under either of the project's names."""
        return (config.get("architectures") or [None])[0] in (*_GEMMA, *_LLAMA)

    def plan(self, request: Request) -> Plan:
        """Our own Mini-Gemini."""
        source, config = request.source, request.source.config
        name = source.folder.name
        if int(config.get("image_grid") or 1) > 1:
            raise UnsupportedModelError(
                f"{name} is an HD variant (image_grid {config['image_grid']}), which is not "
                "converted here; take the one of 336 and 768 pixels"
            )
        gemma = config["architectures"][0] in _GEMMA
        tower, aux = _towers(request)
        tokenizer, rows = vocabulary.with_picture(source)
        text = text_config(
            GemmaConfig if gemma else LlamaConfig, config, source=name, vocab_size=rows
        )
        native = checked(
            MiniGeminiConfig,
            source=name,
            vision_config=tower.config,
            aux_config=_convnext(aux, name),
            image_size_aux=int(config.get("image_size_aux", 768)),
            text_config=text,
            image_token_index=int(tokenizer.convert_tokens_to_ids("<image>")),
            image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
            vision_feature_layer=int(config.get("mm_vision_select_layer", -2)),
        )
        template, statement = _template(rows, gemma=gemma)
        own = convnext_rules(_INSIDE) if aux.checkpoint is source else ()
        rules = (*tower.inside, *own, *JOINT_RULES)
        head = (TIED_HEAD,) if text.tie_word_embeddings else ()
        return Plan(
            config=native,
            model_class=MiniGeminiForConditionalGeneration,
            parts=(
                Part(source, (*rules, *head, *TEXT_RULES)),
                *tower.outside,
                *(() if own else (aux,)),
            ),
            processor=processor_of(tower, tokenizer, template),
            grown=("model.language_model.embed_tokens.weight", "lm_head.weight"),
            statements=(*tower.statements, statement),
        )


def _towers(request: Request) -> tuple[clip.Tower, Part]:
    """CLIP's tower and OpenCLIP's, each inside the checkpoint or in a folder of its own."""
    source, config = request.source, request.source.config
    named = Path(str(config.get("mm_vision_tower") or "its CLIP model")).name
    named_aux = Path(str(config.get("mm_vision_tower_aux") or "its ConvNeXt")).name
    own = clip.inside(source)
    own_aux = any(re.match(_INSIDE, key) for key in source.entries)
    given = request.vision_tower
    if given is None and not (own and own_aux):
        raise InputError(
            f"the weights of {source.folder.name} do not hold both vision towers; download "
            f"{named} and {named_aux} into one folder, and give the first: --vision-tower "
            f"DIR/{named}"
        )
    if given is not None and own and own_aux:
        raise InputError(
            f"{source.folder.name} holds its own vision towers; leave --vision-tower out"
        )
    if own or given is None:
        tower = clip.from_checkpoint(source, named=named)
    else:
        tower = clip.from_folder(given, named=named)
    if own_aux or given is None:
        return tower, Part(source, convnext_rules(_INSIDE))
    beside = given.folder.resolve().parent / named_aux
    if not beside.is_dir():
        raise InputError(
            f"beside {given.folder} there is no {named_aux}, the second vision tower of "
            f"{source.folder.name}; download it there"
        )
    return tower, Part(OpenClip(beside, {}), OPEN_CLIP_RULES)


def _convnext(aux: Part, name: str) -> Any:
    """The ConvNeXt's config, read from its weights."""
    stem: tuple[int, ...] = ()
    widths: dict[int, int] = {}
    blocks: dict[int, int] = {}
    for key, entry in aux.checkpoint.entries.items():
        if key.endswith("stem.0.weight"):
            stem = entry.shape
        found = re.search(r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.weight$", key)
        if found:
            stage, block = int(found.group(1)), int(found.group(2))
            widths[stage] = entry.shape[0]
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    if len(stem) != 4 or sorted(widths) != [0, 1, 2, 3]:
        raise WeightsError(f"the second vision tower of {name} is no whole ConvNeXt")
    return checked(
        ConvNextConfig,
        source=name,
        hidden_sizes=[widths[stage] for stage in range(4)],
        depths=[blocks[stage] for stage in range(4)],
        patch_size=stem[-1],
    )


def _template(words: int, *, gemma: bool) -> tuple[str | None, str]:
    """The chat template of a language model, and what the user should know of it."""
    if gemma:
        return chat_template(
            "mini_gemini_gemma"
        ), "Conversation of Gemma, without a system sentence."
    if words <= _VICUNA_WORDS:
        return chat("v1", marks=False), "Conversation v1 (USER/ASSISTANT), as Vicuna has it."
    return None, "No chat template is known for its language model; use the bare prompt form."
