"""GLM-4.6V: as GLM-4.1V in every step that a picture takes; only videos differ."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Glm46VProcessor

from vg_engine.model_adapters.families.glm4v import Glm4vAdapter


class Glm46VAdapter(Glm4vAdapter):
    """Models of type `glm46v`."""

    name: ClassVar[str] = "glm46v"
    model_types: ClassVar[tuple[str, ...]] = ("glm46v",)
    processor_class: ClassVar[Any] = Glm46VProcessor
