"""ERNIE-4.5-VL: laid out as Qwen2-VL; a resampler joins each 2 x 2 patches, and frames in pairs.

A picture is its own pair, so its grid stays whole. Picture and text take experts of their own, by
token types that the processor adds. The chat template numbers pictures and opens with the class
token, written out here too, so the tokenizer must add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import Ernie4_5_VLMoeProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class ErnieVLAdapter(Qwen2VLAdapter):
    """Models of type `ernie4_5_vl_moe`."""

    name: ClassVar[str] = "ernie4_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("ernie4_5_vl_moe",)
    processor_class: ClassVar[Any] = Ernie4_5_VLMoeProcessor
    bare: ClassVar[str] = (
        "<|begin_of_sentence|>{system} Picture 1:<|IMAGE_START|>{image}<|IMAGE_END|>\n{text}"
    )
    # The opening token stands in the prompt.
    processor_call: ClassVar[Mapping[str, Any]] = {"add_special_tokens": False}
