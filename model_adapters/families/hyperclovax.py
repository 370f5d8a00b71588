"""HyperCLOVA X SEED Think (vision, version 2): the tower and the layout of Qwen2.5-VL.

The language model is HyperCLOVA X with positions of one axis. Repositories from before transformers
knew the family call its type `vlm`, a name that says too little: their parts tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import (
    HyperCLOVAXVisionV2ForConditionalGeneration,
    HyperCLOVAXVisionV2Processor,
)

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter, named_by_config
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class HyperCLOVAXAdapter(Qwen2VLAdapter):
    """Models of type `hyperclovax_vision_v2`, also where their config says `vlm`."""

    name: ClassVar[str] = "hyperclovax_vision_v2"
    model_types: ClassVar[tuple[str, ...]] = ("hyperclovax_vision_v2", "vlm")
    processor_class: ClassVar[Any] = HyperCLOVAXVisionV2Processor
    auto_class: ClassVar[Any] = HyperCLOVAXVisionV2ForConditionalGeneration
    bare: ClassVar[str] = "{system} <|image_start|>{image}<|image_end|>\n{text}"

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """A model of type `vlm` only if its parts are those of this family."""
        parts = [config.get(part) or {} for part in ("text_config", "vision_config")]
        kinds = [str(part.get("model_type", "")) for part in parts]
        ours = kinds[0].startswith("hyperclovax") and kinds[1].startswith("qwen2_5_vl")
        return super().claims(config) and (ours or config["model_type"] != "vlm")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take the picture's token from the config: older tokenizers do not name theirs."""
        return super().adapt_processor(named_by_config(processor, module), module, options)
