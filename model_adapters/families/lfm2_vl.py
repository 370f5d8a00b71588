"""LFM2-VL: small pictures as one grid in their own shape; large ones as tiles and a thumbnail.

A picture with more than about twice the tokens of one grid is squashed to a canvas of square tiles
and shown once more as a whole, in its own shape, last. Words that name rows and columns stand
between the tiles. Patches are merged 2 x 2. Most layers of the decoder are convolutions and have
no maps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import Lfm2VlProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import PictureError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import tiles
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.processors import tiles_asked

_RULE = ("downsample_factor", "max_image_tokens", "encoder_patch_size")


class Lfm2VlAdapter(HuggingFaceAdapter):
    """Models of type `lfm2_vl`; the option `max_tiles` bounds the tiles, 1 leaves none."""

    name: ClassVar[str] = "lfm2_vl"
    model_types: ClassVar[tuple[str, ...]] = ("lfm2_vl",)
    processor_class: ClassVar[Any] = Lfm2VlProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one grid, or tiles row by row, then a thumbnail; patches merged 2 x 2"
    nested: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = ("max_tiles", "padding_side")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Cut into as many tiles as were asked for."""
        del module
        images = processor.image_processor = copy.copy(processor.image_processor)
        most = tiles_asked(options, images.max_tiles if images.do_image_splitting else 1)
        images.do_image_splitting = most > 1
        if most == 1:
            return processor, ("A picture is seen as a whole, without tiles.",)
        images.max_tiles, images.min_tiles = most, min(images.min_tiles, most)
        return processor, (f"A large picture becomes up to {most} tiles and a thumbnail.",)

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """All of it; of a strip the image processor would cut off more than the model can miss."""
        width, height = size
        images = model.processor.image_processor
        rule = {name: getattr(images, name) for name in _RULE}
        wide, high = images.smart_resize(
            height, width, **rule, min_image_tokens=images.min_image_tokens
        )
        patch = images.encoder_patch_size
        tile = (images.tile_size // patch) ** 2 if images.do_image_splitting else 0
        most = max(images.max_image_tokens * images.downsample_factor**2, tile)
        if high // patch * (wide // patch) > most:
            raise PictureError(f"{width} x {height} is too narrow for {model.name}; cut it first")
        return 0, 0, width, height

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid, or one per tile and the thumbnail's, by the very image processor's rules."""
        images = model.processor.image_processor
        shape = {"height": int(frame.height), "width": int(frame.width)}
        rule = shape | {name: getattr(images, name) for name in _RULE}
        cell = images.encoder_patch_size * images.downsample_factor
        wide, high = images.smart_resize(**rule, min_image_tokens=images.min_image_tokens)
        name = "picture"
        grids = []
        too_large = images._is_image_too_large  # noqa: SLF001 - the rule's name in transformers
        slack = images.max_pixels_tolerance
        if images.do_image_splitting and too_large(**rule, max_pixels_tolerance=slack):
            layout = images._get_grid_layout  # noqa: SLF001 - the same
            side = images.tile_size
            _, _, width, height, count = layout(
                **shape, min_tiles=images.min_tiles, max_tiles=images.max_tiles, tile_size=side
            )
            canvas = frame.resize(float(width), float(height))
            grids = tiles(canvas, (float(side), float(side)), (side // cell, side // cell))
            if count == 1 or not images.use_thumbnail:
                return grids
            name = "thumbnail"
        whole = frame.resize(float(wide), float(high))
        return [*grids, Grid(whole, high // cell, wide // cell, name)]
