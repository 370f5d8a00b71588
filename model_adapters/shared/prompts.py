"""Prompts: rendered around a picture, and the query rows found in them by character offsets.

Until the template is rendered, one private character represents the expression. Its place is thus
known and never searched for.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Integer

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import ENDINGS, Prompt
from vg_engine.core.errors import ExpressionError, InputError, UnsupportedModelError

_CLOSING = "\"'”’»)]）」』 "
# Families add control tokens as ordinary ones, too: they are known by their brackets.
_CONTROL = re.compile(r"\s*[<\[{|].*[>\]}|]\s*")
_HOLE = "\ue000"
_SHOWN = 40  # characters of an expression that messages show


@dataclass(frozen=True)
class Rendered:
    """A prompt before its image placeholder is expanded.

    Attributes:
        text: the whole prompt.
        start, end: character offsets of the expression in `text`.
        stop: offset of the punctuation mark that ends the expression.
        span: first and last offset of the words that a query row `span:TEXT` names.
    """

    text: str
    start: int
    end: int
    stop: int
    span: tuple[int, int] | None = None

    def moved(self, image_token: str, expanded: str) -> Rendered:
        """Move the offsets to the prompt after expansion.

        Raises:
            UnsupportedModelError: the processor changed more than the image placeholder.
        """
        behind = self.text.find(image_token) + len(image_token)
        if behind > self.start:
            # The picture follows the expression: text before the picture does not move.
            by = 0
        else:
            # However the picture is expanded, and whatever is appended (a newline), the text after
            # the placeholder stays whole.
            rest = self.text[behind:]
            at = expanded.rfind(rest)
            by = at - behind if at >= 0 else len(expanded) - len(self.text)
        moved = Rendered(
            expanded,
            self.start + by,
            self.end + by,
            self.stop + by,
            self._span_in(expanded, behind),
        )
        if expanded[moved.start : moved.stop + 1] != self.text[self.start : self.stop + 1]:
            raise UnsupportedModelError(
                "the processor changes the prompt beyond its image placeholder, so the "
                "expression's tokens cannot be found"
            )
        return moved

    def _span_in(self, expanded: str, behind: int) -> tuple[int, int] | None:
        """Find the span after expansion; text before the picture does not move."""
        if self.span is None:
            return None
        by = len(expanded) - len(self.text) if self.span[0] >= behind else 0
        start, end = self.span[0] + by, self.span[1] + by
        if expanded[start:end] != self.text[slice(*self.span)]:
            raise UnsupportedModelError(
                "the processor changes the prompt beyond its image placeholder, so the words of "
                "the query row cannot be found"
            )
        return start, end


def ended(before: str, expression: str, after: str, ending: str = ".") -> tuple[str, int]:
    """Put an expression into the user's text as a sentence.

    A punctuation mark at the end of the expression or right after it in the template is kept;
    otherwise `ending` is added.

    Returns:
        The text, and the offset of the mark that ends the expression; of its last character where
        there is none.

    >>> ended("", "the cup", ""), ended("", "which cup?", ""), ended("Where is ", "it", "?")
    (('the cup.', 7), ('which cup?', 9), ('Where is it?', 11))
    """
    bare = expression.rstrip(_CLOSING)
    if bare and bare[-1] in ENDINGS:
        return before + expression + after, len(before) + len(bare) - 1
    stop = len(before) + len(expression)
    if after[:1] in ENDINGS:
        return before + expression + after, stop
    return f"{before}{expression}{ending}{after}", stop + len(ending) - 1


def choose_ending(prompt: Prompt, expression: str, tokenizer: Any) -> str:
    """Choose what ends an expression: a full stop, unless the tokenizer loses the last word by it.

    A tokenizer that splits at blanks takes `cup.` for one word, and does not know it.
    """
    unknown, last = tokenizer.unk_token, expression.rsplit(maxsplit=1)[-1]
    if prompt.ending is not None or unknown is None:
        return "." if prompt.ending is None else prompt.ending

    def lost(text: str) -> int:
        return int(tokenizer.tokenize(text).count(unknown))

    if lost(f"{last}.") <= lost(last):
        return "."
    return "" if lost(".") else " ."


def render(
    prompt: Prompt,
    expression: str,
    processor: Any,
    *,
    bare: str,
    system: str,
    image_token: str,
    answer: str = "",
) -> Rendered:
    """Put an expression into the bare form or into the model's own chat template.

    Args:
        prompt: the form, the user's template and the system sentence.
        expression: the cleaned expression.
        processor: the processor with its chat template.
        bare: the bare form, with {system}, {image} and {text} in it.
        system: the adapter's system sentence for the bare form.
        image_token: the placeholder of one picture.
        answer: the adapter's constant beginning of an answer, for the row `answer_first`.

    Raises:
        ExpressionError: the expression contains or creates one of the model's special tokens, or
            the prompt lacks the words of a query row `span:TEXT`.
        InputError: there is no chat template, or it fails.
    """
    before, after = prompt.template.split("{expression}")
    ending = choose_ending(prompt, expression, processor.tokenizer)
    user, stop = ended(before, expression, after, ending)
    _check_plain((expression, user), processor.tokenizer)
    if prompt.form == "bare":
        sentence = system if prompt.system is None else prompt.system
        around = bare.format(system=sentence, image=image_token, text=_HOLE).lstrip()
    else:
        around = _chat(prompt, processor)
    if around.count(image_token) != 1 or around.count(_HOLE) != 1:
        raise UnsupportedModelError(
            f"the prompt {around.replace(_HOLE, '{expression}')!r} does not hold the picture "
            f"({image_token}) and the expression once each"
        )
    at = around.index(_HOLE)
    start = at + len(before)
    text = around.replace(_HOLE, user)
    if text.count(image_token) != 1:
        raise ExpressionError(f"{user!r} makes a second {image_token}; use other words")
    if prompt.query_row == "answer_first" or prompt.answer is not None:
        beginning = answer if prompt.answer is None else prompt.answer
        if not beginning:
            raise InputError(
                "the beginning of this model's answers is not known, so there is no row "
                "answer_first; give one: Prompt(form='chat', answer='The location is')"
            )
        text += beginning
    return Rendered(
        text, start, start + len(expression), at + stop, _span(prompt, text, image_token)
    )


def _span(prompt: Prompt, text: str, image_token: str) -> tuple[int, int] | None:
    """Find the last occurrence of the words of a query row `span:TEXT` in the prompt."""
    if not prompt.span:
        return None
    at = text.rfind(prompt.span)
    if at < 0 or image_token in prompt.span:
        raise ExpressionError(
            f"the prompt {text!r} does not say {prompt.span!r}; name words of the prompt"
        )
    return at, at + len(prompt.span)


def _chat(prompt: Prompt, processor: Any) -> str:
    content = [{"type": "image"}, {"type": "text", "text": _HOLE}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if prompt.system is not None:
        spoken = [{"type": "text", "text": prompt.system}]
        messages.insert(0, {"role": "system", "content": spoken})
    # Some processor classes take no template; the folder's template is then at the tokenizer.
    own = getattr(processor, "chat_template", None)
    options = {} if own else {"chat_template": processor.tokenizer.chat_template}
    options["add_generation_prompt"] = True
    try:
        return _written(processor, messages, options, prompt.system)
    except Exception as error:  # a template can raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the model's chat template cannot be used ({cause}); use the bare prompt form"
        ) from error


def _written(
    processor: Any, messages: list[dict[str, Any]], options: dict[str, Any], system: str | None
) -> str:
    """Render the template, with the system sentence as a list of parts or, if need be, plain.

    A template for plain text prints the list as it is, or cannot join it with its own words.
    """
    if system is not None:
        with contextlib.suppress(Exception):
            text = str(processor.apply_chat_template(messages, **options))
            if str(messages[0]["content"]) not in text:
                return text
        messages[0]["content"] = system
    return str(processor.apply_chat_template(messages, **options))


def _check_plain(texts: Sequence[str], tokenizer: Any) -> None:
    for added in tokenizer.added_tokens_decoder.values():
        token = added.content
        # Words, blanks and punctuation may be added tokens too; only control tokens break a prompt.
        control = added.special or _CONTROL.fullmatch(token)
        for text in texts if control and len(token.strip()) > 1 else ():
            if token in text:
                raise ExpressionError(f"{text!r} holds the model's token {token!r}; leave it out")


class RecordingTokenizer:
    """A wrapper of a tokenizer that records texts and offsets during one call of a processor.

    Processors expand the image placeholder and pass the text to their tokenizer. So the expanded
    prompt and its offsets can be recorded here, whatever the processor returns.

    Attributes:
        texts: the expanded prompts.
        offsets: sequences x tokens x (start, end), character offsets; padding is (0, 0).
        options: how the processor called its tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: tuple[str, ...] = ()
        self.offsets: Int64[np.ndarray, "sequences tokens 2"] = np.zeros((0, 0, 2), np.int64)
        self.options: Mapping[str, Any] = {}

    def __call__(self, text: Sequence[str], **options: Any) -> Any:
        """Tokenise as asked, but never truncate, and keep the offsets."""
        self.options = options
        self.texts = (text,) if isinstance(text, str) else tuple(text)
        # A tokenizer.json or a processor may state a truncation: it would cut the expression off.
        whole: dict[str, Any] = {"truncation": False, "return_offsets_mapping": True}
        if options.get("padding") != "max_length":
            whole["max_length"] = None
        tokens = self._tokenizer(text, **{**options, **whole})
        self.offsets = np.asarray(tokens.pop("offset_mapping"), dtype=np.int64)
        return tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def with_recording_tokenizer(processor: Any) -> tuple[Any, RecordingTokenizer]:
    """Copy the processor for one call, with a recording tokenizer; returns both."""
    copied, recording = copy.copy(processor), RecordingTokenizer(processor.tokenizer)
    copied.tokenizer = recording
    return copied, recording


