"""Step 3.7: windows of a canvas row by row, then the whole picture, squashed to one square.

Small pictures that are not long have no windows. Windows are squares, or as narrow as a narrow
picture, and each is squashed to one size. Two strided convolutions, padded on all sides, turn the
patches into tokens: as in GOT-OCR2, tokens lie 3/8 of a cell to the left of, and above, an even
division. Words that mark windows and lines are other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import Step3p7Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter, tiles

# In cells: two convolutions of stride 2 centre a token on the first of its four patches.
_EARLY = 1.5 / 4


class Step3p7Adapter(HuggingFaceAdapter):
    """Models of type `step3p7`."""

    name: ClassVar[str] = "step3p7"
    model_types: ClassVar[tuple[str, ...]] = ("step3p7",)
    processor_class: ClassVar[Any] = Step3p7Processor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "windows row by row, squashed; the whole last; 3/8 cell up and left"
    blends: ClassVar[bool] = True

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """Those with as many heads as the first that sees everything: others may have more."""
        text = module.config.get_text_config()
        heads = [
            text.per_layer_config[i].num_attention_heads for i in range(text.num_hidden_layers)
        ]
        first = text.layer_types.index("full_attention")
        alike = [i for i, count in enumerate(heads) if count == heads[first]]
        return None if len(alike) == len(heads) else alike

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per window, and the whole picture's."""
        images = model.processor.image_processor
        side, patch = int(images.size["height"]), int(images.patch_size)
        plan = images._plan_patches  # noqa: SLF001 - the rule's name in transformers
        _, canvas, window, _, _, squared = plan(int(frame.width), int(frame.height), side, patch)
        if squared:
            longest = max(frame.width, frame.height)
            frame = frame.crop(0.0, 0.0, longest, longest)
        cell = images.vision_patch_size * images.downsampler_stride
        grids = []
        if window:
            size = float(min(window, canvas[0])), float(min(window, canvas[1]))
            shown = frame.resize(float(canvas[0]), float(canvas[1]))
            grids = tiles(shown, size, (patch // cell, patch // cell))
        grids.append(
            Grid(resize_steps.squashed(frame, images.size), side // cell, side // cell, "whole")
        )
        return [resize_steps.early(grid, _EARLY) for grid in grids]
