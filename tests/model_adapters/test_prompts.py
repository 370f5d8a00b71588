"""Prompts are rendered around the expression, and its tokens found by character offsets."""

import numpy as np
import pytest
from families import ask, loaded, opens

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, InputError, UnsupportedModelError
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import prompts
from vg_engine.testing import noise
from vg_engine.testing.tiny import tiny_llava

MERGES = [(".", "Ċ")]
opened = loaded(LlavaAdapter, tiny_llava, layers=1, hidden=32, merges=MERGES)


def prepared(opened, text, prompt=None):
    return ask(opened, text=text, prompt=prompt)


def refused(opened, text, prompt=None, match="", error=ExpressionError):
    with pytest.raises(error, match=match) as raised:
        prepared(opened, text, prompt)
    assert "\n" not in str(raised.value)


def read(opened, inputs):
    """The text of the rows' tokens."""
    ids = inputs.tensors["input_ids"][0]
    return opened.model.processor.tokenizer.decode(ids[list(inputs.queries[0].rows)])


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("the cup", "the cup."),
        ("the cup.", "the cup."),
        ("which cup?", "which cup?"),
        ("this!", "this!"),
        ("杯子。", "杯子。"),
        ("杯子？", "杯子？"),
        ('the sign "stop."', 'the sign "stop."'),
        ('the sign "stop"', 'the sign "stop".'),
        ("no. 5", "no. 5."),
        ("...", "..."),
    ],
)
def test_a_stop_is_added_unless_the_expression_has_an_ending(opened, text, user):
    assert prepared(opened, text).rendered[0].endswith("\n" + user)


@pytest.mark.parametrize(
    ("template", "user", "row"),
    [
        ("Where is {expression}?", "Where is the cup?", "?"),
        ("Find {expression}", "Find the cup.", "."),
        ("{expression}\nNow.", "the cup.\nNow.", ".\n"),
        ("{expression} please", "the cup. please", "."),
    ],
)
def test_a_template_goes_around_the_expression(opened, template, user, row):
    inputs = prepared(opened, "the cup", Prompt(template=template))
    assert inputs.rendered[0].endswith("\n" + user)
    assert read(opened, inputs) == row


def test_expression_all_is_the_expression_alone_and_prompt_last_behind_the_template(opened):
    for form in ("bare", "chat"):
        prompt = Prompt(form, template="Is it {expression} or not", query_row="expression_all")
        assert read(opened, prepared(opened, "the red cup", prompt)) == "the red cup"
    inputs = prepared(opened, "the cup", Prompt("chat", query_row="prompt_last"))
    assert inputs.queries[0].rows == (inputs.tensors["input_ids"].shape[1] - 1,)
    assert read(opened, inputs) == ":"


def test_an_expression_that_the_prompt_also_holds_is_not_mistaken(opened):
    for text in ("USER:", "ASSISTANT:", "A chat", "user"):
        prompt = Prompt("chat", query_row="expression_all", system="A chat of a USER: here.")
        inputs = prepared(opened, text, prompt)
        assert read(opened, inputs) == text
        assert inputs.queries[0].rows[0] > 64


def test_a_system_sentence_may_be_empty(opened):
    assert prepared(opened, "it", Prompt(system="")).rendered[0].startswith("<image>")


BEFORE = "stands before the picture and cannot"
SAYS_NOT = "does not say.* name words of the prompt"
WHERE = "Where is {expression}?"


