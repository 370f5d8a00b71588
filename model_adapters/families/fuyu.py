"""Fuyu: patches of 30 pixels as they are, row by row, each row ended by a newline token.

A picture is shrunk to fit 1920 x 1080 pixels, never enlarged, and filled up to whole patches on the
right and below. The processor itself puts the picture in front and the token that begins an answer
at the end, splits the two before it asks its tokenizer, and always pads on the left.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import FuyuProcessor

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.florence2 import PlacingAdapter
from vg_engine.model_adapters.shared import prompts
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, Options
from vg_engine.model_adapters.shared.loaded import parts_of
from vg_engine.model_adapters.shared.processor_errors import refused_pictures
from vg_engine.model_adapters.shared.processors import mixed_in


class _Halves(prompts.RecordingTokenizer):
    """Hears the text behind each picture first, then the picture's own tokens."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.heard: list[tuple[str, np.ndarray]] = []

    def __call__(self, text: Sequence[str], **options: Any) -> Any:
        tokens = super().__call__(text, **options)
        self.heard.append((self.texts[0], self.offsets[0]))
        return tokens

    def joined(self) -> None:
        """Both halves as one prompt per sequence, padded on the left as the processor does."""
        texts, parts = [], []
        for (behind, where), (front, first) in zip(self.heard[::2], self.heard[1::2], strict=True):
            texts.append(front + behind)
            # Of the picture's half the processor drops the first token, a blank.
            parts.append(np.concatenate([first[1:], where + len(front)]))
        longest = max(map(len, parts))
        pads = [((longest - len(part), 0), (0, 0)) for part in parts]
        self.texts = tuple(texts)
        self.offsets = np.stack([np.pad(*each) for each in zip(parts, pads, strict=True)])


class _Patches:
    """Pillow's image processor cuts arrays; the processor hands it tensors (5.23.0)."""

    def patchify_image(self, image: Any, patch_size: Any = None) -> torch.Tensor:
        """Patches x values, behind an axis of one picture."""
        whole: Any = super()
        return torch.from_numpy(whole.patchify_image(np.asarray(image), patch_size))[None]


class FuyuAdapter(PlacingAdapter):
    """Models of type `fuyu`."""

    name: ClassVar[str] = "fuyu"
    model_types: ClassVar[tuple[str, ...]] = ("fuyu",)
    processor_class: ClassVar[Any] = FuyuProcessor
    layout: ClassVar[str] = "one grid, shape kept; rows ended by a token"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Let Pillow's image processor take tensors."""
        processor.image_processor = images = copy.copy(processor.image_processor)
        mixed_in(images, _Patches)
        return super().adapt_processor(processor, module, options)

    def vision_tower(self, module: Any) -> Any:
        """One linear layer: nothing mixes."""
        return module.base_model.vision_embed_tokens

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid on the picture and what fills it up."""
        images = model.processor.image_processor
        widest, highest = int(images.size["width"]), int(images.size["height"])
        if frame.width > widest or frame.height > highest:
            by = min(highest / frame.height, widest / frame.width)
            frame = frame.resize(float(int(frame.width * by)), float(int(frame.height * by)))
        across, down = int(images.patch_size["width"]), int(images.patch_size["height"])
        cols = min(widest // across, math.ceil(frame.width / across))
        rows = min(highest // down, math.ceil(frame.height / down))
        return [Grid(frame.crop(0.0, 0.0, float(cols * across), float(rows * down)), rows, cols)]

    def _process(
        self,
        model: LoadedModel,
        images: Sequence[Picture],
        expressions: Sequence[Expression],
        places: Sequence[prompts.Rendered],
    ) -> tuple[dict[str, torch.Tensor], prompts.RecordingTokenizer]:
        shown = [self._shown(model, picture) for picture in images]
        processor, recording = copy.copy(model.processor), _Halves(model.processor.tokenizer)
        processor.tokenizer = recording
        with parts_of(model).tokenizer_lock, refused_pictures(model, images):
            tensors = processor(
                images=[shown[expression.scene] for expression in expressions],
                text=[place.text for place in places],
                return_legacy_image_output=False,
            )
        recording.joined()
        return {name: value for name, value in tensors.items() if torch.is_tensor(value)}, recording
