"""Cosmos 3: the reasoners, which look at pictures; their generators are left out on loading.

Omni is Qwen3-VL under another type. Edge has a SigLIP 2 tower, 32 pixels per token too, and the
rule of size of GLM-4V (a picture smaller than one token is first enlarged in its own shape).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import Cosmos3EdgeProcessor

from vg_engine.model_adapters.families.glm4v import Glm4vAdapter
from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.model_adapters.families.qwen3_vl import Qwen3VLAdapter


class Cosmos3OmniAdapter(Qwen3VLAdapter):
    """Models of type `cosmos3_omni`."""

    name: ClassVar[str] = "cosmos3_omni"
    model_types: ClassVar[tuple[str, ...]] = ("cosmos3_omni",)


class Cosmos3EdgeAdapter(Glm4vAdapter):
    """Models of type `cosmos3_edge`."""

    name: ClassVar[str] = "cosmos3_edge"
    model_types: ClassVar[tuple[str, ...]] = ("cosmos3_edge",)
    processor_class: ClassVar[Any] = Cosmos3EdgeProcessor
    bare: ClassVar[str] = Qwen2VLAdapter.bare
    # Positions follow from the kinds of tokens, for which the processor must be asked.
    processor_call: ClassVar[Mapping[str, Any]] = {"return_mm_token_type_ids": True}
