"""LLaVA-1.5, with either of the two ways in which its pictures are made square.

The original pads a picture to a square; the converted checkpoints (`-hf`) cut its centre out, so
that the ends of a picture that is not square are invisible. Which one is in force is read from
the loaded image processor; the option `geometry` = crop or pad chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import LlavaProcessor, PreTrainedModel
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vg_engine.core.errors import InputError, PictureError, UnsupportedModelError
from vg_engine.core.geometry import Frame
from vg_engine.core.types import LoadedModel
from vg_engine.model_adapters.grids import Grid
from vg_engine.model_adapters.huggingface import HuggingFaceAdapter

# Beyond this ratio of the sides the ends of a cropped picture are cut off before it is enlarged:
# 1 x 5000 would grow to 336 x 1,680,000 pixels first.
_LONGEST = 16
_LARGEST_SQUARE = 1 << 28


class LlavaAdapter(HuggingFaceAdapter):
    """Models of type `llava`: a CLIP tower, two linear layers, any decoder."""

    name: ClassVar[str] = "llava"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    processor_class: ClassVar[Any] = LlavaProcessor
    option_names: ClassVar[tuple[str, ...]] = ("geometry", "padding_side")

    def adapt_processor(
        self, processor: Any, module: PreTrainedModel, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[str, ...]]:
        """Take patch size and class token from the config, and the geometry from the options."""
        config = module.config
        processor.patch_size = config.vision_config.patch_size
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy
        if config.vision_config.model_type.startswith("clip"):
            # The class token, which older files leave out.
            processor.num_additional_image_tokens = 1
        asked = options.get("geometry")
        if asked not in (None, "crop", "pad"):
            raise InputError(f"geometry {asked!r}: choose crop or pad")
        if asked is not None and asked != _geometry(processor.image_processor):
            processor.image_processor = _switched(processor.image_processor, asked)
        if _geometry(processor.image_processor) == "pad":
            said = "Pictures are padded to a square, as LLaVA-1.5 was trained."
        else:
            said = (
                "Pictures are cut to a square around their centre: what lies outside is never "
                "found (option geometry=pad shows the whole picture, as LLaVA-1.5 was trained)."
            )
        return processor, (said,)

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """All of it, but for the invisible ends of a picture that is a strip."""
        width, height = size
        short, long = sorted(size)
        if _geometry(model.processor.image_processor) == "pad":
            if long * long > _LARGEST_SQUARE:
                raise PictureError(
                    f"a picture of {width} x {height} cannot be padded to a square; cut it first"
                )
            return 0, 0, width, height
        # An even number is taken off, the same at both ends, so that the centre stays the centre.
        off = max(0, long - _LONGEST * short) // 2
        if width > height:
            return off, 0, width - 2 * off, height
        return 0, off, width, height - 2 * off

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of patches on what the image processor makes of the picture."""
        images, patch = model.processor.image_processor, model.processor.patch_size
        if _geometry(images) == "pad":
            side = max(frame.width, frame.height)
            left, top = (side - frame.width) // 2, (side - frame.height) // 2
            frame = frame.pad(left, top, side - frame.width - left, side - frame.height - top)
        if images.do_resize:
            frame = frame.resize(*_resized(images.size, frame))
        if images.do_center_crop:
            width, height = images.crop_size["width"], images.crop_size["height"]
            left, top = (frame.width - width) // 2, (frame.height - height) // 2
            frame = frame.crop(left, top, float(width), float(height))
        rows, cols = int(frame.height) // patch, int(frame.width) // patch
        # Pixels beyond the last whole patch are not looked at.
        frame = frame.crop(0.0, 0.0, float(cols * patch), float(rows * patch))
        dropped = model.processor.vision_feature_select_strategy == "default"
        return [Grid(frame, rows, cols, skip=model.processor.num_additional_image_tokens - dropped)]


def _geometry(images: Any) -> str:
    """`pad` or `crop`, as the image processor does it."""
    if not getattr(images, "do_pad", False):
        return "crop"
    if not isinstance(images, LlavaImageProcessorPil):
        raise UnsupportedModelError(f"{type(images).__name__} pads in a way that is not known here")
    return "pad"


def _switched(images: Any, geometry: str) -> Any:
    settings = {**images.to_dict(), "do_pad": geometry == "pad"}
    settings.pop("image_processor_type", None)
    return LlavaImageProcessorPil.from_dict(settings)


def _resized(size: Any, frame: Frame) -> tuple[float, float]:
    """Width and height after resizing, rounded as the image processor rounds."""
    edge = size.get("shortest_edge")
    if edge is None:
        return float(size["width"]), float(size["height"])
    short, long = sorted((frame.width, frame.height))
    grown = float(int(edge * long / short))
    return (float(edge), grown) if frame.width <= frame.height else (grown, float(edge))
