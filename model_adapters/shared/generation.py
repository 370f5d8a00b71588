"""Answers in words: the model's own greedy generation, with each token's place in the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vg_engine.core.contract.inputs import Generation, PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.model_adapters.shared.loaded import parts_of
from vg_engine.model_adapters.shared.processor_errors import running

_GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    # A checkpoint's own settings of sampling are not for greedy answers.
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


def generate(model: LoadedModel, inputs: PreparedInputs, max_new_tokens: int) -> list[Generation]:
    """Let a transformers model answer each prepared prompt, as its own `generate` does.

    Args:
        model: loaded; afterwards it is as it was.
        inputs: one sequence per query, padded on the left.
        max_new_tokens: at most so many; an end token, which is among them, stops earlier.
    """
    module: Any = model.module
    tokenizer = model.processor.tokenizer
    # The model finds the positions of what it generates by itself.
    tensors = {name: tensor for name, tensor in inputs.tensors.items() if name != "position_ids"}
    with parts_of(model).generation_lock, _restored(module.base_model), running(model):
        found = module.generate(
            **tensors,
            **_GREEDY,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    new = found[:, tensors["input_ids"].shape[1] :].tolist()
    ends = module.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends])
    return [_answer(tokenizer, _until(new[query.sequence], stops)) for query in inputs.queries]


def offsets_of(tokenizer: Any, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of generated tokens, and each token's characters (start, end) in it.

    Tokens that share a character (bytes of it) share its place; a control token shows nothing.

    Args:
        tokenizer: a transformers tokenizer.
        ids: the tokens.
    """
    text, control = _text(tokenizer, ids), set(tokenizer.all_special_ids)
    places, done = [], 0
    for count, token in enumerate(ids, start=1):
        shown = _text(tokenizer, ids[:count])
        # An unfinished character reads as another one, which the whole text does not say.
        now = max(done, _agreeing(shown, text))
        if token in control or now > done:
            places.append((done, now))
        elif len(shown) > done:
            places.append((done, min(done + 1, len(text))))
        else:  # one more byte of a broken character
            places.append((max(done - 1, 0), done))
        done = now
    return text, tuple(places)


def _answer(tokenizer: Any, ids: Sequence[int]) -> Generation:
    text, places = offsets_of(tokenizer, ids)
    return Generation(text, tuple(ids), places)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _agreeing(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _until(ids: Sequence[int], stops: set[int]) -> list[int]:
    """The tokens up to the first end token, which is kept."""
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids) - 1)
    return list(ids[: end + 1])


@contextmanager
def _restored(base: Any) -> Iterator[None]:
    """Put back what generation leaves on a model: the shift of positions behind its picture."""
    before = getattr(base, "rope_deltas", None)
    try:
        with torch.no_grad():
            yield
    finally:
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = before
