"""A prepared batch, and the attention rows that are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32

from vg_engine.core.contract.frozen import empty
from vg_engine.core.contract.prompt import clean_expression
from vg_engine.core.errors import ExpressionError, PluginError
from vg_engine.core.heads import Head


class Expression(NamedTuple):
    """A referring expression and the index of the scene that it is about."""

    scene: int
    text: str


@dataclass(frozen=True)
class Query:
    """One expression about one picture, and where in the prepared batch its rows stand.

    Attributes:
        scene: index of the scene in the batch.
        expression: the cleaned text.
        sequence: index in the batch dimension; several queries may share one packed sequence.
        rows: positions on the query axis of that sequence, padding counted. Behind a kept prefix
            the query axis begins where the prefix ends; the key axis does not.
        tokens: the text of each row's token, where it is known.
        prefix_end: number of leading tokens that belong to the shared prefix, if one is declared.
    """

    scene: int
    expression: str
    sequence: int
    rows: tuple[int, ...]
    tokens: tuple[str, ...] = ()
    prefix_end: int | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise ExpressionError(f"{self.expression!r} has no token to read; use other words")


@dataclass(frozen=True, eq=False)
class PreparedInputs:
    """A batch for one forward pass.

    Attributes:
        tensors: keyword arguments of the model's forward, on its device.
        queries: one per expression, in the order asked.
        sizes: the pictures, for geometry: (width, height) of each, original upright pixels.
        rendered: the prompt as text per sequence, after expansion of the image tokens; empty where
            sequences are packed.
        unknown: words that the tokenizer does not know, per query.
        context: the adapter's own (grid sizes that only the processor knows).
    """

    tensors: Mapping[str, Any]
    queries: tuple[Query, ...]
    sizes: tuple[tuple[int, int], ...]
    rendered: tuple[str, ...] = ()
    unknown: tuple[tuple[str, ...], ...] = ()
    context: Mapping[str, Any] = field(default_factory=empty)

    @property
    def tokens(self) -> int:
        """Tokens that the forward pass reads, padding counted; 0 where there are no token ids."""
        ids = self.tensors.get("input_ids")
        return 0 if ids is None else int(ids.numel())


@dataclass(frozen=True)
class AttentionRequest:
    """The rows to read.

    Attributes:
        heads: wanted heads, any order, no doubles. The forward may stop after the last layer.
    """

    heads: tuple[Head, ...]

    @property
    def last_layer(self) -> int:
        """The deepest layer that is needed."""
        return max(head.layer for head in self.heads)

    def by_layer(self) -> dict[int, tuple[int, ...]]:
        """Layer -> its wanted heads, in the order of the request."""
        wanted: dict[int, tuple[int, ...]] = {}
        for layer, head in self.heads:
            wanted[layer] = (*wanted.get(layer, ()), head)
        return wanted


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Rows of the softmax over *all* keys, not renormalised over the picture.

    Attributes:
        heads: in the order of the request.
        rows: per query a float32 tensor heads x its rows x keys, on the model's device.
    """

    heads: tuple[Head, ...]
    rows: tuple[Float32[torch.Tensor, "heads _rows _keys"], ...]


@dataclass(frozen=True)
class Generation:
    """An answer in words (`vg_generate`).

    Attributes:
        text: the answer, special tokens left out.
        ids: the generated tokens.
        offsets: per token its place in `text`, characters (start, end); an empty place for a
            token that shows nothing.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.offsets):
            raise PluginError(f"{len(self.ids)} tokens but {len(self.offsets)} offsets")
        if any(not 0 <= start <= end <= len(self.text) for start, end in self.offsets):
            raise PluginError(f"offsets {self.offsets} leave a text of {len(self.text)} characters")


def pairs(scenes: int, expressions: Sequence[str]) -> tuple[Expression, ...]:
    """Put every expression to every scene, scene by scene."""
    return tuple(Expression(i, clean_expression(t)) for i in range(scenes) for t in expressions)
