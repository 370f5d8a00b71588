"""Hard case 6: answers in words, through the engine, from Qwen2.5-VL.

The oracle is transformers' own greedy `generate` on what the processor alone makes of the prompt.
"""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, ModelError
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.qwen2_5_vl import Qwen25VLAdapter
from vg_engine.model_adapters.shared.generation import generate, offsets_of
from vg_engine.testing import noise
from vg_engine.testing.tiny import byte_tokenizer, tiny_llava

QUESTION, PICTURE = "what is this?", noise((168, 112))


class AnsweringAdapter(Qwen25VLAdapter):
    """The shipped adapter, declaring generation."""

    name: ClassVar[str] = "qwen2_5_vl-answering"

    def vg_load_model(self, spec):
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, generation=True))

    def vg_generate(self, model, inputs, max_new_tokens):
        return generate(model, inputs, max_new_tokens)


@pytest.fixture(scope="module")
def case(tiny_qwen, case_of):
    return case_of(AnsweringAdapter, tiny_qwen)


def oracle(case, picture, text, most):
    """Token ids of transformers alone: its processor, its template, its `generate`."""
    content = [{"type": "image"}, {"type": "text", "text": text}]
    rendered = case.engine.model.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    tensors = case.tensors(picture, rendered)
    with torch.no_grad():
        found = case.plain.generate(**tensors, do_sample=False, max_new_tokens=most)
    return found[0, tensors["input_ids"].shape[1] :].tolist()


def check_offsets(tokenizer, made):
    """Every character belongs to a token, and tokens that show whole characters say them."""
    assert made.text == tokenizer.decode(made.ids, skip_special_tokens=True)
    covered = sorted(set(made.offsets))
    at = 0
    for start, end in covered:
        assert start <= at
        at = max(at, end)
    assert at == len(made.text)
    for place in covered:
        if made.offsets.count(place) == 1:
            description = tokenizer.decode(
                made.ids[made.offsets.index(place)], skip_special_tokens=True
            )
            assert made.text[slice(*place)] == description or "\ufffd" in description


@pytest.mark.parametrize("size", [(168, 112), (84, 196)])
def test_answers_are_those_of_transformers(case, size):
    picture = noise(size, 4)
    made = case.engine.generate(picture, QUESTION, max_new_tokens=24)
    assert list(made.ids) == oracle(case, picture, QUESTION, 24)
    assert len(set(made.ids)) > 4
    check_offsets(case.engine.model.processor.tokenizer, made)
    with case.engine.open(picture) as scene:
        assert scene.generate(QUESTION, max_new_tokens=5).ids == made.ids[:5]
    other = case.engine.generate(noise(size, 5), QUESTION, max_new_tokens=24)
    assert other.ids != made.ids, "it looks at the picture"


def test_padding_on_the_left_does_not_matter(case):
    texts = (QUESTION, "what is there on the far left of this picture?")
    pictures = [noise((168, 112), 4), noise((84, 196), 5)]
    prompt = Prompt(form="chat", query_row="prompt_last")
    inputs = case.prepared(pictures, list(enumerate(texts)), prompt)
    assert not inputs.tensors["attention_mask"].all(), "one of them is padded"
    together = case.engine._hooks.generate(case.engine.model, inputs, 12)
    for picture, text, made in zip(pictures, texts, together, strict=True):
        assert made == case.engine.generate(picture, text, max_new_tokens=12)


def test_an_end_token_stops(case, monkeypatch):
    config = case.engine.model.module.generation_config
    whole = case.engine.generate(PICTURE, QUESTION, max_new_tokens=12)
    assert len(whole.ids) == 12
    stop = whole.ids[6]
    expected = whole.ids[: whole.ids.index(stop) + 1]
    for ends in (stop, [config.eos_token_id, stop]):
        with monkeypatch.context() as patch:
            patch.setattr(config, "eos_token_id", ends)
            made = case.engine.generate(PICTURE, QUESTION, max_new_tokens=12)
        assert made.ids == expected


def test_the_model_is_as_before_and_capture_exact(case):
    module, picture = case.engine.model.module, noise((168, 112), 4)
    before = {name: part.training for name, part in module.named_modules()}
    attention = module.get_decoder().config._attn_implementation
    maps = case.engine.maps(picture, "the cup")[0].maps.values
    case.engine.generate(noise((84, 196)), QUESTION, max_new_tokens=4)
    assert module.base_model.rope_deltas is None
    assert {name: part.training for name, part in module.named_modules()} == before
    assert module.get_decoder().config._attn_implementation == attention
    assert (case.engine.maps(picture, "the cup")[0].maps.values == maps).all()


def test_what_cannot_be_asked_is_one_line(case, case_of, tmp_path):
    plain = case_of(LlavaAdapter, tiny_llava(tmp_path / "llava", layers=1, hidden=32)).engine
    words = r"^adapter 'llava' does not let .* answer in words; choose.*\Z"
    with pytest.raises(ModelError, match=words):
        plain.generate(PICTURE, QUESTION)
    with pytest.raises(InputError, match="max_new_tokens must be at least 1"):
        case.engine.generate(PICTURE, QUESTION, max_new_tokens=0)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a cup", ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))),
        ("é!", ((0, 1), (0, 1), (1, 2))),
        ("杯🙂x", (*((0, 1),) * 3, *((1, 2),) * 4, (2, 3))),
        ("<end>a<end>", ((0, 0), (0, 1), (1, 1))),
        ("", ()),
    ],
)
def test_tokens_of_a_character_share_its_place(text, places):
    tokenizer = byte_tokenizer(["<end>"], eos_token="<end>")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert offsets_of(tokenizer, ids) == (text.replace("<end>", ""), places)


def test_broken_characters_have_a_place():
    """A random model says bytes that are no text."""
    tokenizer = byte_tokenizer(["<end>"], eos_token="<end>")
    ids = tokenizer("杯a杯", add_special_tokens=False)["input_ids"]
    broken = [*ids[:2], ids[3], ids[1], *ids[4:]]  # two thirds, a, a middle, a whole one
    text, places = offsets_of(tokenizer, broken)
    assert text == "\ufffda\ufffd杯"
    assert places == ((0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (3, 4), (3, 4))
