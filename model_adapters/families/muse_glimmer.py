"""Muse Glimmer: one grid of merged patches, near the picture's own shape and size.

The picture is squashed to the whole cells next to its own size, shrunk where it has too many; of
the four roundings the one that keeps its shape best is taken. Every fourth layer of the decoder
knows no positions and sees everything, the others see a window.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import MuseGlimmerProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options


class MuseGlimmerAdapter(HuggingFaceAdapter):
    """Models of type `muse_glimmer`."""

    name: ClassVar[str] = "muse_glimmer"
    model_types: ClassVar[tuple[str, ...]] = ("muse_glimmer",)
    processor_class: ClassVar[Any] = MuseGlimmerProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one grid in the picture's own shape; patches merged 2 x 2"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """State the most tokens of a picture."""
        del module, options
        images = processor.image_processor
        cell, most = images.patch_size * images.merge_size, images.max_image_tokens
        return processor, (f"A picture becomes up to {most} tokens of {cell} x {cell} pixels.",)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of merged patches on the resized picture."""
        images = model.processor.image_processor
        high, wide = int(frame.height), int(frame.width)
        cell = int(images.patch_size) * int(images.merge_size)
        if images.do_resize:
            # The rule of the very image processor that is installed.
            rule = sys.modules[type(images).__module__].smart_resize
            high, wide = rule(high, wide, patch_size=cell, max_tokens=images.max_image_tokens)
        return [Grid(frame.resize(float(wide), float(high)), high // cell, wide // cell)]
