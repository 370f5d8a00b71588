"""PaliGemma and PaliGemma 2: one squashed grid of patches in front of the text.

The processor itself puts the opening token behind the picture and a newline at the end. Picture
and prompt see each other in both directions (`token_type_ids` say which tokens do), and positions
count from one. The family has no chat template and no system sentence: a system sentence of the
user's stands directly before the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import PaliGemmaProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import positions, resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter, Tensors


class PaliGemmaAdapter(HuggingFaceAdapter):
    """Models of type `paligemma`, with Gemma and with Gemma 2."""

    name: ClassVar[str] = "paligemma"
    model_types: ClassVar[tuple[str, ...]] = ("paligemma",)
    processor_class: ClassVar[Any] = PaliGemmaProcessor
    layout: ClassVar[str] = "one grid, squashed to a square"
    system: ClassVar[str] = ""
    bare: ClassVar[str] = "{image}{system}{text}"

    def model_inputs(self, model: LoadedModel, tensors: Tensors) -> dict[str, torch.Tensor]:
        """Without the labels for training that the processor adds."""
        del model
        return {name: tensor for name, tensor in tensors.items() if name != "labels"}

    def position_ids(self, model: LoadedModel, tensors: Tensors) -> torch.Tensor | None:
        """Counted from one."""
        del model
        return positions.counted(tensors["attention_mask"]) + 1

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of patches."""
        config: Any = model.module.config
        squashed = resize_steps.squashed(frame, model.processor.image_processor.size)
        canvas, shape = resize_steps.whole_patches(squashed, config.vision_config.patch_size)
        return [Grid(canvas, *shape)]
