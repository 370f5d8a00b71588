"""Mini-Gemini (MGM): a picture seen twice, and its two views joined by patch-info mining.

A CLIP tower sees the picture at low resolution and gives one token per patch; a ConvNeXt sees it
at high resolution and gives a map of features. Each token then looks, by one attention without
heads, at that part of the map alone which shows its own patch, and adds what it finds to itself.
Number and places of the tokens stay those of the CLIP grid. The sums go through two linear layers
into the language model, Gemma or one of Llama's type.

Written from the description in the paper (Li et al. 2024, "Mini-Gemini") and the published code
(dvlab-research/MGM: `unified_resampler` and `encode_images` in mgm/model/mgm_arch.py, `backbone`
in mgm/model/multimodal_encoder/openclip_encoder.py), whose names of the three projectors are kept.
Left out: `image_grid` and `image_global`, the larger pictures of the HD variants.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    GenerationMixin,
    LlavaConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from vg_engine.model_adapters.modules.parts import built, finish

# OpenCLIP's `convnext_large_d_320` (timm's `convnext_large`).
_CONVNEXT_LARGE: dict[str, Any] = {
    "hidden_sizes": [192, 384, 768, 1536],
    "depths": [3, 3, 27, 3],
    "image_size": 768,
}


class MiniGeminiConfig(LlavaConfig):  # type: ignore[no-untyped-call]  # its base has no types
    """LLaVA's config, and the tower of high resolution.

    Attributes:
        aux_config: of the ConvNeXt; the published models have the large one.
        image_size_aux: side of its square pictures, in pixels.
    """

    model_type = "mini_gemini"
    # transformers checks configs itself; one more checker would refuse what it lets through.
    __no_type_check__ = True

    aux_config: Any = None
    image_size_aux: int = 768

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.aux_config, ConvNextConfig):
            self.aux_config = ConvNextConfig(**(self.aux_config or _CONVNEXT_LARGE))
        rest: Any = super()
        rest.__post_init__(**kwargs)


class HighResolutionTower(nn.Module):
    """A ConvNeXt without its head, all of whose stages are looked at."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.convnext = ConvNextModel(config)
        # It norms a mean that is never used; the published weights do not hold it.
        pooled: Any = nn.Identity()
        self.convnext.layernorm = pooled

    def forward(
        self, pixel_values: Float[torch.Tensor, "pictures 3 height width"]
    ) -> Float[torch.Tensor, "pictures channels rows cols"]:
        """The stages' maps, enlarged to the first one's size and stacked, the first stage first."""
        hidden: torch.Tensor = self.convnext.embeddings(pixel_values)
        maps: list[torch.Tensor] = []
        for stage in self.convnext.encoder.stages:
            hidden = stage(hidden)
            maps.append(_enlarged(hidden, maps[0]) if maps else hidden)
        return torch.cat(maps, dim=1)


