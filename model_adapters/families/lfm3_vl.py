"""LFM3-VL: laid out as Qwen2-VL, in front of a decoder most of whose layers are convolutions.

Convolutions have no maps: heads are those of the sliding-window and the full-attention layers. The
tower mixes neighbouring patches by convolutions, too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Lfm3VlProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class Lfm3VlAdapter(Qwen2VLAdapter):
    """Models of type `lfm3_vl`."""

    name: ClassVar[str] = "lfm3_vl"
    model_types: ClassVar[tuple[str, ...]] = ("lfm3_vl",)
    processor_class: ClassVar[Any] = Lfm3VlProcessor
