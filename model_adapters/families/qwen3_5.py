"""Qwen3.5, with and without experts: the picture as in Qwen3-VL, most layers without a map.

Three of four layers attend linearly: they keep a running state instead of a row per token, so
that heads are those of the full-attention layers alone. The chat template opens the model's
thinking: the row `prompt_last` stands behind it.
"""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter


class Qwen35Adapter(Qwen3VLAdapter):
    """Models of type `qwen3_5`."""

    name: ClassVar[str] = "qwen3_5"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5",)


class Qwen35MoeAdapter(Qwen35Adapter):
    """Models of type `qwen3_5_moe`."""

    name: ClassVar[str] = "qwen3_5_moe"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5_moe",)
