"""InternVL (2.5 and 3, in transformers' own form): tiles row by row, then a thumbnail.

The picture is squashed to the canvas of whole tiles whose shape is nearest to its own; each tile's
patches are merged 2 x 2; a picture of several tiles is shown once more as a whole, last.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import InternVLProcessor, PreTrainedModel

from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Frame
from vg_engine.core.types import LoadedModel
from vg_engine.model_adapters.holding import held
from vg_engine.model_adapters.huggingface import Grid, HuggingFaceAdapter, tiles


class InternVLAdapter(HuggingFaceAdapter):
    """Models of type `internvl`; the option `max_tiles` bounds the tiles of a picture."""

    name: ClassVar[str] = "internvl"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    processor_class: ClassVar[Any] = InternVLProcessor
    layout: ClassVar[str] = "tiles row by row, squashed; thumbnail last; patches merged 2 x 2"
    option_names: ClassVar[tuple[str, ...]] = ("max_tiles", "padding_side")

    def adapt_processor(
        self, processor: Any, module: PreTrainedModel, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[str, ...]]:
        """Say how many tiles a picture may become."""
        del module
        most = options.get("max_tiles", processor.image_processor.max_patches)
        if not isinstance(most, int) or most < 1:
            raise InputError(f"max_tiles {most!r}: give a number from 1 on")
        return processor, (f"A picture becomes up to {most} tiles and a thumbnail.",)

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """Tiles are asked for by name: processor and image processor differ in their defaults."""
        fewest, most = self._limits(model)
        return {"crop_to_patches": True, "min_patches": fewest, "max_patches": most}

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per tile, in the order of the sequence, and the thumbnail's."""
        images, config = model.processor.image_processor, _config(model)
        height, width = float(images.size["height"]), float(images.size["width"])
        merge = round(1 / config.downsample_ratio)
        shape = (
            int(height) // (config.vision_config.patch_size[0] * merge),
            int(width) // (config.vision_config.patch_size[1] * merge),
        )
        fewest, most = self._limits(model)
        # The rule of the very image processor that is installed.
        rule = sys.modules[type(images).__module__].get_optimal_tiled_canvas
        cols, rows = (
            rule((int(frame.height), int(frame.width)), (int(height), int(width)), fewest, most)
            if most > 1
            else (1, 1)
        )
        canvas = frame.resize(cols * width, rows * height)
        grids = tiles(canvas, (width, height), shape)
        if len(grids) > 1:
            grids.append(Grid(frame.resize(width, height), *shape, "thumbnail"))
        return grids

    def _limits(self, model: LoadedModel) -> tuple[int, int]:
        """Fewest and most tiles of a picture."""
        images = model.processor.image_processor
        most = int(held(model).options.get("max_tiles", images.max_patches))
        return min(int(images.min_patches), most), most


def _config(model: LoadedModel) -> Any:
    return model.module.config
