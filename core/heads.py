"""Attention heads by name, and sets of them. Layers and heads count from 0."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from vg_engine.core.contract.frozen import Rebuilt
from vg_engine.core.errors import HeadsError

_SHOWN = 4  # heads of a set in its short form
_NAME = re.compile(r"[Ll](\d{1,6})[Hh](\d{1,6})|(\d{1,6})[.:/](\d{1,6})")


class Head(NamedTuple):
    """One attention head: its decoder layer and its number there, both counted from 0 (L14H24)."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `L14H24` or `14.24`.

        >>> Head.parse("L14H24"), Head.parse("14.24")
        (Head(layer=14, head=24), Head(layer=14, head=24))

        Raises:
            HeadsError: the text does not name a head.
        """
        match = _NAME.fullmatch(text.strip())
        if match is None:
            raise HeadsError(f"{text!r} names no head; write layer and head as L14H24 or 14.24")
        layer, head = (int(part) for part in match.groups() if part is not None)
        return cls(layer, head)


def parse_heads(text: Iterable[Head | str]) -> tuple[Head, ...]:
    """Read a list such as `L14H24,L14H13`, a head, or an iterable of heads or their names.

    Raises:
        HeadsError: a name is not a head, there is no name, or a head is named twice.
    """
    if not isinstance(text, Iterable):
        raise HeadsError(f"heads are written as L14H24,L14H13, got {type(text).__name__}")
    if isinstance(text, str | Head):
        text = re.split(r"[,\s]+", str(text).strip())
    parts = [str(part) for part in text]
    heads = tuple(Head.parse(part) for part in parts if part)
    if not heads:
        raise HeadsError("no head is named; write for example --heads L14H24,L14H13")
    _check_once(heads)
    return heads


def _check_once(heads: Sequence[Head]) -> None:
    if len(set(heads)) != len(heads):
        raise HeadsError(f"a head is named twice in {', '.join(map(str, heads))}")


def check_heads(
    heads: Iterable[Head | str],
    *,
    layers: int,
    per_layer: int,
    map_layers: tuple[int, ...] | None = None,
) -> tuple[Head, ...]:
    """Return `heads` if all lie in a model of `layers` layers with `per_layer` heads each.

    Args:
        heads: the heads to check, or their names.
        layers: number of decoder layers.
        per_layer: number of heads in each layer.
        map_layers: the layers that can point at the picture; None = all.

    Raises:
        HeadsError: a head is out of range, in a layer that does not see the picture, or no head;
            or there is none.
    """
    checked = parse_heads(heads)
    for head in checked:
        if not (0 <= head.layer < layers and 0 <= head.head < per_layer):
            one_over = head.layer <= layers and head.head <= per_layer
            hint = "; does the list count from 1? a file then says index_base: 1"
            raise HeadsError(
                f"{head} is out of range: the model has layers 0 to {layers - 1} "
                f"with heads 0 to {per_layer - 1} (both count from 0{hint if one_over else ''})"
            )
        if map_layers is not None and head.layer not in map_layers:
            seeing = ", ".join(map(str, map_layers))
            raise HeadsError(f"{head} cannot point at the picture: only layers {seeing} see it")
    return checked


@dataclass(frozen=True)
class HeadSet(Rebuilt):
    """Localization heads and their provenance. Heads are data: `registry/heads/*.yaml`.

    Attributes:
        name: the name that `--heads` takes.
        heads: best first.
        rule: the rule that chose them (`paper`, `sensitivity`, `published`, `given`, `auto`).
        model: model ids that the set was made for.
        layers, heads_per_layer: the shape that a model must have for the set to fit; 0 = unchecked.
        frequency: selection frequency per head (0 to 1) where known, aligned with `heads`, else
            empty.
        spread: standard deviation of the frequency over the draws, aligned likewise or empty.
        score: what the rule ranked by, aligned likewise or empty.
        provenance: everything else in the entry (data, n, seed, prompt, source, date).

    Raises:
        HeadsError: there is no head, one is named twice, or a column is not aligned or out of
            range.
    """

    name: str
    heads: tuple[Head, ...]
    rule: str
    model: tuple[str, ...] = ()
    layers: int = 0
    heads_per_layer: int = 0
    frequency: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    score: tuple[float, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not self.heads:
            raise HeadsError(f"head set {self.name!r} names no heads")
        try:
            _check_once(self.heads)
        except HeadsError as error:
            raise HeadsError(f"head set {self.name!r}: {error}") from error
        for column, most in (("frequency", 1.0), ("spread", math.inf), ("score", math.inf)):
            values: tuple[float, ...] = getattr(self, column)
            least = -math.inf if column == "score" else 0.0
            if values and len(values) != len(self.heads):
                raise HeadsError(
                    f"head set {self.name!r}: {len(values)} x {column} for {len(self.heads)} heads"
                )
            for head, value in zip(self.heads, values, strict=False):
                if not (math.isfinite(value) and least <= value <= most):
                    bounds = " between 0 and 1" if most == 1 else " from 0 on" if not least else ""
                    raise HeadsError(
                        f"head set {self.name!r}: {column} of {head} is {value}; it is a "
                        f"finite number{bounds}"
                    )

    def __repr__(self) -> str:
        listed = ", ".join(map(str, self.heads[:_SHOWN]))
        more = f", ... ({len(self.heads)})" if len(self.heads) > _SHOWN else ""
        return f"HeadSet({self.name!r}: {listed}{more})"

    @property
    def columns(self) -> dict[str, tuple[float, ...]]:
        """The non-empty columns among frequency, spread and score, by name."""
        every = {"frequency": self.frequency, "spread": self.spread, "score": self.score}
        return {name: values for name, values in every.items() if values}

    def check_fits(
        self, *, layers: int, per_layer: int, map_layers: tuple[int, ...] | None = None
    ) -> None:
        """Refuse a model of another shape, or one in which these heads do not see the picture.

        Raises:
            HeadsError: the set was made for another number of layers or heads, or is out of range.
        """
        expected, actual = (self.layers, self.heads_per_layer), (layers, per_layer)
        if all(expected) and expected != actual:
            raise HeadsError(
                f"head set {self.name!r} was made for {expected[0]} layers x {expected[1]} heads, "
                f"this model has {actual[0]} x {actual[1]}; choose heads with --heads auto or name "
                "a set made for this model (vg-engine heads lists them)"
            )
        check_heads(self.heads, layers=layers, per_layer=per_layer, map_layers=map_layers)


def check_set(head_set: HeadSet | None, **shape: Any) -> None:
    """Check that a model of that shape takes a head set; None for heads selected per picture.

    Raises:
        HeadsError: it does not fit, or is no head set.
    """
    if not isinstance(head_set, HeadSet | None):
        raise HeadsError(f"heads are a HeadSet or None here, got {type(head_set).__name__}")
    if head_set is not None:
        head_set.check_fits(**shape)


@dataclass(frozen=True)
class Agreement:
    """The agreement of two lists of heads.

    Attributes:
        shared: heads in both, in the order of the first.
        jaccard: number of shared heads over number of heads in either list.
        kendall: Kendall's tau of the two orders of the shared heads: 1 = the same order, -1 = the
            reverse; None where fewer than two are shared.
    """

    shared: tuple[Head, ...]
    jaccard: float
    kendall: float | None


def agreement(first: Sequence[Head], second: Sequence[Head]) -> Agreement:
    """Compare two lists of heads, best first, none named twice in its list.

    >>> a, b = parse_heads("L1H1,L2H2,L3H3"), parse_heads("L3H3,L1H1,L9H9")
    >>> agreement(a, b)
    Agreement(shared=(Head(layer=1, head=1), Head(layer=3, head=3)), jaccard=0.5, kendall=-1.0)
    """
    place = {head: rank for rank, head in enumerate(second)}
    shared = tuple(head for head in first if head in place)
    either = len(set(first) | set(second))
    order = [place[head] for head in shared]
    turned = [before > after for before, after in itertools.combinations(order, 2)]
    return Agreement(
        shared,
        len(shared) / either if either else 0.0,
        1.0 - 2.0 * sum(turned) / len(turned) if turned else None,
    )
