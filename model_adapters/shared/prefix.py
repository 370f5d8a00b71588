"""Kept prefixes: a picture and the beginning of its prompt, encoded once for many expressions.

The prefix is what all prompts about a picture begin with: system sentence, picture, and whatever
stands between them and the expression. Its keys and values of the first layers are kept; behind
them only an expression's own tokens go through the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from vg_engine.core.contract.inputs import (
    AttentionRequest,
    AttentionRows,
    Expression,
    PreparedInputs,
)
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Encoding, Scene
from vg_engine.model_adapters.shared import prompts
from vg_engine.model_adapters.shared.huggingface import HuggingFaceAdapter
from vg_engine.model_adapters.shared.loaded import parts_of
from vg_engine.model_adapters.shared.processor_errors import running

_ANY = "it"  # an expression, to see what stands before every one
_PREFIX, _SHARED = "prefix", "shared"  # in `PreparedInputs.context`
_States = Float[torch.Tensor, "batch kv_heads tokens dim"]


class _KeptLayer(DynamicLayer):  # type: ignore[no-untyped-call] # as transformers has it
    """One layer of a kept prefix: it hands out what it holds with a pass's own tokens behind it.

    Unlike its base it does not grow.
    """

    def __init__(self, keys: _States, values: _States) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as transformers has it
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._pair = keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of prefix and pass; the prefix stays as it is."""
        keys, values = self._pair
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


@dataclass(frozen=True, eq=False)
class Prefix:
    """The kept beginning of all prompts about one picture.

    Attributes:
        ids: its tokens.
        picture_end: position behind the picture's last token.
        written, expanded: the text up to the end of the picture's placeholder, as it is rendered
            and as the processor expanded it.
        options: how the processor calls its tokenizer.
        layers: keys and values, layer by layer, of one sequence.
    """

    ids: Int64[torch.Tensor, " tokens"]
    picture_end: int
    written: str
    expanded: str
    options: Mapping[str, Any]
    layers: list[tuple[_States, _States]]

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, bytes."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def tokenised(
        self, model: LoadedModel, places: Sequence[prompts.Rendered]
    ) -> tuple[dict[str, torch.Tensor], prompts.RecordingTokenizer]:
        """Tokenise whole prompts as the processor would, without their picture; padded behind."""
        recording = prompts.RecordingTokenizer(model.processor.tokenizer)
        options = {
            **self.options,
            "padding": len(places) > 1,
            "padding_side": "right",
            "return_tensors": "pt",
        }
        texts = [self.expanded + place.text[len(self.written) :] for place in places]
        with parts_of(model).tokenizer_lock:
            tokens = recording(texts, **options)
        return dict(tokens), recording

    def shared(self, inputs: PreparedInputs) -> int:
        """Count the kept tokens that whole prompts begin with and that are before all their rows.

        Usually all of them; not where an expression's first letters melt into the token before it,
        or where the rows are words of the template.
        """
        ids = inputs.tensors["input_ids"].to(self.ids.device)
        most = min(len(self.ids), *(row for query in inputs.queries for row in query.rows))
        other = (ids[:, :most] != self.ids[:most]).any(0).nonzero()
        return int(other[0]) if len(other) else most

    def cache(self, tokens: int, sequences: int) -> Cache:
        """Make a pass's own cache over the first kept tokens; nothing is copied."""
        return Cache(
            layers=[
                _KeptLayer(*(each[:, :, :tokens].expand(sequences, -1, -1, -1) for each in pair))
                for pair in self.layers
            ]
        )


