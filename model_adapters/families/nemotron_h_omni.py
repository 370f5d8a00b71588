"""Nemotron 3 Nano Omni: one grid of merged patches near the picture's own shape and size.

The picture is squashed to the patches of its own grid, of which there are a fewest and a most, in
whole cells of 2 x 2. Most layers of the decoder are Mamba or feed-forward layers and have no maps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers.models.nemotron_h_omni.processing_nemotron_h_omni import (
    NemotronH_Omni_Reasoning_V3Processor,
)

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.llama4 import HeadedAdapter
from vg_engine.model_adapters.shared.huggingface import Grid


class NemotronHOmniAdapter(HeadedAdapter):
    """Models of type `nemotron_h_omni`."""

    name: ClassVar[str] = "nemotron_h_omni"
    model_types: ClassVar[tuple[str, ...]] = ("nemotron_h_omni",)
    processor_class: ClassVar[Any] = NemotronH_Omni_Reasoning_V3Processor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    layout: ClassVar[str] = "one grid in the picture's own shape; patches merged 2 x 2"

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of merged patches on the resized picture."""
        images = model.processor.image_processor
        merged = round(1 / images.downsample_ratio)
        most = (images.max_model_len - 4) * merged**2
        if images.max_num_patches:
            most = min(most, images.max_num_patches)
        fewest = images.min_num_patches
        # The rule of the very image processor that is installed.
        rule = sys.modules[type(images).__module__].get_patch_grid_size
        shape = int(frame.height), int(frame.width)
        rows, cols = rule(*shape, images.patch_size, merged, fewest, max(most, fewest))
        canvas = frame.resize(float(cols * images.patch_size), float(rows * images.patch_size))
        return [Grid(canvas, rows // merged, cols // merged)]
