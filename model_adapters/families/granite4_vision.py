"""Granite 4 Vision: LLaVA-NeXT's layout, with cells that are queries of a small Q-Former.

The patches of a window are merged into fewer cells (`downsample_rate` 4/8: windows of 8 x 8
patches become 4 x 4 cells). Each cell starts from its own patches, but looks at its whole window,
so it blends what is near. The picture enters not before the first layer, but at several.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import torch
from transformers import Granite4VisionProcessor

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.llava_next import LlavaNextAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options
from vg_engine.model_adapters.shared.loaded import parts_of


class Granite4VisionAdapter(LlavaNextAdapter):
    """Models of type `granite4_vision`."""

    name: ClassVar[str] = "granite4_vision"
    model_types: ClassVar[tuple[str, ...]] = ("granite4_vision",)
    processor_class: ClassVar[Any] = Granite4VisionProcessor
    layout: ClassVar[str] = "as llava_next; the patches of a window blended into fewer cells"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say that cells are blended."""
        rate = module.config.downsample_rate
        processor.downsample_rate = rate
        processor, statements = super().adapt_processor(processor, module, options)
        cells, patches = rate.split("/")
        blended = (
            f"A cell blends what is in its window of {cells} x {cells} cells "
            f"({patches} x {patches} patches)."
        )
        return processor, (*statements, blended)

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """From the first layer on that is given the picture."""
        config = module.config
        given = [layer for _, layer in config.deepstack_layer_map] + config.spatial_target_layers
        first = min(given)
        return range(first, config.text_config.num_hidden_layers) if first else None

    def vision_tower(self, module: Any) -> Any:
        """The tower, and the projectors: each of their queries looks at its whole window."""
        base = module.base_model
        parts = (base.vision_tower, base.layerwise_projectors, base.spatial_projectors)
        return torch.nn.ModuleList(parts)

    def image_features(self, model: LoadedModel, inputs: PreparedInputs) -> torch.Tensor:
        """Return the features given to the layers, side by side: the embeddings are zero."""
        base: Any = model.module.base_model
        tensors = inputs.tensors
        with torch.no_grad():
            given = base.get_image_features(
                tensors["pixel_values"], tensors["image_sizes"], return_dict=True
            ).deepstack_features
        side_by_side = torch.cat([torch.cat(list(pictures)) for _, pictures in given], dim=-1)
        image = tensors["input_ids"] == parts_of(model).image_token_id
        found = side_by_side.new_zeros(*image.shape, side_by_side.shape[-1])
        found[image] = side_by_side
        return found

    def side(self, config: Any) -> int:
        """Return the number of cells along a side of a tile."""
        return int(super().side(config) * Fraction(config.downsample_rate))
