"""LLaVA-OneVision: LLaVA-NeXT's layout, with up to 36 tiles of 27 x 27 cells.

A tile's last pixels (6 of 384) are seen by no cell. Where the tiles hold more cells than so many
tiles as `anyres_max_9` names, the grid over them is shrunk bilinearly.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from transformers import LlavaOnevisionProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.llava_next import LlavaNextAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options

# Below this ratio of the sides nothing is shrunk: in the model as in its processor.
_SHRINKS = 1.1


class LlavaOnevisionAdapter(LlavaNextAdapter):
    """Models of type `llava_onevision`: a SigLIP tower and Qwen2."""

    name: ClassVar[str] = "llava_onevision"
    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    processor_class: ClassVar[Any] = LlavaOnevisionProcessor
    layout: ClassVar[str] = "as llava_next; many tiles shrunk to the cells of nine"
    blends: ClassVar[bool] = True

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take the cells of a tile and the most of them from the config, too."""
        processor.num_image_tokens = self.side(module.config) ** 2
        processor.vision_aspect_ratio = module.config.vision_aspect_ratio
        return super().adapt_processor(processor, module, options)

    def shrunk(self, model: LoadedModel, shape: tuple[int, int]) -> tuple[int, int]:
        """Fewer where there are too many, rounded down."""
        module: Any = model.module
        tiles = int(module.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(shape[0] * shape[1] / (tiles * self.side(module.config) ** 2))
        return (int(shape[0] // ratio), int(shape[1] // ratio)) if ratio > _SHRINKS else shape
