"""MiniCPM-V 4.6 and 4.7: an overview in the picture's own shape, then slices row by row.

A picture larger than one slice is squashed once more, to rows and columns of slices whose shapes
are nearest to a square's; the overview comes first. Patches are merged twice, 2 x 2 each time, or
once where the config's `downsample_mode` is `4x`; the image processor is set to what the config
says. Most layers attend linearly and have no maps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import MiniCPMV4_6Processor, MiniCPMV4_7Processor, ProcessorMixin

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import tiles
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.processors import tiles_asked

_MARKS = (
    *(f"{mark}_{end}_token" for mark in ("image", "slice", "image_id") for end in ("start", "end")),
    *("image_token", "video_token", "image_token_id", "video_token_id"),
)


class _Pictures(ProcessorMixin):
    """A processor without its video part, whose settings transformers' own takes for granted."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: Any = None) -> None:
        setup: Any = ProcessorMixin.__init__
        setup(self, image_processor, tokenizer, chat_template=chat_template)
        for name in _MARKS:
            setattr(self, name, getattr(tokenizer, name))
        self.slice_mode = image_processor.slice_mode
        self.default_use_image_id = image_processor.use_image_id

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: Any, **options: Any) -> Any:
        """With the chat template, whichever way the arguments of `__init__` are looked at."""
        made: Any = super().from_args_and_dict(args, processor_dict, **options)
        made.chat_template = processor_dict.get("chat_template")
        return made


def _of_pictures(processor_class: Any) -> Any:
    name = processor_class.__name__  # so that files name the class that a real checkpoint names
    return type(name, (_Pictures, processor_class), {"__module__": __name__})


class MiniCPMVAdapter(HuggingFaceAdapter):
    """Models of type `minicpmv4_6`; the option `max_tiles` bounds the slices, 1 leaves none."""

    name: ClassVar[str] = "minicpmv"
    model_types: ClassVar[tuple[str, ...]] = ("minicpmv4_6",)
    processor_class: ClassVar[Any] = _of_pictures(MiniCPMV4_6Processor)
    layout: ClassVar[str] = "overview first, then slices row by row; patches merged 4 x 4"
    bare: ClassVar[str] = "{system} {image}\n{text}"
    option_names: ClassVar[tuple[str, ...]] = ("max_tiles", "padding_side")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Merge as the config says, and cut into as many slices as were asked for."""
        images = processor.image_processor = copy.copy(processor.image_processor)
        images.downsample_mode = module.config.downsample_mode
        most = images.max_slice_nums = tiles_asked(options, images.max_slice_nums)
        if most == 1 or not images.slice_mode:
            return processor, ("A picture is seen as a whole, without slices.",)
        return processor, (f"A picture becomes an overview and up to {most} slices.",)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The overview's grid and one per slice, by the rules of the very image processor."""
        images = model.processor.image_processor
        size = (int(frame.height), int(frame.width))
        cell = images.patch_size * (2 if images.downsample_mode == "4x" else 4)
        rule = {
            "scale_resolution": images.scale_resolution,
            "patch_size": images.patch_size,
            "downsample_mode": images.downsample_mode,
        }
        sliced = None
        if images.slice_mode:
            sliced = images.get_sliced_grid(size, images.max_slice_nums, images.scale_resolution)
        high, wide = images.find_best_resize(size, **rule, allow_upscale=sliced is None)
        overview = frame.resize(float(wide), float(high))
        grids = [Grid(overview, high // cell, wide // cell, "overview")]
        if sliced is not None:
            high, wide = images.get_refine_size(size, sliced, **rule, allow_upscale=True)
            canvas = frame.resize(float(wide), float(high))
            height, width = high // sliced[0], wide // sliced[1]
            shape = (height // cell, width // cell)
            grids += tiles(canvas, (float(width), float(height)), shape)
        return grids


class MiniCPMV47Adapter(MiniCPMVAdapter):
    """Models of type `minicpmv4_7`: positions of three axes, laid out on the slices' canvas."""

    name: ClassVar[str] = "minicpmv4_7"
    model_types: ClassVar[tuple[str, ...]] = ("minicpmv4_7",)
    processor_class: ClassVar[Any] = _of_pictures(MiniCPMV4_7Processor)
