"""HunYuan-VL (HunyuanOCR): merged patches with a newline behind each row, a begin and an end.

All of these stand in the sequence under the image token's own id, between the start and end tokens
that the processor insists on. The picture is squashed as Qwen2-VL's, to cells of 32 pixels.
Positions have as many axes as the config's `mrope_section`, and the last names the picture. The
model's rule counts pictures through a whole batch, where its own manual counts them in a sequence,
so it is asked sequence by sequence. The chat template writes the opening token and puts the user's
token behind the user's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import HunYuanVLProcessor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.model_adapters.shared import positions
from vg_engine.model_adapters.shared.huggingface import Grid, Tensors

# The processor of transformers wants these named, and Tencent's tokenizer does not name them.
_NAMED = (
    ("image_start_token", "<｜hy_place▁holder▁no▁100｜>"),
    ("image_end_token", "<｜hy_place▁holder▁no▁101｜>"),
    ("image_token", "<｜hy_place▁holder▁no▁102｜>"),
)


class NamingProcessor(HunYuanVLProcessor):
    """HunYuan-VL's processor, whose tokenizer need not name the tokens of pictures."""

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: Any, **settings: Any) -> Any:
        """From image processor and tokenizer, which gets the names that it lacks."""
        *_, tokenizer = args
        for name, token in _NAMED:
            if getattr(tokenizer, name, None) is None:
                setattr(tokenizer, name, token)
                setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
        return super().from_args_and_dict(args, processor_dict, **settings)


class HunYuanVLAdapter(Qwen2VLAdapter):
    """Models of type `hunyuan_vl`."""

    name: ClassVar[str] = "hunyuan_vl"
    model_types: ClassVar[tuple[str, ...]] = ("hunyuan_vl",)
    processor_class: ClassVar[Any] = NamingProcessor
    layout: ClassVar[str] = (
        "one grid in the picture's own shape; patches merged 2 x 2; a newline behind each row"
    )
    bare: ClassVar[str] = (
        "<｜hy_begin▁of▁sentence｜>{system}<｜hy_place▁holder▁no▁3｜>"
        "<｜hy_place▁holder▁no▁100｜>{image}<｜hy_place▁holder▁no▁101｜>{text}"
    )
    # The opening token stands in the prompt.
    processor_call: ClassVar[Mapping[str, Any]] = {"add_special_tokens": False}

    def position_ids(self, model: LoadedModel, tensors: Tensors) -> torch.Tensor | None:
        """As if each sequence, which holds one picture, were alone."""
        names = ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw")
        base: Any = model.module.base_model
        alone = [
            positions.position_ids(base, {name: tensors[name][index : index + 1] for name in names})
            for index in range(len(tensors["input_ids"]))
        ]
        return torch.cat(alone, dim=1)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """One grid with a newline behind each row, between a begin and an end."""
        (grid,) = super().grids(model, frame)
        return [grid._replace(skip=1, row_end=1, tail=1)]
