"""LightOnOCR: Mistral 3's picture and merged patches, without tokens between the rows.

The picture is squashed to whole patches of the tower; where these do not make whole merged cells,
the last row or column of patches is dropped.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LightOnOcrProcessor
from transformers.image_processing_utils import get_size_dict

from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.pixtral import PixtralAdapter


class LightOnOcrAdapter(PixtralAdapter):
    """Models of type `lighton_ocr`: a Pixtral tower and Qwen3."""

    name: ClassVar[str] = "lighton_ocr"
    model_types: ClassVar[tuple[str, ...]] = ("lighton_ocr",)
    processor_class: ClassVar[Any] = LightOnOcrProcessor
    layout: ClassVar[str] = "one grid in the picture's own shape; patches merged 2 x 2"

    def step(self, model: LoadedModel) -> int:
        """The image processor's own patch size."""
        size = get_size_dict(model.processor.image_processor.patch_size, default_to_square=True)
        return int(size["height"])
