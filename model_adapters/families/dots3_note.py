"""dots3 note: laid out as Qwen2-VL, read by latent attention that picks its keys.

Only layers of the model's own number of heads have maps: the others see a sliding window, which is
shorter than most pictures, and have fewer heads. Each query of a layer with a map attends to a
limited number of keys (2048), chosen by an indexer: what it did not choose is zero in its row.
The family's own processor insists on its video and sound parts, so Qwen2-VL's stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter, named_by_config
from vg_engine.model_adapters.shared.huggingface import Adapted, Options


class Dots3NoteAdapter(Qwen2VLAdapter):
    """Models of type `dots3_note`, with pictures alone."""

    name: ClassVar[str] = "dots3_note"
    model_types: ClassVar[tuple[str, ...]] = ("dots3_note",)
    bare: ClassVar[str] = "{system} <|img|>{image}<|endofimg|>\n{text}"
    # Positions are of one axis here: kinds of tokens are not wanted.
    processor_call: ClassVar[Mapping[str, Any]] = {"return_mm_token_type_ids": False}

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """The layers that may attend to all of the picture."""
        kinds = module.config.get_text_config().layer_types
        return [index for index, kind in enumerate(kinds) if kind != "sliding_attention"]

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Name this family's token for a picture."""
        return super().adapt_processor(named_by_config(processor, module), module, options)
