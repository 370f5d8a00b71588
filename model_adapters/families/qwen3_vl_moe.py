"""Qwen3-VL with experts: another decoder, the picture as in Qwen3-VL."""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter


class Qwen3VLMoeAdapter(Qwen3VLAdapter):
    """Models of type `qwen3_vl_moe`."""

    name: ClassVar[str] = "qwen3_vl_moe"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl_moe",)
