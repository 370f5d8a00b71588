"""Qwen3-VL: laid out as Qwen2-VL, with patches of 16 pixels and so 32 pixels per token.

Features of inner layers of the tower are added to the picture's tokens in the first decoder layers
(deepstack): they stand at the same cells. The chat template has no system sentence of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen3VLProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class Qwen3VLAdapter(Qwen2VLAdapter):
    """Models of type `qwen3_vl`."""

    name: ClassVar[str] = "qwen3_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl",)
    processor_class: ClassVar[Any] = Qwen3VLProcessor
    # As these models print a box (published: arXiv 2608.27417).
    answer: ClassVar[str] = '[{"bbox_2d": ['
