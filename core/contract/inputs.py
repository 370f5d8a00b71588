"""A prepared batch, and the attention rows that are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32

from vg_engine.core.contract.prompt import clean_expression
from vg_engine.core.errors import ExpressionError
from vg_engine.core.heads import Head


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


class Expression(NamedTuple):
    """A referring expression and the index of the picture that it is about."""

    image: int
    text: str


@dataclass(frozen=True)
class Query:
    """One expression about one picture, and where in the prepared batch its rows stand.

    Attributes:
        image: index of the picture in the batch.
        expression: the cleaned text.
        sequence: index in the batch dimension; several queries may share one packed sequence.
        rows: positions on the query axis of that sequence, padding counted.
        prefix_end: number of leading tokens that belong to the shared prefix, if one is declared.
    """

    image: int
    expression: str
    sequence: int
    rows: tuple[int, ...]
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
        images: the pictures, for geometry: (width, height) of each, original upright pixels.
        rendered: the prompt as text per sequence, after expansion of the image tokens; empty where
            sequences are packed.
        unknown: words that the tokenizer does not know, per query.
        context: the adapter's own (grid sizes that only the processor knows).
    """

    tensors: Mapping[str, Any]
    queries: tuple[Query, ...]
    images: tuple[tuple[int, int], ...]
    rendered: tuple[str, ...] = ()
    unknown: tuple[tuple[str, ...], ...] = ()
    context: Mapping[str, Any] = field(default_factory=_empty)


@dataclass(frozen=True)
class AttentionRequest:
    """Which rows to read.

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


def pairs(images: int, expressions: Sequence[str]) -> tuple[Expression, ...]:
    """Every expression about every picture, picture by picture."""
    return tuple(Expression(i, clean_expression(t)) for i in range(images) for t in expressions)
