"""Chameleon: a centre crop of 512 pixels, as a grid of discrete tokens of its picture codebook.

Each token stands for 16 x 16 pixels, more or less: its convolutions look beyond their own patch.
The processor ends the prompt with a separator, and its class takes no chat template: one in the
folder is the tokenizer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import ChameleonProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options


class ChameleonAdapter(HuggingFaceAdapter):
    """Models of type `chameleon`."""

    name: ClassVar[str] = "chameleon"
    model_types: ClassVar[tuple[str, ...]] = ("chameleon",)
    processor_class: ClassVar[Any] = ChameleonProcessor
    layout: ClassVar[str] = "one grid of discrete tokens; centre crop"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say that the ends are invisible."""
        del module, options
        return processor, (
            "Pictures are cut to a square around their centre: what lies outside is never found.",
        )

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """As LLaVA's crop: without the invisible ends of a strip."""
        return LlavaAdapter().window(model, size)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid on the crop; each step of the codebook's encoder but the last halves it."""
        images = model.processor.image_processor
        config: Any = model.module.config
        shown = resize_steps.shortest_edge(frame, images.size["shortest_edge"])
        cell = 2 ** (len(config.vq_config.channel_multiplier) - 1)
        canvas, shape = resize_steps.whole_patches(
            resize_steps.centre_crop(shown, images.crop_size), cell
        )
        return [Grid(canvas, *shape)]
