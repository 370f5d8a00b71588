"""ViP-LLaVA: LLaVA-1.5's picture and grid, seen by several layers of its CLIP tower at once.

The features of those layers are concatenated cell by cell, so that the geometry stays LLaVA's,
with both of its ways to make a picture square. The class token is always dropped.
"""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.llava import LlavaAdapter


class VipLlavaAdapter(LlavaAdapter):
    """Models of type `vipllava`: LLaVA with a sentence of its own before the picture."""

    name: ClassVar[str] = "vipllava"
    model_types: ClassVar[tuple[str, ...]] = ("vipllava",)
    system: ClassVar[str] = (
        "A chat between a curious human and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the human's questions."
    )
    bare: ClassVar[str] = "{system}###Human: {image}\n{text}"
