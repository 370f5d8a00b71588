"""Florence-2: an encoder and a decoder; what is read is the encoder, where words meet the picture.

The picture is squashed; one token for the average of all patches stands before the grid. The
processor itself puts the picture in front of the prompt, and opens and closes the text. Positions
are learned and count padding, so batches are padded on the right. The family has no system
sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import Florence2Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import (
    Adapted,
    Grid,
    HuggingFaceAdapter,
    Options,
    Tensors,
)
from vg_engine.model_adapters.shared.processors import mixed_in


class _Placed:
    """A processor that takes a picture's placeholder in the prompt, and puts its own in front."""

    image_token: str

    def prepare_inputs_layout(self, images: Any = None, text: Any = None, **rest: Any) -> Any:
        """Take the prompt's placeholder off."""
        whole: Any = super()
        bare = [one.removeprefix(self.image_token) for one in text]
        return whole.prepare_inputs_layout(images=images, text=bare, **rest)


class PlacingAdapter(HuggingFaceAdapter):
    """Families whose processor puts the picture in front by itself, and pads on one side."""

    system: ClassVar[str] = ""
    bare: ClassVar[str] = "{image}{system}{text}"
    option_names: ClassVar[tuple[str, ...]] = ()

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Let prompts name the picture's place, as those of all families do."""
        del module, options
        mixed_in(processor, _Placed)
        return processor, ()


class Florence2Adapter(PlacingAdapter):
    """Models of type `florence2`."""

    name: ClassVar[str] = "florence2"
    model_types: ClassVar[tuple[str, ...]] = ("florence2",)
    processor_class: ClassVar[Any] = Florence2Processor
    layout: ClassVar[str] = "one grid, squashed, behind a token for the whole; encoder heads"
    blends: ClassVar[bool] = True  # its tower steps through overlapping windows
    # Padded where it does not shift positions; opened and closed by the processor alone.
    processor_call: ClassVar[Mapping[str, Any]] = {
        "padding_side": "right",
        "add_special_tokens": False,
    }

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say where the heads are."""
        processor, _ = super().adapt_processor(processor, module, options)
        return processor, ("Layers and heads are the encoder's.",)

    def language_model(self, module: Any) -> Any:
        """The encoder, which sees picture and prompt in both directions."""
        return module.base_model.language_model.encoder

    def position_ids(self, model: LoadedModel, tensors: Tensors) -> torch.Tensor | None:
        """The encoder counts them itself, and takes none."""
        del model, tensors
        return None

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid, behind the token for the average of all cells."""
        config: Any = model.module.config
        cell = math.prod(config.vision_config.patch_stride)
        squashed = resize_steps.squashed(frame, model.processor.image_processor.size)
        canvas, shape = resize_steps.whole_patches(squashed, cell)
        return [Grid(canvas, *shape, skip=1)]
