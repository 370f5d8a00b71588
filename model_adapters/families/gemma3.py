"""Gemma 3: one squashed grid of pooled patches; with pan and scan also crops of long pictures.

The processor's image token is the one that *begins* a picture; it is expanded to newlines, soft
tokens with an id of their own, and an end. Most layers see a sliding window of 1,024 tokens, less
than the picture and its crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from transformers import Gemma3Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options
from vg_engine.model_adapters.shared.loaded import parts_of

# What transformers' processor takes where the files leave these settings open, as Google's do.
_PAN_AND_SCAN = {
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}


class Gemma3Adapter(HuggingFaceAdapter):
    """Models of type `gemma3`; the option `pan_and_scan` adds crops of long pictures."""

    name: ClassVar[str] = "gemma3"
    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)
    processor_class: ClassVar[Any] = Gemma3Processor
    layout: ClassVar[str] = "one grid, squashed; crops of long pictures (option pan_and_scan)"
    nested: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = ("padding_side", "pan_and_scan")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Check the option, and say what it does."""
        del module
        asked = options.get("pan_and_scan", False)
        if not isinstance(asked, bool):
            raise InputError(f"pan_and_scan {asked!r}: give true or false")
        crops = "Long pictures are shown whole and once more in crops."
        return processor, (crops if asked else "Pictures are squashed to a square.",)

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """Pan and scan, off unless it was asked for."""
        asked = bool(parts_of(model).options.get("pan_and_scan", False))
        return {"do_pan_and_scan": asked, **_settings(model)}

    def tokens_of_picture(self, module: Any) -> int:
        """Return the number of tokens of a picture or of a crop."""
        return int(module.config.mm_tokens_per_image)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """The whole picture, then its crops."""
        shown, images = [("picture", frame)], model.processor.image_processor
        if parts_of(model).options.get("pan_and_scan", False):
            shown += _crops(images, _settings(model), frame)
        side = round(self.tokens_of_picture(model.module) ** 0.5)
        return [
            Grid(resize_steps.squashed(part, images.size), side, side, name) for name, part in shown
        ]


def _settings(model: LoadedModel) -> dict[str, Any]:
    """Of the image processor, else the processor's."""
    images = model.processor.image_processor
    stated = {name: getattr(images, name, None) for name in _PAN_AND_SCAN}
    return {name: value or _PAN_AND_SCAN[name] for name, value in stated.items()}


def _crops(images: Any, settings: Mapping[str, Any], frame: Frame) -> list[tuple[str, Frame]]:
    """List the crops that the image processor makes, computed with a picture without memory."""
    empty = np.broadcast_to(np.uint8(0), (3, int(frame.height), int(frame.width)))
    cut = [crop.shape[1:] for crop in images.pan_and_scan(empty, **settings)]
    wide = frame.width >= frame.height
    found = []
    for index, (height, width) in enumerate(cut):
        # All but the last are as large as the first, side by side or one below the other.
        left, top = (index * cut[0][1], 0) if wide else (0, index * cut[0][0])
        part = frame.crop(float(left), float(top), float(width), float(height))
        found.append((f"crop {index}", part))
    return found
