"""GLM-4.5V: GLM-4.1V's processor in front of a decoder of experts."""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.glm4v import Glm4vAdapter


class Glm4vMoeAdapter(Glm4vAdapter):
    """Models of type `glm4v_moe`."""

    name: ClassVar[str] = "glm4v_moe"
    model_types: ClassVar[tuple[str, ...]] = ("glm4v_moe",)
