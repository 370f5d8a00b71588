"""Phi-4-multimodal: one fine grid over all tiles, then the whole picture once more.

The picture keeps its shape, fills its canvas of whole tiles from the upper left corner and is
padded with white; of the fine grid, rows and columns that are all padding are left out. Rows end
with a token that has the image token's own id, and one such token parts the two grids. The second
shows the canvas, padding included, squashed to one tile. Patches are pooled 2 x 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from transformers import Phi4MultimodalForCausalLM, Phi4MultimodalProcessor

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options

_POOLED = 2  # patches of a cell, along each side


class Phi4MultimodalAdapter(HuggingFaceAdapter):
    """Models of type `phi4_multimodal`."""

    name: ClassVar[str] = "phi4_multimodal"
    model_types: ClassVar[tuple[str, ...]] = ("phi4_multimodal",)
    processor_class: ClassVar[Any] = Phi4MultimodalProcessor
    auto_class: ClassVar[Any] = Phi4MultimodalForCausalLM
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one fine grid, padded; then the whole; rows ended by a token"
    bare: ClassVar[str] = "{system} {image}{text}"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say where the weights for pictures are."""
        del options
        if getattr(module, "peft_config", None):
            return processor, ()
        statement = (
            "The published weights for pictures lie apart, in the folder vision-lora: without "
            "model.load_adapter(..., adapter_kwargs={'subfolder': 'vision-lora'}) the model has "
            "not learned to look; load it so and hand it over, load(model=, processor=)."
        )
        return processor, (statement,)

    def vision_tower(self, module: Any) -> Any:
        """Inside of the part that embeds pictures and sound."""
        return module.base_model.embed_tokens_extend.image_embed.img_processor

    def image_features(self, model: LoadedModel, inputs: PreparedInputs) -> torch.Tensor:
        """Among the embeddings, which the decoder makes itself."""
        base: Any = model.module.base_model
        ids = inputs.tensors["input_ids"]
        given = {name: value for name, value in inputs.tensors.items() if "image_" in name}
        with torch.no_grad():
            embedded: torch.Tensor = base.embed_tokens_extend(ids, base.embed_tokens(ids), **given)
        return embedded

    def model_inputs(
        self, model: LoadedModel, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """With an empty tile that the tower masks, where it would mask nothing.

        Without any mask transformers' tower (5.23.0) looks only backwards, unless it is eager.
        """
        kept = super().model_inputs(model, tensors)
        seen = kept["image_attention_mask"]
        if bool(seen.all()):
            empty = torch.zeros_like(seen[:, :1])
            empty[..., 0, 0] = 1  # the tower counts what is seen, so something must be
            kept["image_attention_mask"] = torch.cat([seen, empty], dim=1)
            tiles = kept["image_pixel_values"]
            kept["image_pixel_values"] = torch.cat([tiles, torch.zeros_like(tiles[:, :1])], dim=1)
        return kept

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The fine grid without its padding, and the whole canvas's."""
        images = model.processor.image_processor
        side, patch = int(images.size["height"]), int(images.patch_size)
        width, height = int(frame.width), int(frame.height)
        across, down = _tiles(images, width, height)
        wide, high = across * side, down * side
        if wide / width < high / height:
            shape = wide, int(height * (wide / width))
        else:
            shape = int(width * (high / height)), high
        canvas = frame.resize(float(shape[0]), float(shape[1]))
        canvas = canvas.crop(0.0, 0.0, float(wide), float(high))
        cols, rows = (
            -(-(full // patch - (full - seen) // patch) // _POOLED)
            for full, seen in ((wide, shape[0]), (high, shape[1]))
        )
        cell, cells = patch * _POOLED, side // patch // _POOLED
        fine = canvas.crop(0.0, 0.0, float(cols * cell), float(rows * cell))
        whole = canvas.resize(float(side), float(side))
        return [
            Grid(fine, rows, cols, "fine", row_end=1, tail=1),
            Grid(whole, cells, cells, "whole", row_end=1),
        ]


def _tiles(images: Any, width: int, height: int) -> tuple[int, int]:
    """Columns and rows of tiles: as many as the pixels need or, if too many, of the best shape."""
    side, most = int(images.size["height"]), int(images.dynamic_hd)
    needed = math.ceil(width / side), math.ceil(height / side)
    if needed[0] * needed[1] <= most:
        return needed
    shapes = [(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i * j <= most]
    shapes.sort(key=lambda shape: shape[0] * shape[1])
    cols, rows = images.find_closest_aspect_ratio(width / height, shapes, width, height, side)
    return int(cols), int(rows)
