"""Emu3: a grid of discrete tokens of its picture codebook, each row ended by a newline token.

The picture is squashed to multiples of 8 pixels; a code stands for 8 x 8 of them, more or less: its
encoder looks beyond its own patch, and norms over the whole canvas. In a batch that canvas is as
large as the largest picture, so codes are made here for each picture alone, and stand in the
sequence as the tokens that they are.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import Emu3Processor

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.loaded import parts_of

# Of what the model reads, what is left to the text and the ends of the rows.
_ROOM = 1024


class Emu3Adapter(HuggingFaceAdapter):
    """Models of type `emu3`, as far as they talk about pictures."""

    name: ClassVar[str] = "emu3"
    model_types: ClassVar[tuple[str, ...]] = ("emu3",)
    processor_class: ClassVar[Any] = Emu3Processor
    layout: ClassVar[str] = "one grid of discrete tokens, squashed; rows ended by a token"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Let no picture become more tokens than the model reads."""
        del options
        config: Any = module.config
        tokens = config.text_config.max_position_embeddings - _ROOM
        processor.image_processor = images = copy.copy(processor.image_processor)
        images.max_pixels = min(images.max_pixels, tokens * _cell(config) ** 2)
        return processor, (f"Pictures are shown with at most {images.max_pixels} pixels.",)

    def _shown(self, model: LoadedModel, picture: Picture) -> Any:
        # Channels first, for this image processor takes a height of 1 or 3 pixels for them.
        return np.asarray(super()._shown(model, picture)).transpose(2, 0, 1)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of codes."""
        images = model.processor.image_processor
        rules: Any = sys.modules[type(images).__module__]
        limits = images.spatial_factor, images.min_pixels, images.max_pixels
        height, width = rules.smart_resize(int(frame.height), int(frame.width), *limits)
        cell, canvas = _cell(model.module.config), frame.resize(float(width), float(height))
        return [Grid(canvas, height // cell, width // cell, row_end=1)]

    def given(self, model: LoadedModel, inputs: PreparedInputs) -> PreparedInputs:
        """Each picture's own codes, in the sequence."""
        tensors = dict(inputs.tensors)
        pixels, sizes = tensors.pop("pixel_values"), tensors.pop("image_sizes")
        base: Any = model.module.base_model
        ids, known = tensors["input_ids"].clone(), dict[int, torch.Tensor]()
        for query in inputs.queries:
            one = query.sequence
            if query.scene not in known:
                height, width = sizes[one].tolist()
                shown = pixels[one : one + 1, :, :height, :width]
                with torch.no_grad():
                    known[query.scene] = base.get_image_tokens(shown, sizes[one : one + 1])
            ids[one, ids[one] == parts_of(model).image_token_id] = known[query.scene].to(ids.dtype)
        return replace(inputs, tensors=MappingProxyType({**tensors, "input_ids": ids}))


def _cell(config: Any) -> int:
    """Pixels on the side of a code: each step of the encoder but the last halves the picture."""
    return int(2 ** (len(config.vq_config.channel_multiplier) - 1))
