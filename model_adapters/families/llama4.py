"""Llama 4: tiles row by row on a padded canvas, then the whole picture, squashed to one tile.

The picture keeps its shape: it is enlarged to no more than one tile's side, laid in the upper left
corner of the smallest canvas of whole tiles that loses least of it, and padded to the right and
below. Patches are merged 2 x 2. Separators between tiles are other tokens. Of four layers three
attend within chunks of many thousand tokens, and norm their queries and keys.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from transformers import Llama4Processor
from transformers.image_utils import SizeDict

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Grid, HuggingFaceAdapter, Tensors, tiles


class HeadedAdapter(HuggingFaceAdapter):
    """Of families whose language model holds an output head of its own."""

    def language_model(self, module: Any) -> Any:
        """Without the head."""
        return module.language_model.model

    def model_inputs(self, model: LoadedModel, tensors: Tensors) -> dict[str, torch.Tensor]:
        """Asking for words at one position alone: the head runs with every pass."""
        first = torch.zeros(1, dtype=torch.long, device=model.device)
        return {**tensors, "logits_to_keep": first}


class Llama4Adapter(HeadedAdapter):
    """Models of type `llama4`."""

    name: ClassVar[str] = "llama4"
    model_types: ClassVar[tuple[str, ...]] = ("llama4",)
    processor_class: ClassVar[Any] = Llama4Processor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "tiles row by row, padded; thumbnail last; patches merged 2 x 2"

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """A grid per tile and, where there are several, the whole picture's."""
        images = model.processor.image_processor
        rules: Any = sys.modules[type(images).__module__]
        side = int(images.size["height"])
        shape = int(frame.height), int(frame.width)
        sizes = rules.find_supported_resolutions(images.max_patches, SizeDict(side, side))
        found = rules.get_best_fit(shape, torch.tensor(sizes), images.resize_to_max_canvas)
        height, width = found.tolist()
        room = (height, width)
        if not images.resize_to_max_canvas:
            room = min(max(shape[0], side), height), min(max(shape[1], side), width)
        high, wide = (max(1, each) for each in rules.get_max_res_without_distortion(shape, room))
        canvas = frame.resize(float(wide), float(high)).crop(0.0, 0.0, float(width), float(height))
        cells = round(side / model.processor.patch_size / model.processor.downsample_ratio**0.5)
        grids = tiles(canvas, (float(side), float(side)), (cells, cells))
        if len(grids) > 1:
            grids.append(Grid(resize_steps.squashed(frame, images.size), cells, cells, "thumbnail"))
        return grids
