"""Cohere's Compass (North Vision): laid out as Qwen3-VL, with tokens in capitals.

Features of several of the tower's layers are added to the first layers of the decoder, whose
layers may attend within a sliding window or know no positions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import CohereCompassProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class CohereCompassAdapter(Qwen2VLAdapter):
    """Models of type `cohere_compass`."""

    name: ClassVar[str] = "cohere_compass"
    model_types: ClassVar[tuple[str, ...]] = ("cohere_compass",)
    processor_class: ClassVar[Any] = CohereCompassProcessor
    bare: ClassVar[str] = "{system} <|VISION_START|>{image}<|VISION_END|>\n{text}"
