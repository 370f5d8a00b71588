"""Aya Vision: tiles as InternVL has them, each behind the words `TILE_1`, `TILE_2`, ...

The thumbnail comes last, behind `TILE_GLOBAL`; a picture of one tile has nothing else. The
language model is Cohere2: three of four layers see a window of the last tokens, so early tiles
may lie beyond it, and the fourth has no positions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AyaVisionProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.internvl import InternVLAdapter


class AyaVisionAdapter(InternVLAdapter):
    """Models of type `aya_vision`; the option `max_tiles` bounds the tiles of a picture."""

    name: ClassVar[str] = "aya_vision"
    model_types: ClassVar[tuple[str, ...]] = ("aya_vision",)
    processor_class: ClassVar[Any] = AyaVisionProcessor
    own_placeholder: ClassVar[bool] = True

    def cells(self, model: LoadedModel) -> tuple[int, int]:
        """Patches are merged by the projector, whose factor says how many."""
        config: Any = model.module.config
        tower = config.vision_config
        side = tower.image_size // tower.patch_size // config.downsample_factor
        return side, side
