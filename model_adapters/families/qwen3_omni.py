"""Qwen3-Omni: its thinker looks at pictures as Qwen3-VL does; sound and speech stay outside.

Real checkpoints hold the thinker, the talker and the vocoder; the thinker alone is loaded. The
processor is made of picture and text parts, so that nothing of the sound is needed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen3OmniMoeThinkerForConditionalGeneration

from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter


class Qwen3OmniAdapter(Qwen3VLAdapter):
    """Models of type `qwen3_omni_moe`, and their thinkers saved alone."""

    name: ClassVar[str] = "qwen3_omni"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_omni_moe", "qwen3_omni_moe_thinker")
    auto_class: ClassVar[Any] = Qwen3OmniMoeThinkerForConditionalGeneration
