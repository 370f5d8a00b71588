"""Prompts: rendered around a picture, and the query rows found in them by character offsets.

The expression stands for itself in the template by one private character until the template has
been rendered, so that it is never searched for: its place is known.
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
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, InputError, UnsupportedModelError

ENDINGS = frozenset(".?!。．｡？！…‽؟۔।")
_CLOSING = "\"'”’»)]）」』 "
_HOLE = "\ue000"
_SHOWN = 40  # characters of an expression that messages show


@dataclass(frozen=True)
class Rendered:
    """A prompt before its image placeholder is expanded.

    Attributes:
        text: the whole prompt.
        start, end: the expression as it was given, character offsets into `text`.
        stop: offset of the character that ends the expression as a sentence.
        span: first and last offset of the words that a query row `span:TEXT` names.
    """

    text: str
    start: int
    end: int
    stop: int
    span: tuple[int, int] | None = None

    def moved(self, image_token: str, expanded: str) -> Rendered:
        """The same prompt after expansion.

        Raises:
            UnsupportedModelError: the processor changed more than the image placeholder.
        """
        behind = self.text.find(image_token) + len(image_token)
        if behind > self.start:
            # The picture stands behind the expression: what is before it stays where it is.
            by = 0
        else:
            # Whatever a picture becomes, and whatever is put at the end (a newline), the text
            # behind the placeholder stays whole.
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
        """Where the span stands after expansion; what stands before the picture does not move."""
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


def ended(before: str, expression: str, after: str) -> tuple[str, int]:
    """The user's text with the expression as a sentence, and the offset of the mark that ends it.

    An expression that ends a sentence keeps its ending, and a template that goes on with an
    ending lends it; otherwise a full stop is put behind the expression.

    >>> ended("", "the cup", ""), ended("", "which cup?", ""), ended("Where is ", "it", "?")
    (('the cup.', 7), ('which cup?', 9), ('Where is it?', 11))
    """
    bare = expression.rstrip(_CLOSING)
    if bare and bare[-1] in ENDINGS:
        return before + expression + after, len(before) + len(bare) - 1
    stop = len(before) + len(expression)
    if after[:1] in ENDINGS:
        return before + expression + after, stop
    return f"{before}{expression}.{after}", stop


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
        expression: cleaned text.
        processor: for its chat template.
        bare: the bare form, with {system}, {image} and {text} in it.
        system: the adapter's system sentence for the bare form.
        image_token: the placeholder of one picture.
        answer: the adapter's constant beginning of an answer, for the row `answer_first`.

    Raises:
        ExpressionError: the expression holds or makes one of the model's special tokens, or the
            prompt does not say the words of a query row `span:TEXT`.
        InputError: there is no chat template, or it refuses.
    """
    _check_plain(expression, prompt, processor.tokenizer)
    before, after = prompt.template.split("{expression}")
    user, stop = ended(before, expression, after)
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
    """The last place where the prompt says the words of a query row `span:TEXT`."""
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
    # Some processors' classes take no template: the folder's is then the tokenizer's.
    own = getattr(processor, "chat_template", None)
    options = {} if own else {"chat_template": processor.tokenizer.chat_template}
    options["add_generation_prompt"] = True
    try:
        return _written(processor, messages, options, prompt.system)
    except Exception as error:  # a template raises what it likes
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the model's chat template cannot be used ({cause}); use the bare prompt form"
        ) from error


def _written(
    processor: Any, messages: list[dict[str, Any]], options: dict[str, Any], system: str | None
) -> str:
    """The template's text; a system sentence as a list of parts, or plain where it wants it so.

    A template that takes it plain writes our list down, or cannot join it to its own words.
    """
    if system is not None:
        with contextlib.suppress(Exception):
            text = str(processor.apply_chat_template(messages, **options))
            if str(messages[0]["content"]) not in text:
                return text
        messages[0]["content"] = system
    return str(processor.apply_chat_template(messages, **options))


def _check_plain(expression: str, prompt: Prompt, tokenizer: Any) -> None:
    for token in tokenizer.get_added_vocab():
        # Blanks and marks may be added tokens too; only control words would break the prompt.
        if len(token.strip()) > 1 and token in expression + prompt.template:
            raise ExpressionError(f"{expression!r} holds the model's token {token!r}; leave it out")


class Listener:
    """Stands for a tokenizer during one call of a processor, and keeps what went by.

    Processors expand the image placeholder and hand the text on to their tokenizer: this is where
    the expanded prompt and its offsets are seen, whatever the processor returns.

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
        """Tokenise as asked, and keep the offsets."""
        self.options = options
        self.texts = (text,) if isinstance(text, str) else tuple(text)
        tokens = self._tokenizer(text, **{**options, "return_offsets_mapping": True})
        self.offsets = np.asarray(tokens.pop("offset_mapping"), dtype=np.int64)
        return tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def listening(processor: Any) -> tuple[Any, Listener]:
    """A copy of the processor for one call, and the listener in its tokenizer's place."""
    copied, listener = copy.copy(processor), Listener(processor.tokenizer)
    copied.tokenizer = listener
    return copied, listener


def rows_of(
    query_row: str, place: Rendered, offsets: Int64[np.ndarray, "tokens 2"], last: int
) -> tuple[int, ...]:
    """Positions on the query axis, padding counted; empty where the tokenizer left nothing.

    Args:
        query_row: which rows.
        place: the prompt after expansion.
        offsets: of every token of the padded sequence.
        last: position of the last token that is not padding.
    """
    if query_row in ("prompt_last", "answer_first"):
        return (last,)
    starts, ends = offsets[:, 0], offsets[:, 1]
    span = (place.start, place.end) if query_row == "expression_all" else place.span
    if span is not None:
        inside = np.flatnonzero((starts < span[1]) & (ends > span[0]))
        return tuple(int(position) for position in inside)
    # One character may be several tokens (bytes): the last of them has seen it whole. A tokenizer
    # that drops the stop leaves the last token before it.
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
    """Words of the expression in which the tokenizer found something that it does not know."""
    if unknown is None:
        return ()
    bad = [(int(s), int(e)) for (s, e), i in zip(offsets, ids, strict=True) if i == unknown]
    words = [
        (place.start + match.start(), place.start + match.end(), match.group())
        for match in re.finditer(r"\w+|[^\w\s]", place.text[place.start : place.end])
    ]
    found = (word for s, e, word in words if any(a < e and b > s for a, b in bad))
    return tuple(dict.fromkeys(found))
