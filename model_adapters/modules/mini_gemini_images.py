"""The pictures of Mini-Gemini: each twice, from one padded square."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import BatchFeature
from transformers.image_utils import SizeDict
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil


class MiniGeminiImageProcessorPil(LlavaImageProcessorPil):
    """LLaVA's image processor at high resolution, and its result made small.

    A picture is padded to a square with the mean colour, resized to `aux_size`, and normalised as
    CLIP's: that is `pixel_values_aux`. From these numbers, and not from the picture, the smaller
    `pixel_values` are taken by bilinear interpolation without smoothing (as in the published
    mgm/eval/model_vqa_loader.py); their side is that of `crop_size`.

    Attributes:
        aux_size: side of the larger pictures, in pixels.
    """

    aux_size: int = 768
    do_pad: bool = True

    @classmethod
    def like(cls, images: Any, *, size: int, aux_size: int) -> MiniGeminiImageProcessorPil:
        """The settings of another image processor, at the model's two sizes.

        Args:
            images: an image processor of CLIP's or LLaVA's kind, for its mean, deviation and
                resampling.
            size, aux_size: sides of the smaller and the larger pictures, in pixels.
        """
        settings = images.to_dict()
        settings.pop("image_processor_type", None)
        sides = {
            "size": {"shortest_edge": size},
            "crop_size": {"height": size, "width": size},
            "do_pad": True,
            "do_resize": True,
            "do_center_crop": True,
        }
        made: Any = cls.from_dict({**settings, **sides})
        made.aux_size = aux_size
        found: MiniGeminiImageProcessorPil = made
        return found

    def _preprocess(self, images: list[Any], *args: Any, **settings: Any) -> Any:
        wanted, tensors = settings["crop_size"], settings["return_tensors"]
        side = self.aux_size
        settings["size"] = SizeDict(shortest_edge=side)
        settings["crop_size"] = SizeDict(height=side, width=side)
        settings["return_tensors"] = None
        large = super()._preprocess(images, *args, **settings)["pixel_values"]
        small = [
            functional.interpolate(
                torch.as_tensor(one)[None],
                size=(wanted.height, wanted.width),
                mode="bilinear",
                align_corners=False,
            )[0].numpy()
            for one in large
        ]
        return BatchFeature({"pixel_values": small, "pixel_values_aux": large}, tensor_type=tensors)
