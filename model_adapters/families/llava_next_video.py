"""LLaVA-NeXT-Video, for pictures: LLaVA-NeXT's layout, counted as its processor counts."""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.llava_next import LlavaNextAdapter


class LlavaNextVideoAdapter(LlavaNextAdapter):
    """Models of type `llava_next_video`; only frames of videos are laid out otherwise."""

    name: ClassVar[str] = "llava_next_video"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)
    layout: ClassVar[str] = "as llava_next"
