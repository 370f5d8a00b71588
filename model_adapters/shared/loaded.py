"""Parts kept with a loaded model, from switching capture on until the model is closed."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from vg_engine.core.contract.model import Capabilities, LoadedModel, ModelSpec
from vg_engine.core.errors import PluginError, UnsupportedModelError
from vg_engine.model_adapters.shared import capture
from vg_engine.model_adapters.shared.early_exit import Twins, can_truncate, path_to
from vg_engine.model_adapters.shared.loading import execution_device

_KEY = "huggingface"


@dataclass(frozen=True, eq=False)
class LoadedParts:
    """The adapter's own parts in `LoadedModel.context`.

    Attributes:
        twins: the model without its head, truncated after any layer.
        decoder: its part with the decoder layers.
        dtype: of the decoder; other parts may have another.
        layers: id of a module inside a decoder layer -> index of that layer.
        options: `ModelSpec.options`.
        image_token: placeholder of a picture in a prompt.
        image_token_id: id of the tokens that it becomes.
        tokenizer_lock: taken while the tokenizer works, as it keeps the padding of its last call
            and refuses two threads at a time.
        generation_lock: taken while the model generates, which leaves its shift of positions on it.
    """

    twins: Twins
    decoder: Any
    dtype: torch.dtype
    layers: Mapping[int, int]
    options: Mapping[str, Any]
    image_token: str
    image_token_id: int
    tokenizer_lock: threading.Lock = field(default_factory=threading.Lock)
    generation_lock: threading.Lock = field(default_factory=threading.Lock)


def parts_of(model: LoadedModel) -> LoadedParts:
    """Return the parts kept with a model.

    Raises:
        PluginError: another adapter loaded it.
    """
    kept = model.context.get(_KEY)
    if not isinstance(kept, LoadedParts):
        raise PluginError(f"{model.name!r} was loaded by another adapter; use that one")
    return kept


def prepare_model(
    spec: ModelSpec,
    module: Any,
    decoder: Any,
    processor: Any,
    *,
    image_token: str,
    image_token_id: int | None,
    map_layers: Sequence[int] | None,
    statements: tuple[str, ...],
) -> LoadedModel:
    """Switch capture on and describe the model.

    Args:
        spec: the requested model.
        module: the whole model, with its head.
        decoder: the part with the decoder layers, as `.layers`.
        processor: the adapter's own copy.
        image_token: placeholder of a picture in a prompt.
        image_token_id: id of the picture's tokens in a sequence.
        map_layers: the layers that see the picture; None means all.
        statements: the family's notes for users.

    Raises:
        UnsupportedModelError: the tokenizer gives no character offsets, there is no image token, or
            the attention cannot be captured.
    """
    if not getattr(processor.tokenizer, "is_fast", False):
        raise UnsupportedModelError(
            f"{spec.source}: its tokenizer gives no character offsets; it needs tokenizer.json"
        )
    base, layers = module.base_model, decoder.layers
    path = path_to(base, layers)
    early = can_truncate(base, path)
    text = module.config.get_text_config()
    if getattr(text, "is_heterogeneous", False):
        # Sorts of layers differ in their number of heads; those with maps are of one sort.
        text = text.per_layer_config[map_layers[0] if map_layers else 0]
    heads = int(text.num_attention_heads)
    placeholder = processor.tokenizer.convert_tokens_to_ids(image_token) if image_token else None
    if placeholder is None or image_token_id is None:
        raise UnsupportedModelError(
            f"{spec.source}: its tokenizer does not know the image token {image_token!r}; choose "
            f"the adapter for models of type {module.config.model_type!r}"
        )
    if map_layers is not None and not map_layers:
        raise UnsupportedModelError(f"{spec.source}: no layer's attention sees the picture")
    # The last step that may fail: from here on the model is changed until it is closed.
    before, close = capture.install(decoder)
    if "flash" in before:
        statements += (f"Loaded with {before}; while it is open, sdpa runs in its place.",)
    if decoder.dtype != module.dtype:
        statements += (f"Its language model is in {decoder.dtype}, not in {module.dtype}.",)
    if not early:
        statements += ("Parts of the model are offloaded, so every layer runs.",)
    kept = LoadedParts(
        twins=Twins(base, path, len(layers)),
        decoder=decoder,
        dtype=decoder.dtype,
        layers=capture.layer_index(layers),
        options=MappingProxyType(dict(spec.options)),
        image_token=image_token,
        image_token_id=int(image_token_id),
    )
    return LoadedModel(
        name=spec.source or str(getattr(module, "name_or_path", "")) or type(module).__name__,
        module=module,
        processor=processor,
        layers=len(layers),
        heads=heads,
        device=execution_device(module),
        dtype=module.dtype,
        revision=spec.revision,
        map_layers=None if map_layers is None else tuple(map_layers),
        capabilities=Capabilities(early_exit=early),
        statements=statements,
        context=MappingProxyType({_KEY: kept}),
        close=close,
    )
