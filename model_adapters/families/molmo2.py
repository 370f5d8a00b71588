"""Molmo 2: the whole picture, squashed, first; then one finer grid over all its crops.

The finer canvas is squashed to whole windows of crops that overlap; of each crop only the patches
count that no other crop shows better, so that its crops make one grid. On both, 2 x 2 patches are
pooled into one token; where their number is odd, a border of nothing fills the last cells up. Rows
end with a token of another kind. The picture's tokens see each other in both directions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import Molmo2Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class Molmo2Adapter(HuggingFaceAdapter):
    """Models of type `molmo2`."""

    name: ClassVar[str] = "molmo2"
    model_types: ClassVar[tuple[str, ...]] = ("molmo2",)
    processor_class: ClassVar[Any] = Molmo2Processor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "the whole picture first, then one finer grid; patches pooled 2 x 2"

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The whole picture's grid and the finer one."""
        images = model.processor.image_processor
        side = int(images.size["height"])
        # The rule of the very image processor that is installed.
        rule = sys.modules[type(images).__module__].compute_crop_geometry
        _, _, height, width = rule(
            int(frame.height),
            int(frame.width),
            max_crops=images.max_crops,
            overlap_margins=images.overlap_margins,
            crop_size=side,
            patch_size=images.patch_size,
        )
        return [
            _pooled(frame.resize(float(side), float(side)), images, "whole"),
            _pooled(frame.resize(float(width), float(height)), images, "fine"),
        ]


def _pooled(canvas: Frame, images: Any, name: str) -> Grid:
    """Cells of several patches, with a border on either side that fills the last ones up."""
    patch = images.patch_size
    down, across = images.pooling_size
    high, wide = round(canvas.height) // patch, round(canvas.width) // patch
    rows, cols = -(-high // down), -(-wide // across)
    top, left = (rows * down - high) // 2, (cols * across - wide) // 2
    size = float(cols * across * patch), float(rows * down * patch)
    return Grid(canvas.crop(float(-left * patch), float(-top * patch), *size), rows, cols, name)
