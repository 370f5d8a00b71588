"""Qwen4-Exp: the picture as in Qwen3-VL, few layers with a map, and each query's keys are chosen.

As in Qwen3.5, three of four layers attend linearly and have no map. In the others an indexer
chooses blocks of keys for every query; what it did not choose is zero in a row.
"""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.qwen3_5 import Qwen35Adapter


class Qwen4ExpAdapter(Qwen35Adapter):
    """Models of type `qwen4_exp`."""

    name: ClassVar[str] = "qwen4_exp"
    model_types: ClassVar[tuple[str, ...]] = ("qwen4_exp",)
