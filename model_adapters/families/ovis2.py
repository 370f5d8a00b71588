"""Ovis2: the thumbnail first, then tiles row by row, with indicator tokens in between.

`<IMG_START>` thumbnail `<IMG_GRID>` tile `<IMG_COL>` tile `<IMG_ROW>` tile ... `<IMG_END>`: the
indicators have ids of their own. By default a picture gets the fewest tiles that show nine tenths
of it undistorted; transformers 5.23 takes that rule's rows for columns, so that a wide picture
may become a column of squashed tiles. The placeholder `<image>` is the processor's, not the
tokenizer's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import Ovis2Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid


class Ovis2Adapter(InternVLAdapter):
    """Models of type `ovis2`; the option `max_tiles` bounds the tiles of a picture."""

    name: ClassVar[str] = "ovis2"
    model_types: ClassVar[tuple[str, ...]] = ("ovis2",)
    processor_class: ClassVar[Any] = Ovis2Processor
    always_tiled: ClassVar[bool] = False
    layout: ClassVar[str] = "thumbnail first; tiles row by row, squashed; patches merged 2 x 2"
    own_placeholder: ClassVar[bool] = True

    def cells(self, model: LoadedModel) -> tuple[int, int]:
        """Patches are merged in squares of `hidden_stride`."""
        config: Any = model.module.config
        tower = config.vision_config
        side = tower.image_size // tower.patch_size // tower.hidden_stride
        return side, side

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The thumbnail's grid and one per tile; the only one where there are no tiles."""
        images = model.processor.image_processor
        fewest, most = self.limits(model)
        if most > 1 and images.use_covering_area_grid:
            rule = sys.modules[type(images).__module__].get_min_tile_covering_grid
            shape = (int(frame.height), int(frame.width))
            across = rule(shape, target_patch_size=int(images.size["height"]), max_image_tiles=most)
        else:
            across = resize_steps.best_tiles(frame, images, fewest, most)
        return resize_steps.tiled(
            frame, images.size, across, self.cells(model), thumbnail_first=True
        )
