"""Qwen2.5-Omni: its thinker looks at pictures as Qwen2.5-VL does; sound and speech stay outside.

Real checkpoints hold the thinker, the talker and the vocoder; the thinker alone is loaded. The
processor is made of picture and text parts, so that nothing of the sound is needed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter


class Qwen25OmniAdapter(Qwen2VLAdapter):
    """Models of type `qwen2_5_omni`, and their thinkers saved alone."""

    name: ClassVar[str] = "qwen2_5_omni"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    auto_class: ClassVar[Any] = Qwen2_5OmniThinkerForConditionalGeneration
    bare: ClassVar[str] = "{system} <|vision_bos|>{image}<|vision_eos|>\n{text}"
