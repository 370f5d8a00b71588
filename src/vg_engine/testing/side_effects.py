"""Conduct: what an adapter leaves alone, and whether two threads may share it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from vg_engine.core.contract.inputs import AttentionRequest, Expression, PreparedInputs
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, PictureError
from vg_engine.testing.harness import (
    ContractError,
    Harness,
    Size,
    image_positions,
    noise,
    padding,
)
from vg_engine.testing.parity import TOLERANCE, batch

UNUSUAL = ("the cup", "which cup?", "the cup!", "杯子。", 'the sign "stop."', "Größe")
ODD_SIZES: tuple[Size, ...] = ((1, 1), (3, 1), (1, 3), (2, 40), (1, 700), (640, 480), (333, 1000))
ORDINARY = 48


def implementations(module: torch.nn.Module) -> dict[str, str]:
    """Attention implementation of every transformers model inside `module`, by dotted name."""
    return {
        name: str(part.config._attn_implementation)  # noqa: SLF001 - transformers' own name for it
        for name, part in module.named_modules()
        if isinstance(part, PreTrainedModel)
    }


def check_vision_alone(opened: Harness, untouched: Mapping[str, str] | None = None) -> None:
    """Only the language model has another attention function while the model is open.

    Args:
        opened: the model.
        untouched: `implementations` of the same model, loaded without the adapter; None: the
            model has no other user.
    """
    module, decoder = opened.model.module, opened.decoder
    inside = {id(part) for part in decoder.modules()}
    for name, found in implementations(module).items():
        part: Any = module.get_submodule(name)
        # What holds the language model may have the very same config.
        if id(part) in inside or part.config is decoder.config:
            continue
        if found != untouched[name] if untouched else "vg_" in found:
            before = f" instead of {untouched[name]!r}" if untouched else ""
            raise ContractError(
                f"{name or 'the whole model'} runs with {found!r}{before}: switch capture on for "
                "the language model alone"
            )


@dataclass(frozen=True, eq=False)
class Found:
    """A model as it was found."""

    implementations: Mapping[str, str]
    training: tuple[str, ...]
    weights: Mapping[str, tuple[int, float]]
    modules: tuple[int, ...]
    attributes: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, module: torch.nn.Module) -> Found:
        """Look, and change nothing."""
        return cls(
            implementations(module),
            tuple(name for name, part in module.named_modules() if part.training),
            {
                name: (value.data_ptr(), float(value.double().sum()))
                for name, value in module.state_dict().items()
            },
            tuple(map(id, module.modules())),
            {name: frozenset(vars(part)) for name, part in module.named_modules()},
        )

    def check(self, module: torch.nn.Module) -> None:
        """Refuse a model that is not as it was found."""
        now = Found.of(module)
        for what in ("implementations", "training", "weights", "modules"):
            if getattr(now, what) != getattr(self, what):
                raise ContractError(
                    f"after close the model's {what} are not as they were found: "
                    f"{_difference(getattr(self, what), getattr(now, what))}"
                )
        for name, attributes in self.attributes.items():
            left = {a for a in now.attributes[name] - attributes if "vg" in a.lower()}
            if left:
                raise ContractError(f"after close {name or 'the model'} still carries {left}")


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, Mapping):
        changed = [name for name in before if before[name] != after.get(name)]
        return ", ".join(f"{name}: {before[name]} -> {after.get(name)}" for name in changed[:3])
    return f"{len(before)} before, {len(after)} after"


def check_tokens(opened: Harness, sizes: Sequence[Size] = ODD_SIZES) -> tuple[int, list[str]]:
    """Every picture's tokens are located, each once, inside its sequence.

    Returns:
        How many tokens, and a sentence per picture that the processor refuses: it may refuse
        strips, but no picture of `ORDINARY` pixels and more on either side.
    """
    total = 0
    refused, ordinary = [], []
    for seed, size in enumerate(sizes):
        try:
            inputs = opened.prepare([noise(size, seed)], [Expression(0, "it")])
        except PictureError as error:
            refused.append(str(error))
            ordinary += [str(error)] if min(size) >= ORDINARY else []
            continue
        positions = image_positions(opened.views(inputs)[0])
        # One head of the first layer is enough to know how long the key axis is.
        keys = opened.rows(inputs, AttentionRequest(opened.model.all_heads[:1]))[0].shape[-1]
        if len(set(positions.tolist())) != len(positions):
            raise ContractError(f"{size}: an image token stands in two cells")
        if positions.max() >= keys:
            raise ContractError(f"{size}: token {positions.max()} of a sequence of {keys}")
        total += len(positions)
    if ordinary:
        raise ContractError(f"{len(ordinary)} of {len(sizes)} pictures are refused: {ordinary[0]}")
    return total, refused


def check_threads(opened: Harness, rounds: int = 2, tolerance: float = TOLERANCE) -> None:
    """Threads that share a model, from the prompt on, get what one thread gets."""
    asked = (
        (Prompt(), ("the red circle", "it")),
        (Prompt(query_row="expression_all"), ("a cup on the far left", "she", "which one?")),
        (Prompt(), ("the cup",)),
    )
    expected = [opened.rows(batch(opened, *one)) for one in asked]
    start = threading.Barrier(len(asked))
    wrong: list[str] = []

    def work(index: int) -> None:
        try:
            start.wait(timeout=60)
            for _ in range(rounds):
                rows = opened.rows(batch(opened, *asked[index]))
                for row, one in zip(rows, expected[index], strict=True):
                    if row.shape != one.shape or not (row - one).abs().max() <= tolerance:
                        wrong.append(f"thread {index} read other rows than one thread alone")
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            wrong.append(f"thread {index}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise ContractError(wrong[0])


def check_unusual_expressions(opened: Harness, prompt: Prompt | None = None) -> tuple[int, int]:
    """An ending is kept or added, and the row holds it; control words are refused.

    Returns:
        How many expressions were checked, and how many there are: a tokenizer that does not know
        the letters of one cannot show where its row stands.
    """
    checked = 0
    tokenizer = opened.model.processor.tokenizer
    asked, all_rows, last = (
        _unusual(opened, each)
        for each in (
            prompt or Prompt(),
            replace(prompt or Prompt(), query_row="expression_all"),
            replace(prompt or Prompt(), query_row="prompt_last"),
        )
    )
    for index, text in enumerate(UNUSUAL):
        if any(asked.unknown[index : index + 1]):
            continue
        row, ids = _without_padding(asked, index)
        seen = tokenizer.decode(ids[max(0, row[0] - 3) : row[0] + 1])
        mark = next((c for c in reversed(text) if c in ".?!。"), ".")
        if len(row) != 1 or mark not in seen[-2:]:
            raise ContractError(f"{text!r}: the row stands at {seen!r}, not at its {mark!r}")
        rows, ids = _without_padding(all_rows, index)
        found = tokenizer.decode(ids[list(rows)]).strip()
        # A token may hold the character before or behind.
        if text not in found or len(found) > len(text) + 2:
            raise ContractError(
                f"{text!r}: rows of expression_all are {found!r}, expected {text!r}"
            )
        rows, ids = _without_padding(last, index)
        if rows != (len(ids) - 1,):
            raise ContractError(
                f"{text!r}: rows of prompt_last are {rows}, expected {(len(ids) - 1,)}"
            )
        checked += 1
    control = image_token(opened)
    try:
        opened.prepare([noise((64, 64))], [Expression(0, f"the {control} cup")])
    except InputError:
        return checked, len(UNUSUAL)
    raise ContractError(f"an expression that holds {control!r} is not refused")


def _unusual(opened: Harness, prompt: Prompt) -> PreparedInputs:
    """Ask all of them at once, each about a picture of its own: so nothing is packed."""
    asked = [Expression(index, text) for index, text in enumerate(UNUSUAL)]
    return opened.prepare([noise((64, 64))] * len(asked), asked, prompt)


def _without_padding(inputs: PreparedInputs, index: int) -> tuple[tuple[int, ...], torch.Tensor]:
    """The rows of a query and the ids of its sequence, as if it had been asked alone."""
    query = inputs.queries[index]
    ids = inputs.tensors["input_ids"][query.sequence]
    kept = ~padding(inputs, query.sequence, len(ids))
    first = int(kept.nonzero()[0])
    return tuple(row - first for row in query.rows), ids[kept]


def image_token(opened: Harness) -> str:
    """Decode one image token of a sequence."""
    inputs = opened.prepare([noise((64, 64))], [Expression(0, "it")])
    ids = inputs.tensors["input_ids"][0]
    first_head = AttentionRequest(opened.model.all_heads[:1])
    if opened.rows(inputs, first_head)[0].shape[-1] == len(ids):
        first = int(ids[int(opened.views(inputs)[0][0].positions[0, 0])])
    else:
        # The picture is on other keys than the text: its placeholder stands in the text alone.
        first = int(opened.model.processor.image_token_id)
    return str(opened.model.processor.tokenizer.convert_ids_to_tokens(first))
