"""Qwen2-VL, and what all families with an `image_grid_thw` share: one grid of merged patches.

The picture is squashed to whole cells near its own shape, between a least and a most number of
pixels; `merge_size` x `merge_size` patches become one token, and the tokens lie row by row. The
patches themselves go to the tower block by block, not row by row, so their order says nothing
about the tokens. Strips beyond the processor's limit (200 to 1) are refused by it.

A sibling inherits `Qwen2VLAdapter`, sets `name`, `model_types` and `processor_class`, and, where
they differ, `layout`, `bare` and `placeholder`. Of the geometry it overrides the least part that
differs: `resized` (other arguments of the rule, another rule) or `cell` (pixels of a token). Patch
size, merge size and limits are the image processor's, so other numbers need no code; positions of
three axes are the base's business.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import PreTrainedModel, Qwen2VLProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options

_LIMITS = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}


class Qwen2VLAdapter(HuggingFaceAdapter):
    """Models of type `qwen2_vl`; options `min_pixels` and `max_pixels` bound the resized picture.

    More pixels mean more tokens, each of a smaller part of the picture. The image processor calls
    these numbers of pixels `shortest_edge` and `longest_edge`.
    """

    name: ClassVar[str] = "qwen2_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    processor_class: ClassVar[Any] = Qwen2VLProcessor
    layout: ClassVar[str] = "one grid in the picture's own shape; patches merged 2 x 2"
    bare: ClassVar[str] = "{system} <|vision_start|>{image}<|vision_end|>\n{text}"
    option_names: ClassVar[tuple[str, ...]] = ("max_pixels", "min_pixels", "padding_side")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Set the limits that were asked for, and say how many tokens a picture may become."""
        del module
        images = processor.image_processor = copy.copy(processor.image_processor)
        cell = self.cell(images)
        size = {edge: int(images.size[edge]) for edge in _LIMITS.values()}
        for option in _LIMITS.keys() & options.keys():
            if not isinstance(options[option], int) or options[option] < cell * cell:
                raise InputError(f"{option} {options[option]!r}: give {cell * cell} or more pixels")
            size[_LIMITS[option]] = options[option]
        least, most = (size[edge] for edge in _LIMITS.values())
        if least > most:
            raise InputError(f"min_pixels {least} is more than max_pixels {most}; set both")
        images.size = type(images.size)(**size)
        statement = f"A picture becomes up to {most // cell**2} tokens of {cell} x {cell} pixels."
        return processor, (statement,)

    def cell(self, images: Any) -> int:
        """Pixels of the resized picture along each side of one token."""
        return int(images.patch_size) * int(images.merge_size)

    def resized(self, images: Any, height: int, width: int) -> tuple[int, int]:
        """Height and width to which the image processor squashes a picture: whole cells."""
        # The rule of the very image processor that is installed.
        rule = sys.modules[type(images).__module__].smart_resize
        high, wide = rule(
            height,
            width,
            factor=self.cell(images),
            min_pixels=images.size["shortest_edge"],
            max_pixels=images.size["longest_edge"],
        )
        return int(high), int(wide)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of merged patches on the resized picture."""
        images = model.processor.image_processor
        height, width = int(frame.height), int(frame.width)
        if images.do_resize:
            height, width = self.resized(images, height, width)
        cell = self.cell(images)
        return [Grid(frame.resize(float(width), float(height)), height // cell, width // cell)]


def named_by_config(processor: Any, module: PreTrainedModel) -> Any:
    """The processor with the picture's token that the model's config names.

    For families whose tokenizers do not name it, or that borrow another family's processor.
    """
    processor.image_token_id = int(module.config.image_token_id)
    processor.image_token = processor.tokenizer.convert_ids_to_tokens(processor.image_token_id)
    return processor
