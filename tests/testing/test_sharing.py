"""Declared capabilities are held to their word: kept prefixes and packed expressions."""

from dataclasses import replace

import pytest

from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared.prefix import PrefixAdapter
from vg_engine.testing import ContractError, open_adapter, sharing
from vg_engine.testing.tiny import tiny_llava


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("sharing") / "llava", layers=3))


class KeepingAdapter(PrefixAdapter, LlavaAdapter):
    """Encodes a picture once; each expression's own tokens alone go through the model."""


def test_a_sound_prefix_is_exact(folder):
    opened = open_adapter(KeepingAdapter(), folder)
    seen = []
    layer = opened.model.module.get_decoder().layers[0]
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    assert sharing.check_prefix(opened) < 1e-5
    assert sharing.check_prefix(opened, Prompt("chat")) < 1e-5
    handle.remove()
    # The picture's 64 tokens went through when it was kept, not when it was asked about.
    assert min(seen) < 64 < max(seen)


class Changing(KeepingAdapter):
    """Its use changes what is kept."""

    def vg_extract_attention(self, model, inputs, request):
        found = super().vg_extract_attention(model, inputs, request)
        if "prefix" in inputs.context:
            for keys, _ in inputs.context["prefix"].layers:
                keys.mul_(1.1)
        return found


class Stale(KeepingAdapter):
    """Hands out what it kept of another picture."""

    first = None

    def vg_open_scene(self, model, picture, prompt, depth):
        self.first = self.first or super().vg_open_scene(model, picture, prompt, depth)
        return self.first


class Boasting(LlavaAdapter):
    """Keeps nothing."""

    def vg_load_model(self, spec):
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, prefix_reuse=True))


@pytest.mark.parametrize(
    ("adapter", "description"),
    [
        (Changing, "with a kept prefix differs from alone by"),
        (Stale, "with a kept prefix differs from alone by"),
        (Boasting, "vg_open_scene answers nothing"),
    ],
)
def test_a_prefix_that_is_not_what_is_declared_is_found(folder, adapter, description):
    with pytest.raises(ContractError, match=description):
        sharing.check_prefix(open_adapter(adapter(), folder))


def test_packing_that_packs_nothing_is_found(folder):
    with pytest.raises(ContractError, match="every expression has a sequence of its own"):
        sharing.check_packing(open_adapter(LlavaAdapter(), folder))
