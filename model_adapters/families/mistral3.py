"""Mistral Small 3.1 and later, Ministral 3: Pixtral's layout, with patches merged 2 x 2."""

from __future__ import annotations

from typing import ClassVar

from vg_engine.model_adapters.families.pixtral import PixtralAdapter


class Mistral3Adapter(PixtralAdapter):
    """Models of type `mistral3`."""

    name: ClassVar[str] = "mistral3"
    model_types: ClassVar[tuple[str, ...]] = ("mistral3",)
    layout: ClassVar[str] = "as pixtral; patches merged 2 x 2"
    # transformers drops the first axis of what it takes for a batch of one.
    fewest: ClassVar[int] = 2
