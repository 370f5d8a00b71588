"""Yi-VL as 01-ai published it: a LLaVA with norms in its projector and a tower in a folder inside.

From public code (01-ai/Yi, folder VL/llava): the projector as one `nn.Sequential` of linear, norm,
GELU, linear, norm, hence the keys 0, 1, 3, 4 (sgl-project/sglang reads the same four from the
published checkpoints); the tower that is always loaded from the folder named by `mm_vision_tower`
(`./vit/clip-vit-H-14-...-448`), whatever the checkpoint itself holds; the conversation template.
Assumed, never seen in a checkpoint: nothing but that no further keys exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers import LlamaConfig

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion import clip, vocabulary
from vg_engine.model_adapters.conversion.configs import chat_template, checked, text_config
from vg_engine.model_adapters.conversion.llava_original import TEXT_RULES, processor_of
from vg_engine.model_adapters.conversion.protocol import Converter, Part, Plan, Request, Rule
from vg_engine.model_adapters.conversion.source import open_checkpoint
from vg_engine.model_adapters.modules.yi_vl import YiVLConfig, YiVLForConditionalGeneration

_PROJECTOR = "01-ai/Yi: VL/llava/model/multimodal_projector/builder.py"
_LOADER = "01-ai/Yi: VL/llava/mm_utils.py, load_pretrained_model"
_NATIVE = "model.multi_modal_projector"
_TEXT = ("model.language_model.embed_tokens.weight", "lm_head.weight")

PROJECTOR_RULES = tuple(
    Rule(rf"model\.mm_projector\.{at}\.(.+)", (rf"{_NATIVE}.{name}.\1",), _PROJECTOR)
    for at, name in ((0, "linear_1"), (1, "norm_1"), (3, "linear_2"), (4, "norm_2"))
)
OLD_TOWER = Rule(r"model\.vision_tower\..+", (), _LOADER)

CHAT = chat_template("yi_vl")


class YiVL(Converter):
    """Tower of its own, projector with norms, language model of Llama's type."""

    name: ClassVar[str] = "yi_vl"
    summary: ClassVar[str] = "Yi-VL 6B and 34B, as 01-ai published them"
    takes_tower: ClassVar[bool] = True

    def claims(self, config: Mapping[str, Any]) -> bool:
        """LLaVA's architecture with the projector that only Yi-VL has."""
        names = config.get("architectures") or [None]
        return (
            names[0] == "LlavaLlamaForCausalLM"
            and config.get("mm_projector_type") == "mlp2x_gelu_Norm"
        )

    def plan(self, request: Request) -> Plan:
        """Our own Yi-VL."""
        source, config = request.source, request.source.config
        tower = _tower(request)
        tokenizer, rows = vocabulary.with_picture(source)
        native = checked(
            YiVLConfig,
            source=source.folder.name,
            vision_config=tower.config,
            text_config=text_config(
                LlamaConfig, config, source=source.folder.name, vocab_size=rows
            ),
            image_token_index=int(tokenizer.convert_tokens_to_ids("<image>")),
            image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
            vision_feature_layer=int(config.get("mm_vision_select_layer", -2)),
        )
        return Plan(
            config=native,
            model_class=YiVLForConditionalGeneration,
            parts=(Part(source, (*PROJECTOR_RULES, OLD_TOWER, *TEXT_RULES)), *tower.outside),
            processor=processor_of(
                tower, tokenizer, CHAT, pads=config.get("image_aspect_ratio") == "pad"
            ),
            grown=_TEXT,
            statements=tower.statements,
        )


def _tower(request: Request) -> clip.Tower:
    """The folder that was given, else the one inside the checkpoint's."""
    named = str(request.source.config.get("mm_vision_tower") or "")
    if request.vision_tower is not None:
        return clip.from_folder(request.vision_tower, named=named)
    inside = request.source.folder / "vit" / Path(named).name
    if not Path(named).name or not inside.is_dir():
        raise InputError(
            f"{request.source.folder} lacks its vision tower ({named}, a folder of the download); "
            "download it, or give its folder: --vision-tower DIR"
        )
    return clip.from_folder(open_checkpoint(inside, what="vision tower"), named=named)
