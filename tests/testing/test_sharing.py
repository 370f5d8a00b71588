"""Declared capabilities are held to their word: kept prefixes and packed expressions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Encoding, Scene
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.testing import ContractError, open_adapter, sharing
from vg_engine.testing.tiny import tiny_llava


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("sharing") / "llava", layers=3))


@dataclass(frozen=True, eq=False)
class Kept:
    """A picture and the prompt's beginning, as keys and values per layer."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    ids: torch.Tensor

    def cache(self, batch: int) -> DynamicCache:
        cache = DynamicCache()
        for index, (keys, values) in enumerate(self.layers):
            cache.update(
                *(each.expand(batch, -1, -1, -1).clone() for each in (keys, values)), index
            )
        return cache


class KeepingAdapter(LlavaAdapter):
    """Encodes a picture once; each expression's own tokens alone go through the model."""

    def vg_load_model(self, spec):
        spec = replace(spec, options={**spec.options, "padding_side": "right"})
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, prefix_reuse=True))

    def vg_open_scene(self, model, picture, prompt, depth):
        asked = [Expression(0, "a"), Expression(0, "b")]
        tensors = super().vg_prepare_inputs(model, [Scene(picture)], asked, prompt).tensors
        first, second = tensors["input_ids"]
        shared = int((first != second).nonzero()[0])
        with torch.no_grad():
            answer = model.module.base_model(
                input_ids=first[None, :shared],
                pixel_values=tensors["pixel_values"][:1],
                position_ids=torch.arange(shared)[None],
                use_cache=True,
            )
        layers = tuple((layer.keys, layer.values) for layer in answer.past_key_values.layers)
        kept = Kept(layers, first[:shared])
        held = sum(each.nbytes for layer in layers for each in layer)
        return Encoding(prompt, depth, held, kept)

    def vg_prepare_inputs(self, model, scenes, expressions, prompt):
        whole = super().vg_prepare_inputs(model, scenes, expressions, prompt)
        if scenes[0].encoding is None:
            return whole
        prefix = scenes[0].encoding.data
        shared = len(prefix.ids)
        tensors = {k: v for k, v in whole.tensors.items() if k != "pixel_values"}
        for name in ("input_ids", "position_ids"):
            tensors[name] = tensors[name][:, shared:]
        queries = tuple(
            replace(q, rows=tuple(row - shared for row in q.rows), prefix_end=shared)
            for q in whole.queries
        )
        return replace(
            whole,
            tensors=MappingProxyType(tensors),
            queries=queries,
            context=MappingProxyType({"kept": prefix}),
        )

    def image_positions(self, model, inputs, sequence):
        kept = inputs.context.get("kept")
        if kept is None:
            return super().image_positions(model, inputs, sequence)
        return np.flatnonzero(kept.ids.numpy() == model.module.config.image_token_id)

    def cache(self, kept: Kept, batch: int) -> DynamicCache:
        return kept.cache(batch)

    def vg_extract_attention(self, model, inputs, request):
        kept = inputs.context.get("kept")
        if kept is not None:
            # A cache grows as it is used: every pass gets one of its own.
            tensors: Mapping[str, Any] = {
                **inputs.tensors,
                "past_key_values": self.cache(kept, len(inputs.tensors["input_ids"])),
            }
            inputs = replace(inputs, tensors=MappingProxyType(tensors))
        return super().vg_extract_attention(model, inputs, request)


def test_a_sound_prefix_is_exact(folder):
    opened = open_adapter(KeepingAdapter(), folder)
    seen = []
    layer = opened.model.module.get_decoder().layers[0]
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    assert sharing.check_prefix(opened) < sharing.TOLERANCE
    assert sharing.check_prefix(opened, Prompt("chat")) < sharing.TOLERANCE
    handle.remove()
    # The picture's 64 tokens went through when it was kept, not when it was asked about.
    assert min(seen) < 64 < max(seen)


def test_a_prefix_that_its_use_changes_is_found(folder):
    class Growing(KeepingAdapter):
        def __init__(self):
            self.caches = {}

        def cache(self, kept, batch):
            return self.caches.setdefault(id(kept), kept.cache(batch))

    with pytest.raises((ContractError, ValueError, IndexError, RuntimeError)):
        sharing.check_prefix(open_adapter(Growing(), folder))


def test_a_prefix_of_another_picture_is_found(folder):
    class Stale(KeepingAdapter):
        first = None

        def vg_open_scene(self, model, picture, prompt, depth):
            Stale.first = Stale.first or super().vg_open_scene(model, picture, prompt, depth)
            return Stale.first

    with pytest.raises(ContractError, match="with a kept prefix differs from alone by"):
        sharing.check_prefix(open_adapter(Stale(), folder))


def test_a_prefix_that_is_declared_and_never_kept_is_found(folder):
    class Boasting(LlavaAdapter):
        def vg_load_model(self, spec):
            loaded = super().vg_load_model(spec)
            return replace(loaded, capabilities=replace(loaded.capabilities, prefix_reuse=True))

    with pytest.raises(ContractError, match="vg_open_scene answers nothing"):
        sharing.check_prefix(open_adapter(Boasting(), folder))


def test_packing_that_packs_nothing_is_found(folder):
    with pytest.raises(ContractError, match="every expression has a sequence of its own"):
        sharing.check_packing(open_adapter(LlavaAdapter(), folder))
