"""MiniMax-M3: laid out as Qwen2-VL, in front of a decoder that attends to chosen blocks of keys.

In most layers each query attends to the best blocks of keys for its group of heads, and to its own;
a map is exactly zero over the blocks that were left out. Blocks are counted from the first slot of
a sequence, so padding on the left would shift them: it is always on the right here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import MiniMaxM3VLProcessor

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class MiniMaxM3VLAdapter(Qwen2VLAdapter):
    """Models of type `minimax_m3_vl`."""

    name: ClassVar[str] = "minimax_m3_vl"
    model_types: ClassVar[tuple[str, ...]] = ("minimax_m3_vl",)
    processor_class: ClassVar[Any] = MiniMaxM3VLProcessor
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "torchvision"
    bare: ClassVar[str] = "{system} {image}\n{text}"
    option_names: ClassVar[tuple[str, ...]] = ("max_pixels", "min_pixels")

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Pad on the right, with any token: the published tokenizer has none for it."""
        processor, statements = super().adapt_processor(processor, module, options)
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "right"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        blocks = "Heads of a group see the same blocks of tokens; a map is zero over all others."
        return processor, (*statements, blocks)

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """All: the sparse ones attend, too."""
        del module
        return None
