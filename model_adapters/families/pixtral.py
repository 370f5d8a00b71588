"""Pixtral: the picture keeps its shape; each row of cells ends with a token of its own.

The picture is made smaller where its longest side is above the limit, never larger, and then
squashed to whole patches. The tokens that end a row (`[IMG_BREAK]`) and the picture (`[IMG_END]`)
have other ids than the cells.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, no_type_check

import numpy as np
from transformers import ProcessorMixin
from transformers.image_utils import ChannelDimension

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import PictureError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options


class PixtralProcessor(ProcessorMixin):
    """Does what transformers' class of this name does, which is only there with torchvision."""

    patch_size: int
    spatial_merge_size: int
    image_token: str
    image_break_token: str
    image_end_token: str

    # transformers looks at the arguments of this very function.
    @no_type_check
    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int = 16,
        spatial_merge_size: int = 1,
        chat_template: Any = None,
        image_token: str = "[IMG]",  # noqa: S107 - tokens of text, no passwords
        image_break_token: str = "[IMG_BREAK]",  # noqa: S107 - the same
        image_end_token: str = "[IMG_END]",  # noqa: S107 - the same
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.patch_size, self.spatial_merge_size = patch_size, spatial_merge_size
        self.image_token, self.image_break_token = image_token, image_break_token
        self.image_end_token = image_end_token

    def _process_images(self, images: Any, **settings: Any) -> Any:
        settings["patch_size"] = self.patch_size * self.spatial_merge_size
        return super()._process_images(images, **settings)

    def replace_image_token(self, image_inputs: Any, image_idx: int, **settings: Any) -> str:
        """Return the text that replaces a picture's placeholder."""
        del settings
        cell = self.patch_size * self.spatial_merge_size
        height, width = map(int, image_inputs["image_sizes"][image_idx])
        row = self.image_token * (width // cell)
        return self.image_break_token.join([row] * (height // cell)) + self.image_end_token


class PixtralAdapter(HuggingFaceAdapter):
    """Models of type `llava` whose tower is Pixtral's; a picture has `fewest` cells at least."""

    name: ClassVar[str] = "pixtral"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    processor_class: ClassVar[Any] = PixtralProcessor
    layout: ClassVar[str] = "one grid in the picture's own shape; rows ended by break tokens"
    fewest: ClassVar[int] = 1

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """Those of its types that have a Pixtral tower."""
        tower = config.get("vision_config") or {}
        return super().claims(config) and tower.get("model_type") == "pixtral"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take from the config how many pixels a cell has."""
        del options
        config: Any = module.config
        processor.patch_size = config.vision_config.patch_size
        processor.spatial_merge_size = getattr(config, "spatial_merge_size", 1)
        return processor, ()

    def step(self, model: LoadedModel) -> int:
        """Width and height of a picture are whole multiples of so many pixels."""
        return int(model.processor.patch_size * model.processor.spatial_merge_size)

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """All of it; too small a picture is refused here."""
        (grid,) = self.grids(model, Frame.of(*size))
        if grid.rows * grid.cols < self.fewest:
            raise PictureError(
                f"a picture of {size[0]} x {size[1]} is too small for {model.name}: it makes "
                f"{grid.rows} x {grid.cols} cells; enlarge it or cut it first"
            )
        return super().window(model, size)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid on the picture, squashed to whole patches."""
        processor = model.processor
        images = processor.image_processor
        cell = processor.patch_size * processor.spatial_merge_size
        # The rule of the very image processor that is installed.
        rule = sys.modules[type(images).__module__].get_resize_output_image_size
        like = np.broadcast_to(np.uint8(0), (3, int(frame.height), int(frame.width)))
        most, step = images.size["longest_edge"], self.step(model)
        height, width = rule(like, (most, most), (step, step), ChannelDimension.FIRST)
        shown, shape = resize_steps.whole_patches(frame.resize(float(width), float(height)), cell)
        return [Grid(shown, *shape)]
