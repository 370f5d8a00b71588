"""Hard case 7: rows of any words, of a begun answer, of each token apart, through the engine."""

import numpy as np
import pytest

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, InputError, VGError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import noise
from vg_engine.testing.tiny import tiny_llava

PICTURE, TEXT, CELLS = noise((56, 56)), "the red cup", 16
ALL = Prompt(query_row="expression_all")
FIND, FOUND = "Find {expression} now", f"{VICUNA} <image>\nFind the red cup. now"
CHAT = "USER: <image>\nthe red cup. ASSISTANT:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("llava") / "tiny"
    return tiny_llava(made, image_size=56, merges=[("r", "e"), ("re", "d")])


@pytest.fixture(scope="module")
def case(folder, case_of):
    return case_of(LlavaAdapter, folder)


def eager(case, rendered, words, *, last=False):
    """Eager maps of the tokens of words at their last place (or of their last): heads x cells."""
    tensors, processor = case.tensors(PICTURE, rendered), case.engine.model.processor
    ids = tensors["input_ids"][0].numpy()
    # Counted from the end: behind the words stand as many tokens as their text has.
    behind = rendered[rendered.rindex(words) + len(words) :]
    count, own = (
        len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (behind, words)
    )
    rows = np.arange(len(ids) - count - own, len(ids) - count)[-1 if last else 0 :]
    seen = ids == processor.image_token_id
    return np.concatenate([layer[:, rows].mean(1)[:, seen] for layer in case.attentions(tensors)])


@pytest.mark.parametrize(
    ("prompt", "rendered", "words"),
    [
        (Prompt(template=FIND, query_row="span:Find"), FOUND, "Find"),
        (Prompt(template=FIND, query_row="span:red cup."), FOUND, "red cup."),
        (Prompt("chat", query_row="span:ASSISTANT"), CHAT, "ASSISTANT"),
        (ALL, f"{VICUNA} <image>\nthe red cup.", "the red cup"),
    ],
)
def test_words_of_the_prompt_are_read_as_eager_attention_has_them(case, prompt, rendered, words):
    (found,) = case.engine.maps(PICTURE, TEXT, prompt=prompt)
    expected = eager(case, rendered, words)
    assert np.abs(found.maps.values.reshape(-1, CELLS) - expected).max() < 1e-5
    assert np.abs(found.image_attention - expected.sum(1)).max() < 1e-5


@pytest.mark.parametrize("answer", [None, " The cup is at"])
def test_an_answer_that_has_begun_is_read_at_its_last_token(case, answer):
    prompt = Prompt("chat", query_row="answer_first", answer=answer)
    begun = LlavaAdapter.answer if answer is None else answer
    expected = eager(case, CHAT + begun, begun, last=True)
    (found,) = case.engine.maps(PICTURE, TEXT, prompt=prompt)
    assert np.abs(found.maps.values.reshape(-1, CELLS) - expected).max() < 1e-5
    grounding = case.engine.variant(prompt=prompt).ground(PICTURE, TEXT)
    assert grounding.provenance["query_row"] == "answer_first"
    assert grounding.found


def test_token_maps_keep_the_rows_apart(case):
    """Their mean is the map of all; each says its token, in the order of the text."""
    (whole,) = case.engine.maps(PICTURE, TEXT, prompt=ALL)
    apart = case.engine.token_maps(PICTURE, TEXT, prompt=ALL)
    assert [one.token for one in apart] == [*"the ", "red", *" cup"]
    assert whole.token is None
    maps = [one.maps.values for one in apart]
    assert np.abs(np.mean(maps, axis=0) - whole.maps.values).max() < 1e-6
    shares = np.mean([one.image_attention for one in apart], axis=0)
    assert np.abs(shares - whole.image_attention).max() < 1e-6
    assert np.std(maps, axis=0).max() > 0.1, "they differ"
    description = {(one.expression, one.heads, one.notes) for one in apart}
    assert description == {(TEXT, whole.heads, whole.notes)}
    # Of chosen heads, of other words, of an open picture, and of one token.
    heads = [Head(3, 1), Head(2, 0)]
    with case.engine.open(PICTURE) as scene:
        words = case.engine.token_maps(scene, TEXT, heads, prompt=Prompt(query_row="span:red cup"))
    assert [one.token for one in words] == ["red", *" cup"]
    assert np.abs(words[0].maps.values - apart[4].of(heads).maps.values).max() < 1e-5
    (stop,) = case.engine.token_maps(PICTURE, TEXT, heads)
    assert stop.token == "."


BEFORE = Prompt("chat", query_row="span:USER")


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(query_row="span:artificial intelligence"),
        BEFORE,
        Prompt("chat", system="Look here.", query_row="span:here"),
        Prompt(query_row="span:no such words"),
    ],
)
def test_a_row_that_cannot_see_is_an_error_and_no_box(case, prompt):
    engine = case.engine.variant(prompt=prompt)
    for ask in (engine.ground, engine.maps, engine.token_maps):
        with pytest.raises(ExpressionError, match=r"before the picture|does not say") as told:
            ask(PICTURE, TEXT)
        assert "\n" not in str(told.value)


def test_in_a_stream_each_request_fails_for_itself(case):
    """`USER` is a word of the second's alone."""
    requests = [(PICTURE, TEXT), (PICTURE, "the USER")]
    found = case.engine.variant(prompt=BEFORE).ground_many(requests, errors="yield")
    assert [isinstance(one, VGError) for one in found] == [True, False]


def test_a_model_whose_answers_are_not_known_says_so(folder, case_of):
    class Silent(LlavaAdapter):
        answer = ""

    engine = case_of(Silent, folder, prompt=Prompt("chat", query_row="answer_first")).engine
    with pytest.raises(InputError, match="beginning of this model's answers is not known"):
        engine.ground(PICTURE, TEXT)
