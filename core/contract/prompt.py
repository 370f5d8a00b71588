"""The prompt around an expression. Without torch: the registry and the command line read it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import Literal, get_args

from vg_engine.core.errors import ExpressionError, InputError

PromptForm = Literal["bare", "chat"]
PROMPT_FORMS: tuple[str, ...] = get_args(PromptForm)
ENDINGS = frozenset(".?!。．｡？！…‽؟۔।")  # marks that end a sentence
QUERY_ROWS = ("expression_last", "expression_all", "prompt_last", "answer_first")
SPAN = "span:"


def clean_expression(text: object) -> str:
    """Strip an expression, compose its accents, and check that it is text.

    Raises:
        ExpressionError: empty, not a string, or no text that can be written down.
    """
    if not isinstance(text, str):
        several = "; ground_all takes several" if isinstance(text, list | tuple) else ""
        raise ExpressionError(f"an expression must be one text, got {type(text).__name__}{several}")
    # A letter and its accent as one character, as tokenizers were trained: files may say two.
    stripped = unicodedata.normalize("NFC", " ".join(text.split()))
    try:
        stripped.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ExpressionError(
            f"the expression {text!a} is broken text (half a character); write it again"
        ) from error
    # Control characters and joiners show nothing: categories C (other) and Z (separators).
    if all(unicodedata.category(character)[0] in "CZ" for character in stripped):
        raise ExpressionError("the expression is empty; say what to look for: --text 'the red cup'")
    return stripped


@dataclass(frozen=True)
class Prompt:
    """The prompt around an expression (paper, section 3: the bare expression and a full stop).

    Attributes:
        form: `bare` (system sentence, picture, expression; no question, no assistant turn) or
            `chat` (the model's own chat template, ending where the answer would begin).
        template: the user's text around the expression; `{expression}` stands for it. The
            expression is ended with a full stop unless it already ends a sentence.
        system: system sentence of the bare form; None takes the adapter's.
        query_row: whose attention row is read: `expression_last` (the paper's: the stop that ends
            the expression), `expression_all` (mean over the expression's tokens), `prompt_last`,
            `answer_first` (the last token of `answer`), or `span:TEXT` (mean over the tokens of
            the last place where the rendered prompt says TEXT).
        answer: a constant beginning of the answer, put behind the chat prompt for the row
            `answer_first`; None takes the adapter's.
        ending: what is put behind an expression that does not end a sentence: `.`, ` .` or
            nothing. None is `.`, unless the tokenizer no longer knows the last word with it.
    """

    form: PromptForm = "bare"
    template: str = "{expression}"
    system: str | None = None
    query_row: str = "expression_last"
    answer: str | None = None
    ending: str | None = None

    def __post_init__(self) -> None:
        if self.form not in PROMPT_FORMS:
            raise InputError(f"prompt form {self.form!r}: choose bare or chat")
        if self.template.count("{expression}") != 1:
            raise InputError(
                f"prompt template {self.template!r} must hold {{expression}} exactly once"
            )
        if self.query_row not in QUERY_ROWS and not self.span:
            raise InputError(
                f"query row {self.query_row!r}: choose {', '.join(QUERY_ROWS)}, or span:TEXT for "
                "the words of the prompt that are to be read"
            )
        if self.ending is not None and self.ending.strip() not in {"", *ENDINGS}:
            raise InputError(f"ending {self.ending!r}: choose '.', ' .' or ''")
        if self.query_row == "answer_first" and self.form != "chat":
            raise InputError(
                "query row 'answer_first' needs the chat form, where an answer begins: form chat"
            )
        if self.answer is not None and (self.form != "chat" or not self.answer.strip()):
            raise InputError(
                "a beginning of the answer stands behind a chat prompt and is not empty: form chat"
            )

    @property
    def beginning(self) -> Prompt:
        """The prompt up to the expression: all prompts that begin alike have the same one."""
        return replace(self, query_row="expression_last", answer=None)

    @property
    def span(self) -> str:
        """The words that a query row `span:TEXT` names, else empty."""
        return self.query_row.removeprefix(SPAN) if self.query_row.startswith(SPAN) else ""
