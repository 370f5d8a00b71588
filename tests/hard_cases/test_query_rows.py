"""Hard case 7: rows of any words, of a begun answer, of each token apart, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, InputError, VGError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import noise
from vg_engine.testing.tiny import tiny_llava

PICTURE, TEXT, CELLS = noise((56, 56)), "the red cup", 16
ALL = Prompt(query_row="expression_all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("llava") / "tiny"
    return tiny_llava(made, image_size=56, merges=[("r", "e"), ("re", "d")])


@pytest.fixture(scope="module")
def case(folder: Path, case_of: Callable[..., Any]) -> Any:
    return case_of(LlavaAdapter, folder)


def eager(case: Any, rendered: str, words: str, *, last: bool = False) -> np.ndarray:
    """Eager maps of the tokens of words at their last place (or of their last): heads x cells."""
    tensors = case.tensors(PICTURE, rendered)
    with torch.no_grad():
        answer = case.plain(**tensors, output_attentions=True, use_cache=False)
    processor = case.engine.model.processor
    ids = tensors["input_ids"][0].numpy()
    # Counted from the end: behind the words stand as many tokens as their text has.
    behind = rendered[rendered.rindex(words) + len(words) :]
    count = len(processor.tokenizer(behind, add_special_tokens=False)["input_ids"])
    own = len(processor.tokenizer(words, add_special_tokens=False)["input_ids"])
    rows = np.arange(len(ids) - count - own, len(ids) - count)[-1 if last else 0 :]
    seen = ids == processor.image_token_id
    return np.concatenate([layer[0][:, rows].mean(1)[:, seen] for layer in answer.attentions])


@pytest.mark.parametrize(
    ("prompt", "rendered", "words"),
    [
        (
            Prompt(template="Find {expression} now", query_row="span:Find"),
            f"{VICUNA} <image>\nFind the red cup. now",
            "Find",
        ),
        (
            Prompt(template="Find {expression} now", query_row="span:red cup."),
            f"{VICUNA} <image>\nFind the red cup. now",
            "red cup.",
        ),
        (
            Prompt("chat", query_row="span:ASSISTANT"),
            "USER: <image>\nthe red cup. ASSISTANT:",
            "ASSISTANT",
        ),
        (ALL, f"{VICUNA} <image>\nthe red cup.", "the red cup"),
    ],
)
def test_words_of_the_prompt_are_read_as_eager_attention_has_them(
    case: Any, prompt: Prompt, rendered: str, words: str
) -> None:
    (found,) = case.engine.maps(PICTURE, TEXT, prompt=prompt)
    expected = eager(case, rendered, words)
    assert np.abs(found.maps.values.reshape(-1, CELLS) - expected).max() < 1e-5
    assert np.abs(found.image_attention - expected.sum(1)).max() < 1e-5


@pytest.mark.parametrize("answer", [None, " The cup is at"])
def test_an_answer_that_has_begun_is_read_at_its_last_token(case: Any, answer: str | None) -> None:
    prompt = Prompt("chat", query_row="answer_first", answer=answer)
    begun = LlavaAdapter.answer if answer is None else answer
    expected = eager(case, f"USER: <image>\nthe red cup. ASSISTANT:{begun}", begun, last=True)
    (found,) = case.engine.maps(PICTURE, TEXT, prompt=prompt)
    assert np.abs(found.maps.values.reshape(-1, CELLS) - expected).max() < 1e-5
    grounding = case.engine.variant(prompt=prompt).ground(PICTURE, TEXT)
    assert grounding.provenance["query_row"] == "answer_first"
    assert grounding.found


def test_token_maps_keep_the_rows_apart(case: Any) -> None:
    """Their mean is the map of all; each says its token, in the order of the text."""
    (whole,) = case.engine.maps(PICTURE, TEXT, prompt=ALL)
    apart = case.engine.token_maps(PICTURE, TEXT, prompt=ALL)
    assert [one.token for one in apart] == [*"the ", "red", *" cup"]
    assert whole.token is None
    mean = np.mean([one.maps.values for one in apart], axis=0)
    assert np.abs(mean - whole.maps.values).max() < 1e-6
    shares = np.mean([one.image_attention for one in apart], axis=0)
    assert np.abs(shares - whole.image_attention).max() < 1e-6
    assert np.std([one.maps.values for one in apart], axis=0).max() > 0.1, "they differ"
    assert {(one.expression, one.heads, one.notes) for one in apart} == {
        (TEXT, whole.heads, whole.notes)
    }
    # Of chosen heads, of other words, of an open picture, and of one token.
    heads = [Head(3, 1), Head(2, 0)]
    with case.engine.open(PICTURE) as scene:
        words = case.engine.token_maps(scene, TEXT, heads, prompt=Prompt(query_row="span:red cup"))
    assert [one.token for one in words] == ["red", *" cup"]
    assert np.abs(words[0].maps.values - apart[4].of(heads).maps.values).max() < 1e-5
    (stop,) = case.engine.token_maps(PICTURE, TEXT, heads)
    assert stop.token == "."


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(query_row="span:artificial intelligence"),
        Prompt("chat", query_row="span:USER"),
        Prompt("chat", system="Look here.", query_row="span:here"),
        Prompt(query_row="span:no such words"),
    ],
)
def test_a_row_that_cannot_see_is_an_error_and_no_box(case: Any, prompt: Prompt) -> None:
    engine = case.engine.variant(prompt=prompt)
    for ask in (
        lambda: engine.ground(PICTURE, TEXT),
        lambda: engine.maps(PICTURE, TEXT),
        lambda: engine.token_maps(PICTURE, TEXT),
    ):
        with pytest.raises(ExpressionError, match=r"before the picture|does not say") as told:
            ask()
        assert "\n" not in str(told.value)
    # In a stream each request fails for itself; "see" is a word of the second's alone.
    engine = case.engine.variant(prompt=Prompt("chat", query_row="span:USER"))
    found = list(engine.ground_many([(PICTURE, TEXT), (PICTURE, "the USER")], errors="yield"))
    assert [isinstance(one, VGError) for one in found] == [True, False]


def test_a_model_whose_answers_are_not_known_says_so(
    folder: Path, case_of: Callable[..., Any]
) -> None:
    class Silent(LlavaAdapter):
        answer = ""

    engine = case_of(Silent, folder, prompt=Prompt("chat", query_row="answer_first")).engine
    with pytest.raises(InputError, match="beginning of this model's answers is not known"):
        engine.ground(PICTURE, TEXT)
