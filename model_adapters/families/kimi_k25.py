"""Kimi K2.5: one grid in the picture's own shape, padded to whole cells, never enlarged.

The picture is shrunk where it has too many patches, its sides rounded down to pixels, and laid in
the upper left corner of a canvas of whole cells; `merge_size` x `merge_size` patches become one
token. The decoder is DeepSeek's, with latent attention.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import Kimi_K25Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class KimiK25Adapter(HuggingFaceAdapter):
    """Models of type `kimi_k25`."""

    name: ClassVar[str] = "kimi_k25"
    model_types: ClassVar[tuple[str, ...]] = ("kimi_k25",)
    processor_class: ClassVar[Any] = Kimi_K25Processor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one grid in the picture's own shape, padded; patches merged 2 x 2"
    bare: ClassVar[str] = (
        "{system} <|media_begin|>image<|media_content|>{image}<|media_end|>\n{text}"
    )

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of merged patches on the padded picture."""
        images = model.processor.image_processor
        high, wide = height, width = int(frame.height), int(frame.width)
        if images.do_resize:
            # The rule of the very image processor that is installed.
            rule = sys.modules[type(images).__module__].navit_resize
            (high, wide), (height, width) = rule(
                height=height,
                width=width,
                patch_size=images.patch_size,
                merge_kernel_size=images.merge_size,
                max_patches=images.max_patches,
                max_size_per_side=images.size["max_height"],
            )
        canvas = frame.resize(float(wide), float(high)).crop(0.0, 0.0, float(width), float(height))
        cell = images.patch_size * images.merge_size
        return [Grid(canvas, height // cell, width // cell)]