@pytest.mark.parametrize(
    ("text", "prompt", "match"),
    [
        ("the <image> cup", Prompt(), "leave it out"),
        ("</s>", Prompt(), "leave it out"),
        ("<pad><pad>", Prompt(), "leave it out"),
        ("image>", Prompt(template="<{expression}"), "holds the model's token '<image>'"),
        ("the cup", Prompt(query_row="span:artificial intelligence"), BEFORE),
        ("the cup", Prompt("chat", query_row="span:USER"), BEFORE),
        ("it", Prompt("chat", system="Look.", query_row="span:Look"), BEFORE),
        ("the cup", Prompt("chat", template=WHERE, query_row="span:the dog"), SAYS_NOT),
        ("the cup", Prompt("chat", template=WHERE, query_row="span:where IS"), SAYS_NOT),
        ("the cup", Prompt("chat", template=WHERE, query_row="span:<image>"), SAYS_NOT),
        ("the cup", Prompt("chat", template=WHERE, query_row="span:e <image>"), SAYS_NOT),
    ],
)
def test_what_cannot_be_asked_is_refused(opened, text, prompt, match):
    refused(opened, text, prompt, match)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no system') }}", "{{ broken"])
def test_a_model_without_a_chat_template_that_works_says_so(tmp_path, template):
    folder = tiny_llava(tmp_path / "m", layers=1, hidden=32)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    refusing = opens(LlavaAdapter, folder)
    refused(refusing, "it", Prompt("chat"), "use the bare prompt form", InputError)
    prepared(refusing, "it")


def test_templates_that_drop_the_picture_or_write_the_opening_token(opened, monkeypatch):
    """The first is refused; the token is not doubled."""
    processor = opened.model.processor
    monkeypatch.setattr(processor, "chat_template", "<s>" + processor.chat_template)
    ids = prepared(opened, "it", Prompt("chat")).tensors["input_ids"][0].tolist()
    bos = processor.tokenizer.bos_token_id
    assert ids[0] == bos
    assert ids.count(bos) == 1
    dropping = "{{ messages[0]['content'][1]['text'] }}"
    monkeypatch.setattr(processor, "chat_template", dropping)
    refused(opened, "it", Prompt("chat"), "once each", UnsupportedModelError)


OFFSETS = np.array([[0, 0], [0, 3], [4, 7], [7, 9], [9, 10], [9, 10], [0, 0]])
PLACE = prompts.Rendered("the cup..  x", 4, 7, 7)


@pytest.mark.parametrize(
    ("row", "place", "rows"),
    [
        ("expression_last", PLACE, (3,)),
        ("expression_all", PLACE, (2,)),
        ("prompt_last", PLACE, (5,)),
        ("expression_last", prompts.Rendered("", 4, 9, 9), (5,)),
        ("expression_last", prompts.Rendered("", 0, 7, 11), (5,)),
        ("expression_last", prompts.Rendered("", 20, 22, 22), ()),
    ],
)
def test_rows_by_offsets_with_merged_split_and_dropped_stops(row, place, rows):
    assert prompts.rows_of(row, place, OFFSETS, 5) == rows


def test_unknown_words_are_named_once():
    place = prompts.Rendered("a b-foo, foo bar.", 2, 16, 16)
    offsets = np.array([[0, 1], [2, 3], [3, 4], [4, 7], [7, 8], [9, 12], [13, 14], [14, 16]])
    ids = np.array([1, 9, 9, 0, 9, 0, 9, 0])
    assert prompts.unknown_words(place, offsets, ids, 0) == ("foo", "bar")
    assert prompts.unknown_words(place, offsets, ids, None) == ()


def test_a_processor_that_rewrites_the_prompt_is_refused():
    place = prompts.Rendered("<i> the cup.", 4, 11, 11)
    assert place.moved("<i>", "<i><i> the cup.").start == 7
    with pytest.raises(UnsupportedModelError, match="changes the prompt"):
        place.moved("<i>", "<i><i> THE CUP.")
    before = prompts.Rendered("the cup. <i>", 0, 7, 7)
    assert before.moved("<i>", "the cup. <i><i>").start == 0


def test_more_than_the_model_reads_is_refused(opened):
    fits = 4096 - prepared(opened, "a").tensors["input_ids"].shape[1]
    assert prepared(opened, "a" * (fits + 1)).tensors["input_ids"].shape[1] == 4096
    expressions = [Expression(0, "short"), Expression(0, "b" * (fits + 2))]
    with pytest.raises(ExpressionError, match=r"'bbb.*4097 tokens.*at most 4096"):
        opened.prepare([noise((64, 64))], expressions)


