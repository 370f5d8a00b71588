"""PaddleOCR-VL: laid out as Qwen2-VL, in front of an ERNIE-4.5 decoder.

Patches go to the tower row by row, and the projector merges 2 x 2 of them. A picture smaller than
one token is first enlarged in its own shape.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PaddleOCRVLProcessor

from vg_engine.model_adapters.families.ernie4_5_vl import ErnieVLAdapter


class PaddleOCRVLAdapter(ErnieVLAdapter):
    """Models of type `paddleocr_vl`."""

    name: ClassVar[str] = "paddleocr_vl"
    model_types: ClassVar[tuple[str, ...]] = ("paddleocr_vl",)
    processor_class: ClassVar[Any] = PaddleOCRVLProcessor
    bare: ClassVar[str] = (
        "<|begin_of_sentence|>{system} <|IMAGE_START|>{image}<|IMAGE_END|>\n{text}"
    )