def rows_of(
    query_row: str, place: Rendered, offsets: Int64[np.ndarray, "tokens 2"], last: int
) -> tuple[int, ...]:
    """Find the positions of query rows on the query axis.

    Args:
        query_row: name of the rows.
        place: the prompt after expansion.
        offsets: character offsets of every token of the padded sequence.
        last: position of the last token that is not padding.

    Returns:
        Positions, padding counted; empty where the tokenizer kept nothing of the expression.
    """
    if query_row in ("prompt_last", "answer_first"):
        return (last,)
    starts, ends = offsets[:, 0], offsets[:, 1]
    span = (place.start, place.end) if query_row == "expression_all" else place.span
    if span is not None:
        inside = np.flatnonzero((starts < span[1]) & (ends > span[0]))
        return tuple(int(position) for position in inside)
    # A character may be several tokens (bytes), of which the last sees it whole. If the tokenizer
    # drops the stop, take the last token before it.
    holding = np.flatnonzero((starts <= place.stop) & (ends > place.stop))
    if not len(holding):
        holding = np.flatnonzero((starts <= place.stop) & (ends > place.start))
    return (int(holding[-1]),) if len(holding) else ()


def check_length(
    expressions: Sequence[Expression],
    lengths: Integer[np.ndarray, " sequences"],
    most: int | None,
    name: str,
) -> None:
    """Refuse what is longer than the model reads: beyond that its attention means nothing.

    Args:
        expressions: one per sequence.
        lengths: tokens of each, padding left out.
        most: that the model reads, if its config says so.
        name: of the model.
    """
    longest = int(lengths.argmax())
    if isinstance(most, int) and lengths[longest] > most:
        start = expressions[longest].text[:_SHOWN]
        raise ExpressionError(
            f"{start!r}...: {lengths[longest]} tokens with the picture, and {name} reads "
            f"at most {most}; use fewer words"
        )


