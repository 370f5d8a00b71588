"""SmolVLM and SmolVLM2: an Idefics3 that reads videos as well.

Its own processor differs from Idefics3's in videos alone, and does not start without the package
num2words, which spells their numbers of frames: Idefics3's takes its place.
"""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.idefics3 import Idefics3Adapter


class SmolVLMAdapter(Idefics3Adapter):
    """Models of type `smolvlm`."""

    name: ClassVar[str] = "smolvlm"
    model_types: ClassVar[tuple[str, ...]] = ("smolvlm",)
