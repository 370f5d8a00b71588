"""GLM-5 with vision (5.3 Flash): pictures keep shape and size, and are filled up to whole tokens.

The picture lies in the top left corner; zeros to its right and below fill the last tokens. It is
made smaller only beyond the most tokens, and larger only below the fewest. Most layers attend
linearly and have no maps; the others see groups of tokens that an indexer selects for each row, so
that a map may be exactly zero over whole stretches of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import Glm5NextProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.glm4v import Glm4vAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, Options


class Glm5NextAdapter(Glm4vAdapter):
    """Models of type `glm5_next`."""

    name: ClassVar[str] = "glm5_next"
    model_types: ClassVar[tuple[str, ...]] = ("glm5_next",)
    processor_class: ClassVar[Any] = Glm5NextProcessor
    layout: ClassVar[str] = "one grid at the picture's own size, filled up on the right and below"
    option_names: ClassVar[tuple[str, ...]] = ("padding_side",)

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say how many tokens a picture may become."""
        del module, options
        images = processor.image_processor
        cell, most = self.cell(images), images.max_image_tokens
        return processor, (f"A picture becomes up to {most} tokens of {cell} x {cell} pixels.",)

    def limits(self, images: Any) -> tuple[int, int]:
        """Fewest and most tokens."""
        return images.min_image_tokens, images.max_image_tokens

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid; the picture in its top left corner."""
        images = model.processor.image_processor
        height, width, cell = int(frame.height), int(frame.width), self.cell(images)
        high, wide = self.resized(images, height, width)
        scale = min(high / height, wide / width)
        if height * width >= cell * cell * images.min_image_tokens:
            scale = min(1.0, scale)
        shown = frame.resize(
            float(max(1, min(wide, int(width * scale)))),
            float(max(1, min(high, int(height * scale)))),
        )
        canvas = shown.crop(0.0, 0.0, float(wide), float(high))
        return [Grid(canvas, high // cell, wide // cell)]
