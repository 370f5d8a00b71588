"""T5Gemma 2: an encoder built as Gemma 3, and a decoder; what is read is the encoder.

Picture and prompt see each other in both directions there. The decoder gets its opening token and
nothing else.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.families.gemma3 import Gemma3Adapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options, Tensors


class T5Gemma2Adapter(Gemma3Adapter):
    """Models of type `t5gemma2`."""

    name: ClassVar[str] = "t5gemma2"
    model_types: ClassVar[tuple[str, ...]] = ("t5gemma2",)
    layout: ClassVar[str] = "as Gemma 3's; encoder heads"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say where the heads are."""
        processor, statements = super().adapt_processor(processor, module, options)
        return processor, (*statements, "Layers and heads are the encoder's.")

    def language_model(self, module: Any) -> Any:
        """The encoder's text model."""
        return module.base_model.encoder.text_model

    def vision_tower(self, module: Any) -> Any:
        """The encoder's."""
        return module.base_model.encoder.vision_tower

    def tokens_of_picture(self, module: Any) -> int:
        """Of the encoder's config."""
        return int(module.config.encoder.mm_tokens_per_image)

    def model_inputs(self, model: LoadedModel, tensors: Tensors) -> dict[str, torch.Tensor]:
        """With the decoder's opening token, which the model does not add by itself."""
        config: Any = model.module.config
        ids = tensors["input_ids"]
        opening = torch.full_like(ids[:, :1], int(config.decoder.bos_token_id))
        return {**tensors, "decoder_input_ids": opening}
