"""EXAONE 4.5: laid out as Qwen2-VL, in front of an EXAONE 4 decoder with positions of one axis.

Three of four layers attend within a sliding window, so that a late word may not see the first rows
of a large picture there; the others know no positions. Tokens of the picture are named otherwise.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Exaone4_5_Processor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class Exaone45Adapter(Qwen2VLAdapter):
    """Models of type `exaone4_5`."""

    name: ClassVar[str] = "exaone4_5"
    model_types: ClassVar[tuple[str, ...]] = ("exaone4_5",)
    processor_class: ClassVar[Any] = Exaone4_5_Processor
    bare: ClassVar[str] = "{system} <vision>{image}</vision>\n{text}"
