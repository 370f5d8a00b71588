"""Qianfan-OCR: an InternVL whose chat template writes `<image>` where a picture stands.

That word is the processor's, not the tokenizer's: the processor puts the image tokens, between
`<img>` and `</img>`, in its place before any tokenizer sees it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import QianfanOCRProcessor

from vg_engine.model_adapters.families.internvl import InternVLAdapter


class QianfanOCRAdapter(InternVLAdapter):
    """Models of type `qianfan_ocr`; the option `max_tiles` bounds the tiles of a picture."""

    name: ClassVar[str] = "qianfan_ocr"
    model_types: ClassVar[tuple[str, ...]] = ("qianfan_ocr",)
    processor_class: ClassVar[Any] = QianfanOCRProcessor
    own_placeholder: ClassVar[bool] = True

    def image_token(self, processor: Any) -> str:
        """The chat template's word, which is not the token that it becomes."""
        return str(processor.image_placeholder_token)
