"""The attention function: registered once, exact, restored, and silent when nobody records."""

import copy
import threading
from dataclasses import replace
from unittest import mock

import pytest
import torch
import transformers as hf
from building import fields
from families import ask, checkpoint, opens
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from vg_engine.core.contract.inputs import AttentionRequest
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import CaptureError, UnsupportedModelError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.testing import open_adapter, parity, side_effects
from vg_engine.testing.tiny import sharpen, tiny_llava

SMALL = fields("""vocab_size=50 hidden_size=32 intermediate_size=64 num_hidden_layers=3
        num_attention_heads=4 num_key_value_heads=2 head_dim=8""")


folder = checkpoint(tiny_llava)


def plain(folder, attention="sdpa", dtype=torch.float32):
    return hf.AutoModelForImageTextToText.from_pretrained(
        folder, attn_implementation=attention, dtype=dtype
    ).eval()


def around(module, folder):
    processor = opens(LlavaAdapter, folder).model.processor
    return open_adapter(LlavaAdapter(), "", module=module, processor=processor)


def test_registration_is_idempotent_and_covers_the_mask():
    capture.register()
    capture.register()
    keys = list(hf.AttentionInterface().valid_keys())
    assert keys.count(capture.OVER_FUSED) == keys.count(capture.OVER_PLAIN) == 1
    assert AttentionMaskInterface()[capture.OVER_FUSED] is sdpa_mask
    assert AttentionMaskInterface()[capture.OVER_PLAIN] is eager_mask


def test_recording_or_not_the_model_says_exactly_what_it_says_with_sdpa(folder):
    opened = opens(LlavaAdapter, folder)
    inputs = parity.batch(opened, Prompt())

    @torch.no_grad()
    def description(module):
        return module(**inputs.tensors, use_cache=False).logits

    expected = description(plain(folder))
    assert torch.equal(description(opened.model.module), expected)
    with capture.recording(capture.Recorder({}, {}, torch.zeros((4, 1), dtype=torch.int64))):
        assert torch.equal(description(opened.model.module), expected)
    opened.rows(inputs)
    assert torch.equal(description(opened.model.module), expected)


def test_only_wanted_heads_and_rows_are_computed(folder):
    opened = opens(LlavaAdapter, folder)
    inputs = ask(opened, text="the cup")
    request = AttentionRequest((Head(2, 3), Head(1, 0), Head(2, 1)))
    with mock.patch.object(capture, "attention_rows", wraps=capture.attention_rows) as called:
        rows = opened.rows(inputs, request)[0]
    assert [call.kwargs["heads"] for call in called.call_args_list] == [(0,), (3, 1)]
    assert {tuple(call.args[2].shape) for call in called.call_args_list} == {(1, 1)}
    everything = dict(zip(opened.model.all_heads, opened.rows(inputs)[0], strict=True))
    for head, row in zip(request.heads, rows, strict=True):
        torch.testing.assert_close(row, everything[head], atol=1e-6, rtol=0)


def test_attentions_are_never_asked_for(folder):
    opened = opens(LlavaAdapter, folder)
    inputs = parity.batch(opened, Prompt())
    base = type(opened.model.module.model)
    with mock.patch.object(base, "forward", autospec=True, side_effect=base.forward) as called:
        opened.rows(inputs)
    assert "output_attentions" not in called.call_args.kwargs
    assert called.call_args.kwargs["use_cache"] is False


def test_flash_attention_is_replaced_while_open_and_put_back(folder):
    """No flash attention runs here: what such a model carries is its name in the config."""
    module = plain(folder)
    text = module.model.language_model.config
    text._attn_implementation_internal = "flash_attention_2"
    opened = around(module, folder)
    assert any("flash_attention_2" in description for description in opened.model.statements)
    inputs = parity.batch(opened, Prompt())
    parity.compare(opened, plain(folder, "eager"), inputs)
    opened.model.close()
    assert text._attn_implementation == "flash_attention_2"


def test_half_precision_rows_are_float32(folder):
    module = plain(folder, dtype=torch.bfloat16)
    opened = around(module, folder)
    assert opened.model.dtype == torch.bfloat16
    rows = opened.rows(parity.batch(opened, Prompt()))
    assert {row.dtype for row in rows} == {torch.float32}
    for row in rows:
        torch.testing.assert_close(row.sum(-1), torch.ones(row.shape[:2]), atol=1e-5, rtol=0)


def language_model(config_class, model_class, **more):
    module = model_class(config_class(**SMALL, **more)).eval()
    sharpen(module, 8.0)
    return module


def llama():
    return language_model(hf.LlamaConfig, hf.LlamaModel)


SOFTCAP = (hf.Gemma2Config, hf.Gemma2Model, {"attn_logit_softcapping": 5.0})
SINKS = (hf.GptOssConfig, hf.GptOssModel, {"num_local_experts": 2, "num_experts_per_tok": 1})


