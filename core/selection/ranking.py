"""Ranking: from a rule's scores over several draws to a few fixed heads (paper, section 3).

A rule (`vg_engine.core.selection.rules`) reads the statistics block by block, as often as it
likes, and returns one score per draw and head. The rest is the same for every rule: scores are
averaged over the draws, heads are ranked, the best k are fixed.

    found = select(Paper(), observations, k=3)
    found.heads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from vg_engine.core.attention.criteria import ranked
from vg_engine.core.errors import HeadsError
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import ATTENTION, HeadStatistics

TOP = 3
# Samples processed at once: with 1,024 heads they take 2 MiB in float64.
_PIECE = 256
# Values that differ by less than this share of the largest differ by rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Block:
    """The columns of some samples, and how often each sample occurs in each draw."""

    columns: Mapping[str, Float32[np.ndarray, "_samples _heads"]]
    weights: Float64[np.ndarray, "_samples _draws"]

    def column(self, name: str) -> Float32[np.ndarray, "_samples _heads"]:
        """Return one column.

        Raises:
            HeadsError: it was not measured.
        """
        if name not in self.columns:
            raise HeadsError(
                f"{name!r} was not measured (there is {', '.join(self.columns)}); "
                "measure again with the rule that needs it"
            )
        return self.columns[name]


@dataclass(frozen=True, eq=False)
class DrawnStatistics:
    """All head statistics, read block by block so that memory does not grow with the samples.

    Attributes:
        heads: the heads of the columns.
        draws: number of draws.
        blocks: returns a fresh iterator over the same blocks each time.
    """

    heads: tuple[Head, ...]
    draws: int
    blocks: Callable[[], Iterator[Block]]

    @classmethod
    def of(
        cls,
        observed: Iterable[HeadStatistics],
        weights: Float64[np.ndarray, "samples draws"] | None = None,
    ) -> DrawnStatistics:
        """Make the statistics from ones in memory.

        Args:
            observed: at least one, all of the same heads.
            weights: how often each sample occurs in each draw; by default once in a single draw.

        Raises:
            HeadsError: there are no statistics, their heads differ, or there is another number of
                weights than samples.
        """
        held = list(observed)
        if not held or any(one.heads != held[0].heads for one in held):
            raise HeadsError("all statistics must have the same heads in the same order")
        count = sum(map(len, held))
        times = np.ones((count, 1)) if weights is None else weights
        if len(times) != count:
            raise HeadsError(f"{len(times)} weights for {count} samples; give one per sample")
        cuts = np.cumsum([len(one) for one in held])[:-1]
        parts = np.split(times, cuts)

        def blocks() -> Iterator[Block]:
            for one, part in zip(held, parts, strict=True):
                yield Block(one.columns, part)

        return cls(held[0].heads, times.shape[1], blocks)

    def pieces(self) -> Iterator[Block]:
        """Cut the blocks into parts small enough that work on one needs little memory."""
        for block in self.blocks():
            for start in range(0, len(block.weights), _PIECE):
                part = slice(start, start + _PIECE)
                columns = {name: values[part] for name, values in block.columns.items()}
                yield Block(columns, block.weights[part])

    def means(self, *columns: str) -> dict[str, Float64[np.ndarray, "draws heads"]]:
        """Average columns per draw and head over the samples where they were measured, in one pass.

        Returns:
            Per column its means; NaN where it was measured in no sample of a draw.

        Raises:
            HeadsError: a column was not measured, or there is no sample.
        """
        shape = (self.draws, len(self.heads))
        sums = {name: np.zeros(shape) for name in columns}
        counts = {name: np.zeros(shape) for name in columns}
        empty = True
        for piece in self.pieces():
            empty = False
            for name in dict.fromkeys(columns):
                values = piece.column(name).astype(np.float64)
                known = np.isfinite(values)
                values[~known] = 0.0
                for draw, times in enumerate(piece.weights.T):
                    # Add sample by sample, so that the last digit does not depend on the blocks.
                    rows = np.flatnonzero(times)
                    parts = (sums[name][draw : draw + 1], values[rows] * times[rows, None])
                    sums[name][draw] = np.add.reduce(np.concatenate(parts), axis=0)
                    counts[name][draw] += times[rows] @ known[rows]
        if empty:
            raise HeadsError("no sample was measured; give at least one picture and expression")
        return {
            name: np.divide(sums[name], count, out=np.full(shape, np.nan), where=count > 0)
            for name, count in counts.items()
        }

    @property
    def samples(self) -> Int[np.ndarray, " draws"]:
        """Count the samples of each draw."""
        total = np.zeros(self.draws)
        for block in self.blocks():
            total += block.weights.sum(axis=0)
        return np.rint(total).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Scores:
    """A rule's scores of each head in each draw.

    Attributes:
        values: the scores that rank the heads, higher is better; not finite = unknown.
        candidates: the heads that may be chosen; None = all.
        frequency: share of samples that voted for each head, where the rule counts votes.
        criterion: the values whose elbow was taken, where there is an elbow.
        thresholds: the elbow's value per draw; 0 where the rule has no elbow.
        notes: remarks for the user.
    """

    values: Float64[np.ndarray, "draws heads"]
    candidates: Bool[np.ndarray, "draws heads"] | None = None
    frequency: Float64[np.ndarray, "draws heads"] | None = None
    criterion: Float64[np.ndarray, "draws heads"] | None = None
    thresholds: Float64[np.ndarray, " draws"] | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Rule(Protocol):
    """A selection rule. Its fields are the options that a user may set (`paper:per_sample=5`)."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that it reads; they decide what the data must offer (boxes, pairs)."""

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score every head in every draw.

        Raises:
            HeadsError: the statistics are not enough for this rule.
        """


@dataclass(frozen=True, eq=False)
class Selection:
    """Ranked heads with the numbers that ranked them.

    Attributes:
        rule: name of the rule.
        k: number of ranked heads that are chosen.
        ranked: the candidates, best first.
        scores, spread: mean and standard deviation over the draws, aligned with `ranked`.
        frequency, frequency_spread: the same for the votes; empty where the rule counts none.
        tops: the k best heads of each draw alone.
        all_heads: every head that was measured.
        mean_attention: mean S_img over all draws, aligned with `all_heads`.
        criterion: means of the values whose elbow was taken, aligned with `all_heads`; empty
            where there is no elbow.
        threshold, thresholds: tau: its mean over the draws, and its value in each; 0 where there
            is no elbow.
        samples: samples per draw.
        notes: remarks for the user.
    """

    rule: str
    k: int
    ranked: tuple[Head, ...]
    scores: Float64[np.ndarray, " ranked"]
    spread: Float64[np.ndarray, " ranked"]
    frequency: Float64[np.ndarray, " _counted"]
    frequency_spread: Float64[np.ndarray, " _counted"]
    tops: tuple[tuple[Head, ...], ...]
    all_heads: tuple[Head, ...]
    mean_attention: Float64[np.ndarray, " all_heads"]
    criterion: Float64[np.ndarray, " _curve"]
    threshold: float
    thresholds: tuple[float, ...]
    samples: tuple[int, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def heads(self) -> tuple[Head, ...]:
        """The chosen heads, best first."""
        return self.ranked[: self.k]

    @property
    def curve(self) -> Float64[np.ndarray, " _curve"]:
        """The elbow's criterion sorted ascending (mean S_img where the rule has no elbow)."""
        return np.sort(self.criterion if len(self.criterion) else self.mean_attention)

    @property
    def stability(self) -> float:
        """Mean share of the k best that two draws have in common; NaN with a single draw."""
        sets = [set(top) for top in self.tops]
        shared = [len(a & b) / max(len(a), len(b), 1) for i, a in enumerate(sets) for b in sets[:i]]
        return float(np.mean(shared)) if shared else float("nan")


