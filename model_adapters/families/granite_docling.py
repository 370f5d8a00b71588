"""Granite-Docling (500M and later): InternVL's tiles, named in the text as Idefics3's are.

Tiles stand row by row behind `<row_r_col_c>`, the thumbnail last behind `<global-img>`; a page
of one tile has no thumbnail. On the fine route (a setting of the image processor) a tile has four
times as many tokens. The first language layers get features of the tower's inner layers as well.
Granite-Docling-258M is of type idefics3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import GraniteDoclingProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid


class GraniteDoclingAdapter(InternVLAdapter):
    """Models of type `granite_docling`; the option `max_tiles` bounds the tiles of a page."""

    name: ClassVar[str] = "granite_docling"
    model_types: ClassVar[tuple[str, ...]] = ("granite_docling",)
    processor_class: ClassVar[Any] = GraniteDoclingProcessor
    always_tiled: ClassVar[bool] = False
    layout: ClassVar[str] = "tiles row by row, squashed; thumbnail last; patches merged 4 x 4"
    nested: ClassVar[bool] = True

    def cells(self, model: LoadedModel) -> tuple[int, int]:
        """The fine route merges squares of half the side."""
        config: Any = model.module.config
        tower = config.vision_config
        fine = model.processor.image_processor.fine_route
        merge = tower.scale_factor // 2 if fine else tower.scale_factor
        side = tower.image_size // tower.patch_size // merge
        return side, side

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The image processor says into how many tiles it cuts a page: wide ones may get more."""
        images = model.processor.image_processor
        rows, cols = images.get_tile_grid(
            int(frame.height), int(frame.width), self.call_options(model)
        )
        return resize_steps.tiled(frame, images.size, (cols, rows), self.cells(model))
