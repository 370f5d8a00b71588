"""Mini-Gemini (MGM): a LLaVA that looks twice; its tokens are the patches of the smaller picture.

The model itself is our own (modules/mini_gemini.py). Its folder holds LLaVA's processor; the
adapter makes its image processor give the larger picture, too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vg_engine.core.contract.model import ModelSpec
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.modules.mini_gemini import MiniGeminiForConditionalGeneration
from vg_engine.model_adapters.modules.mini_gemini_images import MiniGeminiImageProcessorPil
from vg_engine.model_adapters.modules.parts import unregistered
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class MiniGeminiAdapter(LlavaAdapter):
    """Models of type `mini_gemini`, as `vg-engine convert` writes them."""

    name: ClassVar[str] = "mini_gemini"
    model_types: ClassVar[tuple[str, ...]] = ("mini_gemini",)
    auto_class: ClassVar[Any] = MiniGeminiForConditionalGeneration
    layout: ClassVar[str] = "one grid, padded to a square; details from a larger picture"
    option_names: ClassVar[tuple[str, ...]] = ("padding_side",)

    def load_processor(self, spec: ModelSpec) -> Any:
        """The processor of a checkpoint, from its files."""
        with unregistered():
            return super().load_processor(spec)

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Let the image processor make both pictures, of the sizes that the config names."""
        config: Any = module.config
        processor.image_processor = MiniGeminiImageProcessorPil.like(
            processor.image_processor,
            size=config.vision_config.image_size,
            aux_size=config.image_size_aux,
        )
        processor, _ = super().adapt_processor(processor, module, options)
        return processor, ("Pictures are padded to a square, and shown at two sizes.",)
