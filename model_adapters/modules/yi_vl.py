"""Yi-VL: LLaVA with two more norms in its projector.

The original (01-ai/Yi, VL/llava/model/multimodal_projector/builder.py) calls this projector
`mlp2x_gelu_Norm`: a LayerNorm with PyTorch's own epsilon stands behind each of the two linear
layers. Everything else is transformers' LLaVA: a CLIP tower, whose last layer but one is taken
without the class token, and a language model of Llama's type.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaModel

from vg_engine.model_adapters.modules.parts import finish


class YiVLConfig(LlavaConfig):  # type: ignore[no-untyped-call]  # its base has no types
    """LLaVA's config under a model type of its own."""

    model_type = "yi_vl"
    # transformers checks configs itself; one more checker would refuse what it lets through.
    __no_type_check__ = True


class YiVLProjector(nn.Module):
    """Linear, LayerNorm, GELU, linear, LayerNorm."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        inner, outer = config.vision_config.hidden_size, config.text_config.hidden_size
        self.linear_1 = nn.Linear(inner, outer)
        self.norm_1 = nn.LayerNorm(outer)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(outer, outer)
        self.norm_2 = nn.LayerNorm(outer)

    def forward(
        self, image_features: Float[torch.Tensor, "pictures patches vision"]
    ) -> Float[torch.Tensor, "pictures patches text"]:
        """From the tower's width to the language model's."""
        hidden = self.act(self.norm_1(self.linear_1(image_features)))
        projected: torch.Tensor = self.norm_2(self.linear_2(hidden))
        return projected


class YiVLModel(LlavaModel):  # type: ignore[no-untyped-call]  # its base has no types
    """Tower, projector and language model. A class of its own keeps its keys as they are named."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        projector: Any = YiVLProjector(config)
        self.multi_modal_projector = projector
        finish(self)


class YiVLForConditionalGeneration(LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]  # its base has no types
    """Yi-VL with its output head; keys `model.*` and `lm_head.weight`."""

    config_class = YiVLConfig

    def __init__(self, config: Any) -> None:
        # Past the parent's own: it would build its LlavaModel first.
        super(LlavaForConditionalGeneration, self).__init__(config)
        text = config.text_config
        self.model = YiVLModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        finish(self)
