"""DeepSeek-VL: the longer side to 384 pixels, padded to a square, one grid of 24 x 24.

The picture lies in the middle; an odd pixel of border goes to the right or below. A side never
becomes shorter than `min_size`, so that long strips are widened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import DeepseekVLProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class DeepseekVLAdapter(HuggingFaceAdapter):
    """Models of type `deepseek_vl`."""

    name: ClassVar[str] = "deepseek_vl"
    model_types: ClassVar[tuple[str, ...]] = ("deepseek_vl",)
    processor_class: ClassVar[Any] = DeepseekVLProcessor
    layout: ClassVar[str] = "one grid, padded to a square"

    def square(self, images: Any, frame: Frame) -> Frame:
        """Return the canvas that the image processor passes to the tower."""
        return resize_steps.fitted(frame, int(images.size["height"]), int(images.min_size))

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of the tower's patches."""
        config: Any = model.module.config
        side = config.vision_config.image_size // config.vision_config.patch_size
        return [Grid(self.square(model.processor.image_processor, frame), side, side)]