def _enlarged(hidden: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    size = (like.shape[-2], like.shape[-1])
    grown = functional.interpolate(hidden.float(), size=size, mode="bilinear", align_corners=False)
    return grown.to(hidden.dtype)


class PatchInfoMining(nn.Module):
    """Attend from each token to its own part of the high-resolution map."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.vlm_uni_query_projector = nn.Sequential(nn.LayerNorm(low), nn.Linear(low, low))
        self.vlm_uni_aux_projector = nn.Sequential(nn.LayerNorm(high), nn.Linear(high, low))
        self.vlm_uni_val_projector = nn.Sequential(nn.LayerNorm(high), nn.Linear(high, low))

    def forward(
        self,
        tokens: Float[torch.Tensor, "pictures tokens low"],
        detail: Float[torch.Tensor, "pictures high side side"],
    ) -> Float[torch.Tensor, "pictures tokens low"]:
        """The finds alone, to be added to the tokens.

        Args:
            tokens: of a square grid, row by row.
            detail: the map of the same square picture; each token's part of it is a square.

        Raises:
            ValueError: the map does not divide into the grid.
        """
        parts = parts_of(detail, math.isqrt(tokens.shape[1]))
        query = self.vlm_uni_query_projector(tokens)
        keys = self.vlm_uni_aux_projector(parts)
        values = self.vlm_uni_val_projector(parts)
        scores = torch.einsum("ptc,ptkc->ptk", query, keys / math.sqrt(keys.shape[-1]))
        # As published: what is too large for half precision stays a number.
        scores = scores.nan_to_num()
        weights = scores.float().softmax(-1).to(values.dtype)
        return torch.einsum("ptk,ptkc->ptc", weights, values)


def parts_of(
    detail: Float[torch.Tensor, "pictures high side side"], grid: int
) -> Float[torch.Tensor, "pictures tokens cells high"]:
    """A map cut into `grid` x `grid` squares, row by row, and each of them into its cells.

    Raises:
        ValueError: it does not divide.
    """
    side = detail.shape[-1]
    if side % grid:
        raise ValueError(
            f"a map of {side} x {side} does not divide into {grid} x {grid} tokens; image_size_aux "
            "must be a multiple of four times the grid"
        )
    cells = side // grid
    # Pictures, channels, then rows of parts, rows of cells, columns of parts, columns of cells.
    split = detail.reshape(*detail.shape[:2], grid, cells, grid, cells)
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


class MiniGeminiPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]  # its base has no types
    """Base of both models below."""

    config_class = MiniGeminiConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities: Any = ("image", "text")
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class MiniGeminiModel(MiniGeminiPreTrainedModel):  # type: ignore[no-untyped-call]  # its base has no types
    """Towers, mining, projector and language model, without the output head."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        self.vision_tower: Any = built(vision)
        self.vision_tower_aux = HighResolutionTower(config.aux_config)
        self.mining = PatchInfoMining(vision.hidden_size, sum(config.aux_config.hidden_sizes))
        self.multi_modal_projector = nn.Sequential(
            nn.Linear(vision.hidden_size, text.hidden_size),
            nn.GELU(),
            nn.Linear(text.hidden_size, text.hidden_size),
        )
        self.language_model: Any = built(text)
        finish(self)

    def get_image_features(
        self,
        pixel_values: Float[torch.Tensor, "pictures 3 low low"],
        pixel_values_aux: Float[torch.Tensor, "pictures 3 high high"],
    ) -> Float[torch.Tensor, "pictures tokens text"]:
        """A picture's tokens as the language model takes them, row by row."""
        seen = self.vision_tower(pixel_values, output_hidden_states=True, return_dict=True)
        tokens = seen.hidden_states[self.config.vision_feature_layer][:, 1:]
        detail = self.vision_tower_aux(pixel_values_aux).to(tokens.dtype)
        features = self.multi_modal_projector(tokens + self.mining(tokens, detail))
        # Gemma was made to scale whatever it is given, pictures too. In transformers its embedding
        # scales, which pictures do not pass.
        scale = getattr(self.get_input_embeddings(), "embed_scale", None)
        scaled: torch.Tensor = features if scale is None else features * scale.to(features.dtype)
        return scaled

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_aux: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **options: Any,
    ) -> BaseModelOutputWithPast:
        """Put the pictures' tokens in their places and run the language model.

        Args:
            input_ids: batch x tokens; or `inputs_embeds`, batch x tokens x width.
            pixel_values: pictures x 3 x 336 x 336.
            pixel_values_aux: the same pictures, x 3 x 768 x 768.
            attention_mask: batch x keys, or as the language model takes it.
            position_ids: batch x tokens.
            past_key_values: the language model's cache.
            inputs_embeds: tokens with their pictures already in place.
            options: handed on to the language model.

        Raises:
            ValueError: one of the two views is missing, or more or fewer tokens than places.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if pixel_values is not None:
                if pixel_values_aux is None:
                    raise ValueError("a picture needs both its views: pixel_values_aux is missing")
                features = self.get_image_features(pixel_values, pixel_values_aux)
                places = input_ids == self.config.image_token_id
                inputs_embeds = _placed(inputs_embeds, places, features)
        answer: BaseModelOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **options,
        )
        return answer


def _placed(embedded: Any, places: Any, features: torch.Tensor) -> torch.Tensor:
    if int(places.sum()) != features.shape[0] * features.shape[1]:
        raise ValueError(
            f"{int(places.sum())} image tokens for {features.shape[0]} x {features.shape[1]} "
            "features"
        )
    put: torch.Tensor = embedded.masked_scatter(places[..., None], features.to(embedded.dtype))
    return put


class MiniGeminiForConditionalGeneration(  # type: ignore[no-untyped-call]  # its base has no types
    MiniGeminiPreTrainedModel, GenerationMixin
):
    """Mini-Gemini with its output head; keys `model.*` and `lm_head.weight`, which may be tied."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012 - transformers' own way to state it

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        text = config.text_config
        self.model = MiniGeminiModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        finish(self)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_aux: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """As `MiniGeminiModel.forward`, with logits of the last `logits_to_keep` tokens, or all."""
        answer = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_aux=pixel_values_aux,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **{**options, "return_dict": True},
        )
        hidden = answer.last_hidden_state
        return CausalLMOutputWithPast(
            logits=self.lm_head(hidden[:, -logits_to_keep:]),
            past_key_values=answer.past_key_values,
            hidden_states=answer.hidden_states,
            attentions=answer.attentions,
        )
