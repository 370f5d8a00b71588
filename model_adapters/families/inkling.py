"""Inkling: patches of 40 pixels as they are, row by row, each a token by itself; no tower.

The picture keeps its size (unless the image processor enlarges it) and is filled up on the right
and below. There is always one column more than whole patches fit: where the width is a multiple
of the patch, the last column shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import InklingProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class InklingAdapter(HuggingFaceAdapter):
    """Models of type `inkling_mm_model`."""

    name: ClassVar[str] = "inkling"
    model_types: ClassVar[tuple[str, ...]] = ("inkling_mm_model",)
    processor_class: ClassVar[Any] = InklingProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one grid, shape and size kept, filled up; a column more than fits"
    bare: ClassVar[str] = "{system} <|content_image|>{image}\n{text}"

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """All attend; those with a window have no maps if they have another number of heads."""
        text = module.config.get_text_config()
        if text.swa_num_attention_heads == text.num_attention_heads:
            return None
        return [index for index, kind in enumerate(text.layer_types) if kind == "hybrid"]

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of patches."""
        images = model.processor.image_processor
        patch = int(images.size["height"])
        if images.rescale_image_frac is not None:
            longest = max(frame.width, frame.height)
            target = longest * images.rescale_image_frac
            most = images.rescale_image_max_upscaled_long_edge
            by = (target if most is None else min(target, max(most, longest))) / longest
            # Half up, as the image processor rounds.
            size = (float(math.floor(side * by + 0.5)) for side in (frame.width, frame.height))
            frame = frame.resize(*size)
        rows, cols = -(-int(frame.height) // patch), int(frame.width) // patch + 1
        return [Grid(frame.crop(0.0, 0.0, float(cols * patch), float(rows * patch)), rows, cols)]
