"""Video-LLaVA, for pictures: LLaVA's grid and both of its geometries, in a tower of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.llava import LlavaAdapter


class VideoLlavaAdapter(LlavaAdapter):
    """Models of type `video_llava`; its processor counts a picture's tokens as LLaVA's does."""

    name: ClassVar[str] = "video_llava"
    model_types: ClassVar[tuple[str, ...]] = ("video_llava",)

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """Pixels under the name that the model's inner part takes."""
        if hasattr(model.processor.image_processor, "do_pad"):
            return {}
        return {"return_legacy_image_output": False}
