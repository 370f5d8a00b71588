"""GLM-OCR: GLM-4.6V's processor in front of a small tower and decoder of its own."""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.glm46v import Glm46VAdapter


class GlmOcrAdapter(Glm46VAdapter):
    """Models of type `glm_ocr`."""

    name: ClassVar[str] = "glm_ocr"
    model_types: ClassVar[tuple[str, ...]] = ("glm_ocr",)
