"""Janus and Janus-Pro, where they look at pictures: laid out as DeepSeek-VL's.

The tower that draws pictures (VQ) has no part in it. The processor puts `<begin_of_image>` and
`<end_of_image>` around the placeholder, and writes its system sentence before every prompt where
its settings say so, as those of the published models do: the bare prompt has none of ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import JanusProcessor

from vg_engine.model_adapters.families.deepseek_vl import DeepseekVLAdapter


class JanusAdapter(DeepseekVLAdapter):
    """Models of type `janus`."""

    name: ClassVar[str] = "janus"
    model_types: ClassVar[tuple[str, ...]] = ("janus",)
    processor_class: ClassVar[Any] = JanusProcessor
    system: ClassVar[str] = ""
