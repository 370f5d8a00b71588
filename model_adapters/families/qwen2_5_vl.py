"""Qwen2.5-VL: laid out as Qwen2-VL; its tower attends in windows.

The tower reorders the patches into windows and the tokens back, so that the windows' order is
never seen outside of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen2_5_VLProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class Qwen25VLAdapter(Qwen2VLAdapter):
    """Models of type `qwen2_5_vl`."""

    name: ClassVar[str] = "qwen2_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    processor_class: ClassVar[Any] = Qwen2_5_VLProcessor
    # As these models print a box (published: arXiv 2608.27417).
    answer: ClassVar[str] = '[{"bbox_2d": ['
