"""DeepSeek-VL-7B: a SAM tower sees 1024 pixels, SigLIP 384, both end in one grid of 24 x 24.

The larger picture is made first, padded to a square; the smaller one is that square reduced, so
that it is the larger one's rounding that counts. SAM's half of a token, which two convolutions
gather, lies 3/8 of a cell above and to the left of SigLIP's half; the grid is SigLIP's.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch.nn import ModuleList
from transformers import DeepseekVLHybridProcessor

from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.deepseek_vl import DeepseekVLAdapter
from vg_engine.model_adapters.shared import resize_steps


class DeepseekVLHybridAdapter(DeepseekVLAdapter):
    """Models of type `deepseek_vl_hybrid`."""

    name: ClassVar[str] = "deepseek_vl_hybrid"
    model_types: ClassVar[tuple[str, ...]] = ("deepseek_vl_hybrid",)
    processor_class: ClassVar[Any] = DeepseekVLHybridProcessor
    layout: ClassVar[str] = "one grid, padded to a square; seen at two sizes"

    def vision_tower(self, module: Any) -> Any:
        """Both of them."""
        base = module.base_model
        return ModuleList([base.vision_model, base.high_res_vision_model])

    def square(self, images: Any, frame: Frame) -> Frame:
        """The larger square, reduced."""
        large = resize_steps.fitted(
            frame, int(images.high_res_size["height"]), int(images.min_size)
        )
        return resize_steps.squashed(large, images.size)
