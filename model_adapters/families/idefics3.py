"""Idefics3: tiles row by row, named by words of text, and the whole picture last.

The longest edge is brought to a fixed length, enlarged or not; then the picture is squashed to
whole tiles. Each tile stands behind `<row_r_col_c>`, each row of them ends with a newline, the
whole picture stands behind `<global-img>`: all of these are text. A picture of one tile, and any
picture where splitting is off, is shown once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from transformers import Idefics3Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter


class Idefics3Adapter(HuggingFaceAdapter):
    """Models of type `idefics3`, Granite-Docling-258M among them."""

    name: ClassVar[str] = "idefics3"
    model_types: ClassVar[tuple[str, ...]] = ("idefics3",)
    processor_class: ClassVar[Any] = Idefics3Processor
    layout: ClassVar[str] = "tiles row by row, squashed; the whole picture last; patches merged"
    nested: ClassVar[bool] = True

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per tile, and the whole picture's; the latter alone where there is one tile."""
        images = model.processor.image_processor
        config: Any = model.module.config
        side = float(images.max_image_size["longest_edge"])
        across = _tiles(images, frame) if images.do_image_splitting else (1, 1)
        patch, merge = config.vision_config.patch_size, config.scale_factor
        patches = config.vision_config.image_size // patch
        cells = patches // merge, patches // merge
        grids = resize_steps.tiled(frame, {"width": side, "height": side}, across, cells)
        # Pixels beyond the last whole patch of a tile are not seen.
        return [g._replace(frame=resize_steps.whole_patches(g.frame, patch)[0]) for g in grids]


def _tiles(images: Any, frame: Frame) -> tuple[int, int]:
    """Columns and rows of tiles: the longer side is rounded up first, and enlarges the other."""
    side = images.max_image_size["longest_edge"]
    width, height = int(frame.width), int(frame.height)
    if images.do_resize:
        rule = sys.modules[type(images).__module__].get_resize_output_image_size
        shape = np.broadcast_to(np.uint8(0), (3, height, width))
        height, width = rule(shape, images.size["longest_edge"])
    ratio = width / height
    if width >= height:
        cols = math.ceil(width / side)
        return cols, math.ceil(int(cols * side / ratio) / side)
    rows = math.ceil(height / side)
    return math.ceil(int(rows * side * ratio) / side), rows
