"""GLM-4.1V: laid out as Qwen2-VL, with limits that count a picture's frames.

A picture is shown to the tower twice, as a film of `temporal_patch_size` frames, and the limits in
pixels are of both together: half as many tokens as Qwen2-VL makes of the same numbers. A picture
smaller than one token is first enlarged in its own shape. Every prompt opens with `[gMASK]<sop>`,
written out here as the chat template does it, so the tokenizer must add nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import Glm4vProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class Glm4vAdapter(Qwen2VLAdapter):
    """Models of type `glm4v`."""

    name: ClassVar[str] = "glm4v"
    model_types: ClassVar[tuple[str, ...]] = ("glm4v",)
    processor_class: ClassVar[Any] = Glm4vProcessor
    bare: ClassVar[str] = "[gMASK]<sop>{system} <|begin_of_image|>{image}<|end_of_image|>\n{text}"
    # The opening tokens stand in the prompt.
    processor_call: ClassVar[Mapping[str, Any]] = {"add_special_tokens": False}

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say how many tokens a picture may become: each costs pixels in every frame."""
        processor, _ = super().adapt_processor(processor, module, options)
        images = processor.image_processor
        cell = self.cell(images)
        most = images.size["longest_edge"] // (images.temporal_patch_size * cell**2)
        return processor, (f"A picture becomes up to {most} tokens of {cell} x {cell} pixels.",)

    def limits(self, images: Any) -> tuple[int, int]:
        """Least and most of a picture, in the unit of the image processor's own rule."""
        return images.size["shortest_edge"], images.size["longest_edge"]

    def resized(self, images: Any, height: int, width: int) -> tuple[int, int]:
        """By the rule for films, with as many frames as a picture is shown."""
        rule = sys.modules[type(images).__module__].smart_resize
        frames = int(images.temporal_patch_size)
        least, most = self.limits(images)
        high, wide = rule(
            num_frames=frames,
            height=height,
            width=width,
            temporal_factor=frames,
            factor=self.cell(images),
            min_pixels=least,
            max_pixels=most,
        )
        return int(high), int(wide)
