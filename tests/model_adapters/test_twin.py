"""Truncated twins share everything with the original, and leave it alone."""

from types import MethodType

import pytest
import torch
from families import checkpoint, opens
from transformers import LlavaForConditionalGeneration

from vg_engine.core.contract.inputs import AttentionRequest
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import UnsupportedModelError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import early_exit
from vg_engine.testing import open_adapter, parity, side_effects
from vg_engine.testing.tiny import tiny_llava

PATH = "language_model.layers"


folder = checkpoint(tiny_llava, layers=5)


@pytest.fixture
def module(folder):
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def test_a_twin_shares_every_parameter_and_leaves_the_original_alone(module):
    found = side_effects.Found.of(module)
    base = module.model
    shallow = early_exit.truncated(base, PATH, 2)
    assert len(shallow.language_model.layers) == 2
    ours = {id(parameter) for parameter in base.parameters()}
    assert {id(parameter) for parameter in shallow.parameters()} < ours
    assert list(shallow.language_model.layers) == list(base.language_model.layers[:2])
    found.check(module)
    assert len(base.language_model.layers) == 5


def test_a_twin_is_what_the_original_is_after_as_many_layers(module):
    ids = torch.randint(0, 256, (2, 9))
    with torch.no_grad():
        hidden = module.model(input_ids=ids, output_hidden_states=True).hidden_states
        twins = [early_exit.truncated(module.model, PATH, n)(input_ids=ids) for n in (1, 2, 4)]
    for depth, answer in zip((1, 2, 4), twins, strict=True):
        normed = module.model.language_model.norm(hidden[depth])
        assert torch.equal(answer.last_hidden_state, normed)


def test_a_twin_has_the_parts_that_its_original_has_now(module):
    twins = early_exit.Twins(module.model, PATH, 5)
    assert twins.at(5) is module.model
    twins.at(2)
    module.resize_token_embeddings(300, mean_resizing=False)
    found = twins.at(2).get_input_embeddings()
    assert found is module.get_input_embeddings()
    with pytest.raises(UnsupportedModelError, match="depth 6"):
        twins.at(6)


def test_layers_that_run_are_counted_and_the_head_is_never_called(folder):
    opened = opens(LlavaAdapter, folder)
    module = opened.model.module
    ran = []
    for index, layer in enumerate(module.model.language_model.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    module.lm_head.register_forward_hook(lambda *_: ran.append("head"))
    inputs = parity.batch(opened, Prompt())
    for last in (0, 2, 4):
        ran.clear()
        opened.rows(inputs, AttentionRequest((Head(last, 1), Head(0, 0))))
        assert ran == list(range(last + 1))


def test_layers_are_found_by_name_or_not_at_all(module):
    assert early_exit.path_to(module.model, module.model.language_model.layers) == PATH
    with pytest.raises(UnsupportedModelError, match="does not hold"):
        early_exit.path_to(module.model, torch.nn.ModuleList())


def test_a_model_with_a_replaced_forward_runs_whole(folder, module):
    """As offloading does: `forward` on the object itself, bound to the original."""
    text = module.model.language_model
    text.forward = MethodType(type(text).forward, text)
    assert not early_exit.can_truncate(module.model, PATH)
    processor = opens(LlavaAdapter, folder).model.processor
    opened = open_adapter(LlavaAdapter(), "", module=module, processor=processor)
    assert not opened.model.capabilities.early_exit
    assert any("every layer runs" in description for description in opened.model.statements)
    inputs = parity.batch(opened, Prompt())
    request = AttentionRequest((Head(1, 1),))
    expected = opens(LlavaAdapter, folder).rows(inputs, request)[0]
    torch.testing.assert_close(opened.rows(inputs, request)[0], expected)
