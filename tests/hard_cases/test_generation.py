"""Hard case 6: answers in words, through the engine, from Qwen2.5-VL.

The oracle is transformers' own greedy `generate` on what the processor alone makes of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from vg_engine.core.contract.inputs import Expression, Generation, PreparedInputs
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.errors import InputError, ModelError
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.qwen2_5_vl import Qwen25VLAdapter
from vg_engine.model_adapters.shared.generation import generate, offsets_of
from vg_engine.testing import noise
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes, tiny_llava
from vg_engine.testing.tiny_qwen import CHAT_WITH_SYSTEM, qwen_processor, qwen_tokenizer, token_ids

QUESTION, PICTURE = "what is this?", noise((168, 112))
PROMPT = Prompt(form="chat", query_row="prompt_last")


class AnsweringAdapter(Qwen25VLAdapter):
    """The shipped adapter, declaring generation."""

    name: ClassVar[str] = "qwen2_5_vl-answering"

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Say that it answers in words."""
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, generation=True))

    def vg_generate(
        self, model: LoadedModel, inputs: PreparedInputs, max_new_tokens: int
    ) -> Sequence[Generation]:
        """As transformers generates."""
        return generate(model, inputs, max_new_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = qwen_tokenizer()
    made: Any = Qwen2_5_VLConfig
    config = made(
        text_config={
            **text_sizes(tokenizer, layers=3),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 4]},
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        **token_ids(tokenizer),
    )
    torch.manual_seed(3)
    module: Any = Qwen2_5_VLForConditionalGeneration(config)
    module.lm_head.weight.data.normal_()  # answers that do not repeat one token
    module.generation_config.eos_token_id = tokenizer.eos_token_id
    # As the real checkpoints' settings: greedy answers pass over those of sampling.
    module.generation_config.update(repetition_penalty=1.05)
    processor = qwen_processor(Qwen2_5_VLProcessor, tokenizer, chat=CHAT_WITH_SYSTEM)
    return save_tiny(module, processor, tmp_path_factory.mktemp("qwen") / "tiny")


@pytest.fixture(scope="module")
def case(folder: Path, case_of: Callable[..., Any]) -> Any:
    return case_of(AnsweringAdapter, folder)


def oracle(case: Any, picture: Any, text: str, most: int) -> list[int]:
    """Token ids of transformers alone: its processor, its template, its `generate`."""
    processor = case.engine.model.processor
    content = [{"type": "image"}, {"type": "text", "text": text}]
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    image = Image.fromarray(picture.pixels)
    tensors = processor(images=[image], text=[rendered], return_tensors="pt")
    with torch.no_grad():
        found = case.plain.generate(**tensors, do_sample=False, max_new_tokens=most)
    new: list[int] = found[0, tensors["input_ids"].shape[1] :].tolist()
    return new


def check_offsets(tokenizer: Any, made: Generation) -> None:
    """Every character belongs to a token, and tokens that show whole characters say them."""
    assert made.text == tokenizer.decode(made.ids, skip_special_tokens=True)
    covered = sorted(set(made.offsets))
    at = 0
    for start, end in covered:
        assert start <= at
        at = max(at, end)
    assert at == len(made.text)
    alone = [place for place in covered if made.offsets.count(place) == 1]
    for place in alone:
        said = tokenizer.decode(made.ids[made.offsets.index(place)], skip_special_tokens=True)
        assert made.text[slice(*place)] == said or "\ufffd" in said


@pytest.mark.parametrize("size", [(168, 112), (84, 196)])
def test_answers_are_those_of_transformers(case: Any, size: tuple[int, int]) -> None:
    picture = noise(size, 4)
    made = case.engine.generate(picture, QUESTION, max_new_tokens=24)
    assert list(made.ids) == oracle(case, picture, QUESTION, 24)
    assert len(set(made.ids)) > 4
    check_offsets(case.engine.model.processor.tokenizer, made)
    with case.engine.open(picture) as scene:
        assert scene.generate(QUESTION, max_new_tokens=5).ids == made.ids[:5]
    other = case.engine.generate(noise(size, 5), QUESTION, max_new_tokens=24)
    assert other.ids != made.ids, "it looks at the picture"


def test_padding_on_the_left_does_not_matter(case: Any) -> None:
    hooks, model = case.engine._hooks, case.engine.model
    texts = (QUESTION, "what is there on the far left of this picture?")
    asked = [Expression(index, text) for index, text in enumerate(texts)]
    scenes = [Scene(noise((168, 112), 4)), Scene(noise((84, 196), 5))]
    inputs = hooks.prepare_inputs(model, scenes, asked, PROMPT)
    assert not inputs.tensors["attention_mask"].all(), "one of them is padded"
    together = hooks.generate(model, inputs, 12)
    for scene, text, made in zip(scenes, texts, together, strict=True):
        assert made == case.engine.generate(scene.picture, text, max_new_tokens=12)


def test_an_end_token_stops(case: Any) -> None:
    model = case.engine.model
    whole = case.engine.generate(PICTURE, QUESTION, max_new_tokens=20)
    assert len(whole.ids) == 20
    stop = whole.ids[6]
    first = whole.ids.index(stop)
    before = model.module.generation_config.eos_token_id
    for ends in (stop, [before, stop]):
        model.module.generation_config.eos_token_id = ends
        try:
            made = case.engine.generate(PICTURE, QUESTION, max_new_tokens=20)
        finally:
            model.module.generation_config.eos_token_id = before
        assert made.ids == whole.ids[: first + 1]


def test_the_model_is_as_before_and_capture_exact(case: Any) -> None:
    module, picture = case.engine.model.module, noise((168, 112), 4)
    before = {name: part.training for name, part in module.named_modules()}
    attention = module.get_decoder().config._attn_implementation
    maps = case.engine.maps(picture, "the cup")[0].maps.values
    case.engine.generate(noise((84, 196)), QUESTION, max_new_tokens=4)
    assert module.base_model.rope_deltas is None
    assert {name: part.training for name, part in module.named_modules()} == before
    assert module.get_decoder().config._attn_implementation == attention
    assert np.array_equal(case.engine.maps(picture, "the cup")[0].maps.values, maps)


def test_what_cannot_be_asked_is_one_line(
    case: Any, case_of: Callable[..., Any], tmp_path: Path
) -> None:
    plain = case_of(LlavaAdapter, tiny_llava(tmp_path / "llava", layers=1, hidden=32)).engine
    with pytest.raises(
        ModelError, match=r"'llava' does not let .* answer in words; choose"
    ) as told:
        plain.generate(PICTURE, QUESTION)
    assert "\n" not in str(told.value)
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
def test_tokens_of_a_character_share_its_place(
    text: str, places: tuple[tuple[int, int], ...]
) -> None:
    tokenizer = byte_tokenizer(["<end>"], eos_token="<end>")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert offsets_of(tokenizer, ids) == (text.replace("<end>", ""), places)


def test_broken_characters_have_a_place() -> None:
    """A random model says bytes that are no text."""
    tokenizer = byte_tokenizer(["<end>"], eos_token="<end>")
    ids = tokenizer("杯a杯", add_special_tokens=False)["input_ids"]
    broken = [*ids[:2], ids[3], ids[1], *ids[4:]]  # two thirds, a, a middle, a whole one
    text, places = offsets_of(tokenizer, broken)
    assert text == "\ufffda\ufffd杯"
    assert places == ((0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (3, 4), (3, 4))
