"""Perception LM: the whole picture first, squashed to one tile, then tiles row by row.

The picture is squashed to the canvas of tiles on which it is largest. Where one tile is enough, it
is shown twice. Patches are pooled. Pictures of one batch may have several counts of tiles, which
the processor cannot stack: here their tiles go to the model one after another. The tower is
timm's, so timm has to be installed, too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from transformers import PerceptionLMProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import tiles
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.processors import mixed_in, tiles_asked


class _Together:
    """One picture at a time, and all their tiles as those of one."""

    def _process_images(self, images: Any, **options: Any) -> tuple[dict[str, Any], list[str]]:
        whole: Any = super()
        one = whole._process_images  # noqa: SLF001 - its parent's
        made = [one([image], **options) for image in images]
        joined = torch.cat([tensors["pixel_values"][0] for tensors, _ in made])
        return {"pixel_values": joined[None]}, [words[0] for _, words in made]


class PerceptionLMAdapter(HuggingFaceAdapter):
    """Models of type `perception_lm`; the option `max_tiles` bounds the tiles, 1 leaves none."""

    name: ClassVar[str] = "perception_lm"
    model_types: ClassVar[tuple[str, ...]] = ("perception_lm",)
    processor_class: ClassVar[Any] = PerceptionLMProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "thumbnail first, then tiles row by row, squashed; patches pooled"
    option_names: ClassVar[tuple[str, ...]] = ("max_tiles", "padding_side")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take pictures one by one, and cut them into as many tiles as were asked for."""
        del module
        mixed_in(processor, _Together)
        images = processor.image_processor = copy.copy(processor.image_processor)
        tiled = images.vision_input_type == "thumb+tile"
        most = images.max_num_tiles = tiles_asked(options, images.max_num_tiles if tiled else 1)
        images.vision_input_type = "thumb+tile" if most > 1 else "vanilla"
        if most == 1:
            return processor, ("A picture is seen as a whole, without tiles.",)
        return processor, (f"A picture becomes a thumbnail and up to {most} tiles.",)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The thumbnail's grid, then one per tile."""
        images = model.processor.image_processor
        side = int(images.tile_size)
        config: Any = model.module.config
        cells = side // model.processor.patch_size // config.projector_pooling_ratio
        grids = [Grid(frame.resize(float(side), float(side)), cells, cells, "thumbnail")]
        if images.vision_input_type != "thumb+tile":
            return grids
        shape = {"img_width": int(frame.width), "img_height": int(frame.height), "tile_size": side}
        fit = images._fit_image_to_canvas  # noqa: SLF001 - the rule's name in transformers
        closest = images._find_closest_aspect_ratio  # noqa: SLF001 - the same
        across, down = fit(**shape) or closest(**shape)
        canvas = frame.resize(float(across * side), float(down * side))
        return [*grids, *tiles(canvas, (float(side), float(side)), (cells, cells))]