@pytest.mark.parametrize(
    "spoken", ["{{ m['content'] }}", "{{ m['content'] + '' }}", "{{ m['content'][0]['text'] }}"]
)
def test_a_system_sentence_is_handed_over_as_the_template_takes_it(tmp_path, spoken):
    """Printed as it is, joined to other words (which a list cannot be), or as a list of parts."""
    folder = tiny_llava(tmp_path / "tiny", layers=1)
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}" + spoken + " "
        "{% else %}<image>{{ m['content'][1]['text'] }}{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    inputs = prepared(opens(LlavaAdapter, folder), "it", Prompt("chat", system="Look."))
    assert inputs.rendered[0].replace("<image>" * 64, "<image>") == "Look. <image>it."


@pytest.mark.parametrize("description", ["Where is", "please?", "the cup", "ASSISTANT", "is"])
def test_a_span_is_any_words_of_the_rendered_prompt(opened, description):
    asked = "Where is {expression}, please?"
    prompt = Prompt("chat", template=asked, query_row=f"span:{description}")
    inputs = prepared(opened, "the cup", prompt)
    assert read(opened, inputs) == description
    assert "".join(inputs.queries[0].tokens) == description


def test_a_span_has_words_and_its_last_place_counts(opened):
    with pytest.raises(InputError, match="choose expression_last"):
        Prompt(query_row="span:")
    # The same words before the picture could not be read.
    prompt = Prompt("chat", template="USER {expression}", query_row="span:USER")
    assert read(opened, prepared(opened, "the cup", prompt)) == "USER"


def test_rows_before_the_picture_by_position():
    image = np.array([False, True, True, False, False])
    prompts.check_rows((3, 4), Prompt(), image)
    prompts.check_rows((1,), Prompt(), image)
    prompts.check_rows((0,), Prompt(), np.zeros(5, bool))
    prompts.check_rows((), Prompt(), image)
    with pytest.raises(ExpressionError, match="'expression_last' stands before"):
        prompts.check_rows((0, 3), Prompt(), image)


def test_the_answer_begins_as_adapter_or_prompt_say(opened):
    row = {"form": "chat", "query_row": "answer_first"}
    ours = prepared(opened, "the cup", Prompt(**row))
    assert ours.rendered[0].endswith("ASSISTANT:" + LlavaAdapter.answer)
    given = prepared(opened, "the cup", Prompt(**row, answer=" It is at"))
    assert given.rendered[0].endswith("ASSISTANT: It is at")
    for inputs, letter in ((ours, LlavaAdapter.answer[-1]), (given, "t")):
        assert inputs.queries[0].rows == (inputs.tensors["input_ids"].shape[1] - 1,)
        assert read(opened, inputs) == letter
    # A beginning is put there for every row, and only where one is asked for.
    spoken = prepared(opened, "the cup", Prompt("chat", query_row="span:It is", answer=" It is at"))
    assert read(opened, spoken) == "It is"
    assert prepared(opened, "the cup", Prompt("chat")).rendered[0].endswith("ASSISTANT:")


def test_an_answer_that_cannot_begin_is_one_line(tmp_path):
    class Silent(LlavaAdapter):
        answer = ""

    silent = opens(Silent, tiny_llava(tmp_path / "llava", layers=1, hidden=32))
    match = "not known, so there is no row answer_first; give one"
    refused(silent, "it", Prompt("chat", query_row="answer_first"), match, InputError)
    asked = Prompt("chat", query_row="answer_first", answer="Here")
    assert prepared(silent, "it", asked).rendered[0].endswith("Here")
    for wrong in ({"query_row": "answer_first"}, {"answer": "At"}, {"form": "chat", "answer": " "}):
        with pytest.raises(InputError, match="form chat"):
            Prompt(**wrong)
