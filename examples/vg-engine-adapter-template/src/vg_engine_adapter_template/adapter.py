"""Where the picture's tokens lie: one grid over the whole picture, squashed to a square."""

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import LlavaProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters import Grid, HuggingFaceAdapter, resize_steps
from vg_engine_adapter_template.model import SquashedLlava


class SquashedLlavaAdapter(HuggingFaceAdapter):
    """Models of type `squashed_llava`."""

    name: ClassVar[str] = "squashed-llava"
    model_types: ClassVar[tuple[str, ...]] = ("squashed_llava",)
    processor_class: ClassVar[Any] = LlavaProcessor
    auto_class: ClassVar[Any] = SquashedLlava
    layout: ClassVar[str] = "one grid, squashed to a square"

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of patches on what the image processor makes of the picture."""
        canvas = resize_steps.squashed(frame, model.processor.image_processor.size)
        canvas, shape = resize_steps.whole_patches(canvas, model.processor.patch_size)
        return [Grid(canvas, *shape)]