@pytest.mark.parametrize(
    ("config", "model", "more", "name"),
    [
        pytest.param(hf.LlamaConfig, hf.LlamaModel, {}, capture.OVER_FUSED, id="llama"),
        pytest.param(*SOFTCAP, capture.OVER_PLAIN, id="softcap and sliding layers"),
        pytest.param(*SINKS, capture.OVER_PLAIN, id="sinks and sliding layers"),
    ],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_language_models_of_several_kinds_agree_with_eager(config, model, more, name, side):
    module = language_model(config, model, **more)
    ids = torch.randint(3, 50, (2, 13))
    mask = torch.ones_like(ids)
    pads = slice(0, 4) if side == "left" else slice(9, 13)
    mask[0, pads] = 0
    rows = torch.tensor([[12 if side == "left" else 8, 6], [12, 3]])
    module.set_attn_implementation("eager")
    with torch.no_grad():
        expected = module(ids, attention_mask=mask, output_attentions=True).attentions
    before, close = capture.install(module)
    assert before == "eager"
    assert module.config._attn_implementation == name
    layers = capture.layer_index(module.layers)
    recorder = capture.Recorder(layers, dict.fromkeys(range(3), (0, 1, 2, 3)), rows)
    with torch.no_grad(), capture.recording(recorder):
        module(ids, attention_mask=mask, use_cache=False)
    for layer, taken in recorder.require().items():
        for sample in range(2):
            eager = expected[layer][sample][:, rows[sample]]
            torch.testing.assert_close(taken[sample], eager, atol=1e-5, rtol=0)
        assert taken[0][..., pads].max() == 0
    close()
    assert module.config._attn_implementation == "eager"


def test_packed_expressions_are_kept_apart_by_a_block_mask(folder):
    """Two queries in one sequence, told apart by an explicit mask of four dimensions."""
    opened = opens(LlavaAdapter, folder)
    first, second = (ask(opened, (90, 90), text) for text in ("the cup", "it here"))
    ids = [inputs.tensors["input_ids"][0] for inputs in (first, second)]
    shared = int((ids[0][: len(ids[1])] != ids[1][: len(ids[0])]).nonzero()[0])
    tails = [one[shared:] for one in ids]
    packed = torch.cat((ids[0], tails[1]))[None]
    length, cut = packed.shape[1], len(ids[0])
    mask = torch.ones(length, length).tril().bool()
    mask[cut:, shared:cut] = False
    where = torch.cat((torch.arange(cut), torch.arange(shared, len(ids[1]))))[None]
    queries = (replace(first.queries[0]), replace(second.queries[0], rows=(length - 1,)))
    packing = {"input_ids": packed, "attention_mask": mask[None, None], "position_ids": where}
    together = replace(first, tensors={**first.tensors, **packing}, queries=queries)
    apart, packed_rows = opened.rows(first)[0], opened.rows(together)
    torch.testing.assert_close(packed_rows[0][..., :cut], apart, atol=1e-5, rtol=0)
    expected = opened.rows(second)[0]
    kept = torch.cat((packed_rows[1][..., :shared], packed_rows[1][..., cut:]), dim=-1)
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)
    assert packed_rows[1][..., shared:cut].max() == 0


def test_what_a_recorder_refuses():
    asked = torch.zeros((1, 1), dtype=torch.int64)
    with pytest.raises(CaptureError, match=r"layers \[1, 3\]"):
        capture.Recorder({}, {3: (0,), 1: (2,)}, asked).require()
    module, tensor = torch.nn.Identity(), torch.randn(1, 2, 4, 8)
    recorder = capture.Recorder({id(module): 0}, {0: (0,)}, asked)
    with pytest.raises(CaptureError, match="4 dimensions"):
        recorder.take(module, tensor, tensor, torch.ones(1, 4), {})
    recorder.take(module, tensor, tensor, None, {})
    with pytest.raises(CaptureError, match="attends twice"):
        recorder.take(module, tensor, tensor, None, {})


def test_models_that_do_not_dispatch_are_refused_and_left_alone():
    module = llama()
    found = side_effects.implementations(module)
    with (
        mock.patch.object(hf.LlamaModel, "set_attn_implementation", return_value=None),
        pytest.raises(UnsupportedModelError, match="does not let its attention be chosen"),
    ):
        capture.install(module)
    assert side_effects.implementations(module) == found


def test_the_last_of_several_users_restores():
    module = llama()
    closers = [capture.install(module)[1] for _ in range(3)]
    for close in (closers[1], closers[1], closers[0]):
        close()
        assert module.config._attn_implementation == capture.OVER_FUSED
    closers[2]()
    assert module.config._attn_implementation == "sdpa"
    capture.install(module)[1]()
    assert module.config._attn_implementation == "sdpa"


def test_a_deep_copy_of_an_open_model_is_given_back_on_its_own():
    module = llama()
    _, close = capture.install(module)
    copied = copy.deepcopy(module)
    capture.install(copied)[1]()
    assert copied.config._attn_implementation == "sdpa"
    assert not [name for name in vars(copied) if "vg" in name]
    assert module.config._attn_implementation == capture.OVER_FUSED
    close()
    assert module.config._attn_implementation == "sdpa"


def test_a_recorder_belongs_to_its_thread():
    recorder = capture.Recorder({}, {}, torch.zeros((1, 1), dtype=torch.int64))
    seen = []
    with capture.recording(recorder):
        thread = threading.Thread(target=lambda: seen.append(capture._RECORDER.get()))
        thread.start()
        thread.join()
        assert capture._RECORDER.get() is recorder
    assert seen == [None]
    assert capture._RECORDER.get() is None
