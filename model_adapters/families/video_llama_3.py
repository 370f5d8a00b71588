"""VideoLLaMA 3: one token per patch of the picture, and no start or end around them.

The image processor's `merge_size` is 1 for pictures; where it is more, the tower averages that many
patches each way into one token. Positions are of one axis.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import VideoLlama3Processor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class VideoLlama3Adapter(Qwen2VLAdapter):
    """Models of type `video_llama_3`."""

    name: ClassVar[str] = "video_llama_3"
    model_types: ClassVar[tuple[str, ...]] = ("video_llama_3",)
    processor_class: ClassVar[Any] = VideoLlama3Processor
    layout: ClassVar[str] = "one grid in the picture's own shape; a token per patch"
    bare: ClassVar[str] = "{system} {image}\n{text}"
