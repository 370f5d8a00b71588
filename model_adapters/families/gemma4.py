"""Gemma 4: one grid of pooled patches that keeps the picture's shape, within a budget of tokens.

The picture is shrunk or enlarged until its pooled patches just fit the budget (280 tokens unless
the image processor says otherwise). Late layers reuse the keys of earlier ones, and most layers
see a sliding window.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import Gemma4Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class Gemma4Adapter(HuggingFaceAdapter):
    """Models of type `gemma4`."""

    name: ClassVar[str] = "gemma4"
    model_types: ClassVar[tuple[str, ...]] = ("gemma4",)
    processor_class: ClassVar[Any] = Gemma4Processor
    layout: ClassVar[str] = "one grid, shape kept within a budget of tokens; patches pooled"
    nested: ClassVar[bool] = True

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid; its size is the installed image processor's rule."""
        images = model.processor.image_processor
        rules: Any = sys.modules[type(images).__module__]
        pooled = images.pooling_kernel_size
        height, width = rules.get_aspect_ratio_preserving_size(
            int(frame.height),
            int(frame.width),
            patch_size=images.patch_size,
            max_patches=images.max_soft_tokens * pooled**2,
            pooling_kernel_size=pooled,
        )
        cell = images.patch_size * pooled
        return [Grid(frame.resize(float(width), float(height)), height // cell, width // cell)]
