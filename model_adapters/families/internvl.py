"""InternVL (2.5 and 3, in transformers' own form): tiles row by row, then a thumbnail.

The picture is squashed to the canvas of whole tiles whose shape is nearest to its own; each tile's
patches are merged 2 x 2; a picture of several tiles is shown once more as a whole, last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import InternVLProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.loaded import parts_of
from vg_engine.model_adapters.shared.processors import tiles_asked


class InternVLAdapter(HuggingFaceAdapter):
    """Models of type `internvl`; the option `max_tiles` bounds the tiles of a picture.

    Families that cut their pictures alike inherit, and say how many cells a tile has.

    Class attributes:
        always_tiled: whether the processor asks for tiles whatever its image processor says.
        own_placeholder: whether the placeholder is the processor's word, not the tokenizer's.
    """

    name: ClassVar[str] = "internvl"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    processor_class: ClassVar[Any] = InternVLProcessor
    layout: ClassVar[str] = "tiles row by row, squashed; thumbnail last; patches merged 2 x 2"
    option_names: ClassVar[tuple[str, ...]] = ("max_tiles", "padding_side")
    always_tiled: ClassVar[bool] = True
    own_placeholder: ClassVar[bool] = False

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say how many tiles a picture may become."""
        del module
        if self.own_placeholder:
            resize_steps.known(processor.tokenizer, self.image_token(processor))
        most = tiles_asked(options, self.most_tiles(processor.image_processor))
        if most == 1:
            return processor, ("A picture becomes up to 1 tile (option max_tiles).",)
        return processor, (f"A picture becomes up to {most} tiles and a thumbnail.",)

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """Tiles are asked for by name: processor and image processor differ in their defaults."""
        fewest, most = self.limits(model)
        return {"crop_to_patches": True, "min_patches": fewest, "max_patches": most}

    def most_tiles(self, images: Any) -> int:
        """Return the default of the largest number of tiles of a picture."""
        return int(images.max_patches) if self.always_tiled or images.crop_to_patches else 1

    def cells(self, model: LoadedModel) -> tuple[int, int]:
        """Rows and columns of cells of one tile, by the model's config."""
        config: Any = model.module.config
        merge = round(1 / config.downsample_ratio)
        tower = config.vision_config
        height, width = (
            side // (patch * merge)
            for side, patch in zip(tower.image_size, tower.patch_size, strict=True)
        )
        return height, width

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per tile, in the order of the sequence, and the thumbnail's."""
        images = model.processor.image_processor
        across = resize_steps.best_tiles(frame, images, *self.limits(model))
        return resize_steps.tiled(frame, images.size, across, self.cells(model))

    def limits(self, model: LoadedModel) -> tuple[int, int]:
        """Fewest and most tiles of a picture."""
        images = model.processor.image_processor
        most = int(parts_of(model).options.get("max_tiles", self.most_tiles(images)))
        return min(int(images.min_patches), most), most