def select(rule: Rule, seen: DrawnStatistics, *, name: str, k: int | None = TOP) -> Selection:
    """Rank the heads by a rule and fix the best `k` (None: all candidates).

    Ties go to the larger mean S_img, then by layer and head.

    Raises:
        HeadsError: nothing was measured, or not enough for this rule.
    """
    scores = rule.score(seen)
    attention = seen.means(ATTENTION)[ATTENTION]
    candidates = (
        np.ones(scores.values.shape, dtype=bool) if scores.candidates is None else scores.candidates
    )
    known = candidates & np.isfinite(scores.values)
    if not known.any():
        raise HeadsError(f"rule {name} found no score for any head; give it other data")
    # A head that was no candidate in a draw got no votes there: its mean counts that draw as 0.
    values = np.where(known, scores.values, 0.0 if scores.frequency is not None else np.nan)
    mean, spread = _over_draws(values)
    overall = attention.mean(axis=0)
    order = order_of(seen.heads, -_levels(mean), -_levels(overall))
    order = order[known.any(axis=0)[order]]
    chosen = len(order) if k is None else min(k, len(order))
    tops = []
    for draw in range(seen.draws):
        row = np.where(known[draw], scores.values[draw], -np.inf)
        own = order_of(seen.heads, -row, -_levels(attention[draw]))
        own = own[known[draw][own]][:chosen]
        tops.append(tuple(seen.heads[i] for i in own))
    frequency = frequency_spread = np.zeros(0)
    if scores.frequency is not None:
        frequency, frequency_spread = (part[order] for part in _over_draws(scores.frequency))
    thresholds = () if scores.thresholds is None else tuple(map(float, scores.thresholds))
    return Selection(
        rule=name,
        k=chosen,
        ranked=tuple(seen.heads[i] for i in order),
        scores=mean[order],
        spread=spread[order],
        frequency=frequency,
        frequency_spread=frequency_spread,
        tops=tuple(tops),
        all_heads=seen.heads,
        mean_attention=overall,
        criterion=np.zeros(0) if scores.criterion is None else scores.criterion.mean(axis=0),
        threshold=float(np.mean(thresholds)) if thresholds else 0.0,
        thresholds=thresholds,
        samples=tuple(map(int, seen.samples)),
        notes=(*scores.notes, *_too_few(k, chosen)),
    )


