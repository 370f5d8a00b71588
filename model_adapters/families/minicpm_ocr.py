"""MiniCPM-OCR: laid out as MiniCPM-V, an overview first, then slices; patches merged 2 x 2.

Checkpoints may let the image processor choose by the size of letters how large a small picture or a
slice becomes. Where that is so, slices of one picture would have several shapes: here all are
enlarged, as the image processor does by default.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from transformers import MiniCPMOcrProcessor

from vg_engine.model_adapters.families.minicpmv import MiniCPMVAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class _Pictures(MiniCPMOcrProcessor):
    """A processor without its video part, whose settings transformers' own takes for granted."""

    video_processor: Any = SimpleNamespace(slice_mode=False, downsample_mode="4x")


class MiniCPMOcrAdapter(MiniCPMVAdapter):
    """Models of type `minicpm_ocr`; the option `max_tiles` bounds the slices, 1 leaves none."""

    name: ClassVar[str] = "minicpm_ocr"
    model_types: ClassVar[tuple[str, ...]] = ("minicpm_ocr",)
    processor_class: ClassVar[Any] = _Pictures
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "overview first, then slices row by row; patches merged 2 x 2"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Enlarge what is small in any case."""
        processor, statements = super().adapt_processor(processor, module, options)
        images = processor.image_processor
        if images.small_image_upsize != "always":
            images.small_image_upsize = "always"
            statements += ("Small pictures and slices are enlarged, whatever the files say.",)
        return processor, statements
