"""LLaVA-NeXT (1.6): the whole picture first, then finer cells of it on several tiles.

The whole is squashed to one tile; the tiles together show the picture in its own shape, in the
middle of a black canvas. Their cells stand in the sequence row by row *across* the tiles, each
row ended by a newline that has the image token's id. Rows or columns of cells that show border
alone are dropped, by a rule that rounds otherwise than the border itself was rounded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Int64
from transformers import LlavaNextProcessor
from transformers.image_utils import ChannelDimension
from transformers.models.llava_next.modeling_llava_next import unpad_image

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.llava import fit_counts
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options


class LlavaNextAdapter(HuggingFaceAdapter):
    """Models of type `llava_next`: LLaVA-1.6 with any decoder, Granite Vision 3."""

    name: ClassVar[str] = "llava_next"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    processor_class: ClassVar[Any] = LlavaNextProcessor
    layout: ClassVar[str] = "thumbnail first, squashed; then tiles as one grid, newline per row"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take from the config what the processor counts with; say how many tiles there are."""
        del options
        fit_counts(processor, module.config)
        tile = module.config.vision_config.image_size
        points = processor.image_processor.image_grid_pinpoints
        most = max(height // tile * (width // tile) for height, width in points)
        return processor, (f"A picture is shown whole, and again on up to {most} tiles.",)

    def side(self, config: Any) -> int:
        """Return the number of cells along a side of a tile."""
        return int(config.vision_config.image_size // config.vision_config.patch_size)

    def shrunk(self, model: LoadedModel, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the remaining rows and columns of cells on the tiles: here all of them."""
        del model
        return shape

    def image_positions(
        self, model: LoadedModel, inputs: PreparedInputs, sequence: int
    ) -> Int64[np.ndarray, " tokens"]:
        """Newlines last, and tile by tile where each tile is a grid of its own."""
        where = super().image_positions(model, inputs, sequence)
        image = next(query.scene for query in inputs.queries if query.sequence == sequence)
        _, order = self._laid_out(model, Frame.of(*inputs.sizes[image]))
        # A wrong number of tokens is refused later, with both numbers.
        return where[order] if len(order) == len(where) else where

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The whole picture, then its tiles: one grid, or one each where gaps are between them."""
        return self._laid_out(model, frame)[0]

    def _laid_out(
        self, model: LoadedModel, frame: Frame
    ) -> tuple[list[Grid], Int64[np.ndarray, " tokens"]]:
        """The grids, and the picture's tokens in their order."""
        images, module = model.processor.image_processor, model.module
        config: Any = module.config
        tile, side = int(config.vision_config.image_size), self.side(config)
        # The tower does not see the pixels behind a tile's last whole patch.
        seen = tile - tile % config.vision_config.patch_size
        whole = frame.resize(float(tile), float(tile)).crop(0.0, 0.0, float(seen), float(seen))
        canvas = _fitted(images, frame)
        high, wide = (int(edge) // tile * side for edge in (canvas.height, canvas.width))
        fine, unpad = torch.arange(high * wide).view(1, high, wide), cast("Any", unpad_image)
        kept = unpad(fine, (int(frame.height), int(frame.width)))[0].numpy()
        rows, cols = kept[:, :1].ravel() // wide, kept[:1].ravel() % wide
        left = self.shrunk(model, kept.shape)
        # Shrinking blurs: then cells are as good as evenly spread, gaps and all.
        even = seen == tile or left != kept.shape
        per, pitch = (max(high, wide), tile / side) if even else (side, seen / side)
        off = (seen - tile) / 2 if even else 0.0
        count = side * side
        numbers = count + np.arange(left[0] * (left[1] + 1)).reshape(left[0], left[1] + 1)
        found, order = [Grid(whole, side, side, "thumbnail")], [np.arange(count)]
        # Of a strip no cell may be left: then there are no blocks.
        for down in np.unique(rows // per):
            for across in np.unique(cols // per):
                y, x = np.flatnonzero(rows // per == down), np.flatnonzero(cols // per == across)
                shown = canvas.crop(
                    float(across * tile + cols[x[0]] % per * pitch + off),
                    float(down * tile + rows[y[0]] % per * pitch + off),
                    len(x) * pitch,
                    len(y) * pitch,
                )
                cells = numbers[:, :-1] if even else numbers[np.ix_(y, x)]
                name = "tiles" if even else f"tile {down},{across}"
                found.append(Grid(shown, cells.shape[0], cells.shape[1], name))
                order.append(cells.ravel())
        found[-1] = found[-1]._replace(tail=len(numbers))
        return found, np.concatenate([*order, numbers[:, -1]])


def _fitted(images: Any, frame: Frame) -> Frame:
    """The picture on the canvas of whole tiles that suits it best."""
    # The rules of the very image processor that is installed.
    rules = sys.modules[type(images).__module__]
    size = (int(frame.height), int(frame.width))
    best = rules.select_best_resolution(size, images.image_grid_pinpoints)
    like = np.broadcast_to(np.uint8(0), (3, *size))
    shape = rules.get_patch_output_size(like, best, ChannelDimension.FIRST)
    return resize_steps.letterboxed(frame, shape, best[1], best[0])