def _too_few(k: int | None, chosen: int) -> tuple[str, ...]:
    if k is None or chosen >= k:
        return ()
    return (f"k = {k} heads were asked for, but there are only {chosen} candidates",)


def _over_draws(
    values: Float64[np.ndarray, "draws heads"],
) -> tuple[Float64[np.ndarray, " heads"], Float64[np.ndarray, " heads"]]:
    """Compute mean and standard deviation over the draws in which a value is known."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    away = np.where(known, values - mean, 0.0)
    spread = np.sqrt((away**2).sum(axis=0) / count)
    return np.where(known.any(axis=0), mean, np.nan), spread


def _levels(values: Float64[np.ndarray, " heads"]) -> Int[np.ndarray, " heads"]:
    """Rank the values as whole numbers; values that differ by rounding alone get the same one."""
    order = np.argsort(values, kind="stable")
    known = values[order][np.isfinite(values[order])]
    least = _ROUNDING * np.abs(known).max(initial=0.0)
    levels = np.zeros(len(values), dtype=np.int64)
    levels[order[1:]] = np.cumsum(np.diff(values[order]) > least)
    return levels


def order_of(
    heads: tuple[Head, ...],
    *keys: Float64[np.ndarray, " heads"] | Int[np.ndarray, " heads"],
) -> Int[np.ndarray, " heads"]:
    """Sort indices of heads by ascending key, ties by the next key, then by layer and head."""
    layers, numbers = (np.array(part) for part in zip(*heads, strict=True))
    return ranked(*keys, layers, numbers)