def check_rows(rows: Sequence[int], prompt: Prompt, image: Bool[np.ndarray, " tokens"]) -> None:
    """Refuse rows that stand before the picture: in a causal model they do not see it.

    Args:
        rows: positions in a sequence.
        prompt: which names them.
        image: where the sequence holds the picture.

    Raises:
        ExpressionError: a row before the picture's first token.
    """
    if rows and image.any() and min(rows) < int(image.argmax()):
        raise ExpressionError(
            f"the query row {prompt.query_row!r} stands before the picture and cannot see it; "
            "name words that stand behind it"
        )


def unknown_words(
    place: Rendered,
    offsets: Int64[np.ndarray, "tokens 2"],
    ids: Int64[np.ndarray, " tokens"],
    unknown: int | None,
) -> tuple[str, ...]:
    """List the words of the expression with parts that the tokenizer does not know.

    A token that holds more than the word, such as the full stop behind it, is listed as it is.
    """
    if unknown is None:
        return ()
    bad = [(int(s), int(e)) for (s, e), i in zip(offsets, ids, strict=True) if i == unknown]
    words = [
        (place.start + match.start(), place.start + match.end(), match.group())
        for match in re.finditer(r"\w+|[^\w\s]", place.text[place.start : place.end])
    ]
    found = []
    for s, e, _ in words:
        over = [(a, b) for a, b in bad if a < e and b > s]
        if over:
            first, last = min(s, *(a for a, _ in over)), max(e, *(b for _, b in over))
            found.append(place.text[first:last].strip())
    return tuple(dict.fromkeys(found))
