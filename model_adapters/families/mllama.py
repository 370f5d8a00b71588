"""Mllama (Llama 3.2 Vision): the picture stands on the keys of the cross-attention layers.

A picture is fitted into up to four tiles and filled up on the right and below. Each tile is a
class token and its patches; the key axis always has room for the most tiles that a picture may
have. The text holds the placeholder alone, so layers of self-attention have no maps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from transformers import MllamaProcessor

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter, tiles


class MllamaAdapter(HuggingFaceAdapter):
    """Models of type `mllama`."""

    name: ClassVar[str] = "mllama"
    model_types: ClassVar[tuple[str, ...]] = ("mllama",)
    processor_class: ClassVar[Any] = MllamaProcessor
    layout: ClassVar[str] = "tiles row by row, shape kept, on the keys of cross-attention layers"
    bare: ClassVar[str] = "{image}{system}\n{text}"
    nested: ClassVar[bool] = True
    # The processor writes the opening token itself, behind the picture's.
    processor_call: ClassVar[Mapping[str, Any]] = {"add_special_tokens": False}

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """The cross-attention layers."""
        return list(module.config.text_config.cross_attention_layers)

    def image_positions(
        self, model: LoadedModel, inputs: PreparedInputs, sequence: int
    ) -> Int64[np.ndarray, " tokens"]:
        """The tiles that the picture has got, from the first key on."""
        used = int(inputs.tensors["aspect_ratio_mask"][sequence].sum())
        return np.arange(used * (1 + _side(model) ** 2))

    def image_features(self, model: LoadedModel, inputs: PreparedInputs) -> torch.Tensor:
        """As the cross-attention layers get them, tile after tile."""
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        base: Any = model.module.base_model
        with torch.no_grad():
            seen = base.vision_model(**{name: inputs.tensors[name] for name in names})
        states: torch.Tensor = seen.last_hidden_state
        return states.reshape(len(states), -1, states.shape[-1])

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per tile, behind its class token."""
        images = model.processor.image_processor
        rules: Any = sys.modules[type(images).__module__]
        side = int(images.size["height"])
        picture = {"image_height": int(frame.height), "image_width": int(frame.width)}
        high, wide = rules.get_optimal_tiled_canvas(
            **picture, max_image_tiles=images.max_image_tiles, tile_size=side
        )
        height, width = rules.get_image_size_fit_to_canvas(
            **picture, canvas_height=high, canvas_width=wide, tile_size=side
        )
        shown = frame.resize(float(width), float(height))
        canvas = shown.crop(0.0, 0.0, float(wide), float(high))
        return tiles(canvas, (float(side), float(side)), (_side(model),) * 2, skip=1)


def _side(model: LoadedModel) -> int:
    """Patches on the side of a tile."""
    config: Any = model.module.config
    return int(config.vision_config.image_size) // int(config.vision_config.patch_size)
