"""Cohere's Command A Vision: tiles as InternVL has them, a line break's token behind each.

The thumbnail comes last; a picture of one tile has nothing else. The break is a token of its own.
The language model is Cohere2, as in Aya Vision: three of four layers see a window of the last
tokens, so early tiles may lie beyond it, and the fourth has no positions.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from transformers import Cohere2VisionProcessor

from vg_engine.model_adapters.families.aya_vision import AyaVisionAdapter


class Cohere2VisionAdapter(AyaVisionAdapter):
    """Models of type `cohere2_vision`; the option `max_tiles` bounds the tiles of a picture."""

    name: ClassVar[str] = "cohere2_vision"
    model_types: ClassVar[tuple[str, ...]] = ("cohere2_vision",)
    processor_class: ClassVar[Any] = Cohere2VisionProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    always_tiled: ClassVar[bool] = False
    own_placeholder: ClassVar[bool] = False
