"""Gemma 4 without a vision tower: pooled patches go to the decoder through one linear layer.

The picture is laid out as in Gemma 4; a cell depends on its own pixels alone, until the decoder's
layers mix them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from transformers import Gemma4UnifiedProcessor

from vg_engine.model_adapters.families.gemma4 import Gemma4Adapter


class Gemma4UnifiedAdapter(Gemma4Adapter):
    """Models of type `gemma4_unified`."""

    name: ClassVar[str] = "gemma4_unified"
    model_types: ClassVar[tuple[str, ...]] = ("gemma4_unified",)
    processor_class: ClassVar[Any] = Gemma4UnifiedProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"

    def vision_tower(self, module: Any) -> Any:
        """Return the patch embedder, in which patches do not mix."""
        return module.base_model.vision_embedder
