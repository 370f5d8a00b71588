"""LLaVA-1.5, with either of the two ways in which its pictures are made square.

The original pads a picture to a square; the converted checkpoints (`-hf`) cut its centre out, so
that the ends of a picture that is not square are invisible. Which one is in force is read from
the loaded image processor; the option `geometry` = crop or pad chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import InputError, PictureError, UnsupportedModelError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, HuggingFaceAdapter, Options

# Beyond this ratio of the sides a cropped picture's ends go first: 1 x 5000 would grow enormous.
_LONGEST = 16
_LARGEST_SQUARE = 1 << 28


class LlavaAdapter(HuggingFaceAdapter):
    """Models of type `llava`: a CLIP tower, two linear layers, any decoder."""

    name: ClassVar[str] = "llava"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    processor_class: ClassVar[Any] = LlavaProcessor
    layout: ClassVar[str] = "one grid; centre crop, or padded to a square (option geometry)"
    option_names: ClassVar[tuple[str, ...]] = ("geometry", "padding_side")

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """All but the models of this type with a Pixtral tower, which keeps a picture's shape."""
        tower = config.get("vision_config") or {}
        return super().claims(config) and tower.get("model_type") != "pixtral"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Take patch size and class token from the config, and the geometry from the options."""
        fit_counts(processor, module.config)
        asked = options.get("geometry")
        if asked not in (None, "crop", "pad"):
            raise InputError(f"geometry {asked!r}: choose crop or pad")
        if asked is not None and asked != _geometry(processor.image_processor):
            processor.image_processor = _switched(processor.image_processor, asked)
        if _geometry(processor.image_processor) == "pad":
            statement = "Pictures are padded to a square, as LLaVA-1.5 was trained."
        else:
            statement = (
                "Pictures are cut to a square around their centre: what lies outside is never "
                "found (option geometry=pad shows the whole picture, as LLaVA-1.5 was trained)."
            )
        return processor, (statement,)

    def bare_prompt(self, model: LoadedModel) -> str:
        """LLaVA v1 says where a picture begins and ends."""
        marked = getattr(model.module.config, "mm_use_im_start_end", False)
        return self.bare.replace("{image}", "<im_start>{image}<im_end>") if marked else self.bare

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """All of it, but for the invisible ends of a picture that is a strip."""
        width, height = size
        short, long = sorted(size)
        if _geometry(model.processor.image_processor) == "pad":
            if long * long > _LARGEST_SQUARE:
                raise PictureError(f"{width} x {height} cannot be padded to a square; cut it first")
            return 0, 0, width, height
        # An even number is taken off, the same at both ends, so that the centre stays the centre.
        off = max(0, long - _LONGEST * short) // 2
        left, top = (off, 0) if width > height else (0, off)
        return left, top, width - 2 * left, height - 2 * top

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid of patches on what the image processor makes of the picture."""
        images = model.processor.image_processor
        if _geometry(images) == "pad":
            frame = resize_steps.padded_square(frame)
        if images.do_resize:
            edge = images.size.get("shortest_edge")
            frame = (
                resize_steps.shortest_edge(frame, edge)
                if edge
                else resize_steps.squashed(frame, images.size)
            )
        if images.do_center_crop:
            frame = resize_steps.centre_crop(frame, images.crop_size)
        frame, shape = resize_steps.whole_patches(frame, model.processor.patch_size)
        dropped = model.processor.vision_feature_select_strategy == "default"
        skip = model.processor.num_additional_image_tokens - dropped
        return [Grid(frame, *shape, skip=skip)]


def fit_counts(processor: Any, config: Any) -> None:
    """Let a processor count a tower's tokens as the config of the model says."""
    processor.patch_size = config.vision_config.patch_size
    # VipLLaVA does not say: it always drops the class token.
    strategy = getattr(config, "vision_feature_select_strategy", "default")
    processor.vision_feature_select_strategy = strategy
    if config.vision_config.model_type.startswith("clip"):
        # The class token, which older files leave out.
        processor.num_additional_image_tokens = 1


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