class PrefixAdapter(HuggingFaceAdapter):
    """Keeps prefixes, in front of a family: `class Mine(PrefixAdapter, LlavaAdapter)`.

    For causal models whose picture stands before the expression, and whose layers all keep keys
    and values.
    """

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Declare that prefixes are kept."""
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, prefix_reuse=True))

    def vg_open_scene(
        self, model: LoadedModel, picture: Picture, prompt: Prompt, depth: int
    ) -> Encoding | None:
        """Encode what stands before any expression; None where the picture stands behind it."""
        asked = [Expression(0, _ANY)]
        (place,) = places = self.rendered(model, asked, prompt.beginning)
        tensors, recording = self._process(model, [picture], asked, places)
        token, expanded = parts_of(model).image_token, recording.texts[0]
        written = place.text[: place.text.find(token) + len(token)]
        rest = place.text[len(written) :]
        if len(written) > place.start or not expanded.endswith(rest):
            return None
        whole = self.prepared(model, [picture], asked, prompt.beginning, places, tensors, recording)
        start = place.moved(token, expanded).start
        end = int((recording.offsets[0, :, 1] > start).argmax())
        picture_end = int(self.image_positions(model, whole, 0).max()) + 1
        if picture_end > end:
            return None
        deep = depth if model.capabilities.early_exit else model.layers
        cache: Any = DynamicCache()
        given = _cut(self.given(model, whole).tensors, slice(end))
        with running(model), torch.no_grad():
            parts_of(model).twins.at(deep)(
                **given, past_key_values=cache, use_cache=True, return_dict=True
            )
        kept = Prefix(
            ids=whole.tensors["input_ids"][0, :end],
            picture_end=picture_end,
            written=written,
            expanded=expanded[: len(expanded) - len(rest)],
            options=recording.options,
            layers=[(layer.keys, layer.values) for layer in cache.layers],
        )
        return Encoding(prompt, deep, kept.nbytes, kept, kept.layers.clear)

    def vg_prepare_inputs(
        self,
        model: LoadedModel,
        scenes: Sequence[Scene],
        expressions: Sequence[Expression],
        prompt: Prompt,
    ) -> PreparedInputs:
        """Prepare what stands behind a kept prefix; everything, where nothing is kept."""
        encoding = scenes[0].encoding
        if encoding is None or len(scenes) > 1:
            return super().vg_prepare_inputs(model, scenes, expressions, prompt)
        kept: Prefix = encoding.data
        places = self.rendered(model, expressions, prompt)
        tensors, recording = kept.tokenised(model, places)
        pictures = [scene.picture for scene in scenes]
        whole = self.prepared(model, pictures, expressions, prompt, places, tensors, recording)
        shared = kept.shared(whole)
        if shared < kept.picture_end:  # the rows stand inside the picture
            return super().vg_prepare_inputs(model, scenes, expressions, prompt)
        mask = whole.tensors["attention_mask"]
        behind = {**_cut(whole.tensors, slice(shared, None)), "attention_mask": mask}
        queries = (
            replace(query, rows=tuple(row - shared for row in query.rows), prefix_end=shared)
            for query in whole.queries
        )
        return replace(
            whole,
            tensors=MappingProxyType(behind),
            queries=tuple(queries),
            context=MappingProxyType({_PREFIX: kept, _SHARED: shared}),
        )

    def image_positions(
        self, model: LoadedModel, inputs: PreparedInputs, sequence: int
    ) -> Int64[np.ndarray, " tokens"]:
        """As in the family; a kept picture's tokens are those of its prefix."""
        kept = inputs.context.get(_PREFIX)
        if kept is None:
            return super().image_positions(model, inputs, sequence)
        prefix = replace(inputs, tensors=MappingProxyType({"input_ids": kept.ids[None]}))
        return super().image_positions(model, prefix, 0)

    def vg_extract_attention(
        self, model: LoadedModel, inputs: PreparedInputs, request: AttentionRequest
    ) -> AttentionRows:
        """One pass of what stands behind the prefix, which is left as it is."""
        kept = inputs.context.get(_PREFIX)
        if kept is not None:
            cache = kept.cache(inputs.context[_SHARED], len(inputs.tensors["input_ids"]))
            tensors = MappingProxyType({**inputs.tensors, "past_key_values": cache})
            inputs = replace(inputs, tensors=tensors)
        return super().vg_extract_attention(model, inputs, request)


def _cut(tensors: Mapping[str, Any], part: slice) -> dict[str, Any]:
    """Cut what has an entry per token; pictures have floating-point entries."""
    text = tensors["input_ids"].shape[-1]
    return {
        name: tensor[..., part]
        if not tensor.is_floating_point() and tensor.shape[-1] == text
        else tensor
        for name, tensor in tensors.items()
    }
