"""The selection rules, each a small strategy: the paper's (section 3) and improved ones.

Only `Paper` is the paper's. A rule is a frozen dataclass: its fields are the options that a user
may set by name. Plugins add rules through the entry-point group `vg_engine.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, UInt32, UInt64

from vg_engine.core.attention.criteria import elbow
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import (
    AGREEMENT,
    ATTENTION,
    CONTRAST,
    CONTRAST_ENTROPY,
    ENTROPY,
    INSIDE,
    SENSITIVITY,
)
from vg_engine.core.selection.ranking import DrawnStatistics, Scores, order_of

PER_SAMPLE = 10
SKIPPED_LAYERS = 2
# Rows of a cross-attention layer cover the picture alone: all its heads have S_img 1.
_ALL_PICTURE = 1.0 - 1e-3
_NEVER = np.uint64(np.iinfo(np.uint64).max)


def deep_enough(heads: tuple[Head, ...], skipped_layers: int) -> Bool[np.ndarray, " heads"]:
    """Mark the heads in layer `skipped_layers` and above; all heads where there are none."""
    deep = np.array([head.layer >= skipped_layers for head in heads])
    return deep if deep.any() else np.ones(len(heads), dtype=bool)


def judge(
    heads: tuple[Head, ...],
    criterion: Float64[np.ndarray, " heads"],
    skipped_layers: int,
    attention: Float64[np.ndarray, " heads"] | None = None,
) -> tuple[Bool[np.ndarray, " heads"], float, tuple[str, ...]]:
    """Apply criterion 1 (section 3): the heads that reach the elbow and lie deep enough.

    `attention` is mean S_img, in case the criterion is something else. Layers in which every head
    gives all its attention to the picture (cross-attention) are exempt from the elbow. Where no
    head passes, the criteria are relaxed, and a note says so.

    Returns:
        The candidates, the threshold tau, and notes.
    """
    layers = np.array([head.layer for head in heads])
    looking = criterion if attention is None else attention
    full = [layer for layer in np.unique(layers) if (looking[layers == layer] > _ALL_PICTURE).all()]
    exempt = np.isin(layers, full)
    threshold, kept = 0.0, exempt
    if not exempt.all():
        found = elbow(criterion[~exempt])
        threshold, kept = found.threshold, exempt | found.keeps(criterion)
    deep = deep_enough(heads, skipped_layers)
    if (kept & deep).any():
        notes: tuple[str, ...] = ()
        if (layers < skipped_layers).all():
            notes = (f"no layer from {skipped_layers} on was observed; all layers are candidates",)
        return kept & deep, threshold, notes
    note = f"only layers below {skipped_layers} reach the elbow; it was not applied"
    return deep, threshold, (note,)


def lowest(
    entropy: Float[np.ndarray, " heads"],
    attention: Float[np.ndarray, " heads"],
    heads: tuple[Head, ...],
    candidates: Bool[np.ndarray, " heads"],
    most: int,
) -> Int[np.ndarray, " chosen"]:
    """Find at most `most` candidates of lowest finite entropy in one sample; returns indices.

    Many heads tie at 0: the larger S_img of the sample comes first, then layer, then head.
    """
    order = order_of(heads, entropy.astype(np.float64), -attention.astype(np.float64))
    chosen = candidates[order] & np.isfinite(entropy[order])
    return np.asarray(order[chosen][:most])


def votes(
    seen: DrawnStatistics,
    candidates: Bool[np.ndarray, "draws heads"],
    most: int,
    columns: tuple[str, str] = (ENTROPY, ATTENTION),
) -> Float64[np.ndarray, "draws heads"]:
    """Apply criterion 2: count how often a candidate is among a sample's lowest entropies.

    Draws with the same candidates share their votes. Memory O(heads), one pass.

    Returns:
        The share of each draw's samples, per head.
    """
    kinds, which = np.unique(candidates, axis=0, return_inverse=True)
    # Of equal keys the first wins, so the columns are sorted by layer, then head.
    standing = order_of(seen.heads)
    groups = [
        (standing[kind[standing]], np.flatnonzero(which.reshape(-1) == number))
        for number, kind in enumerate(kinds)
    ]
    counts = np.zeros(candidates.shape)
    totals = np.zeros(len(candidates))
    for piece in seen.pieces():
        totals += piece.weights.sum(axis=0)
        keys = _keys(*(piece.column(name) for name in columns))
        for places, draws in groups:
            rows = np.flatnonzero(piece.weights[:, draws].any(axis=1))
            row, place = np.nonzero(_smallest(keys[np.ix_(rows, places)], most))
            for draw in draws:
                times = piece.weights[rows[row], draw]
                counts[draw, places] += np.bincount(place, times, minlength=len(places))
    return counts / np.maximum(totals, 1.0)[:, None]


def _keys(
    entropy: Float32[np.ndarray, "samples heads"], attention: Float32[np.ndarray, "samples heads"]
) -> UInt64[np.ndarray, "samples heads"]:
    """Encode the order of votes as whole numbers: lower entropy first, then larger attention.

    Heads without a finite entropy get the largest number of all.
    """
    high, low = (_whole(values).astype(np.uint64) for values in (entropy, -attention))
    keys = np.asarray(high << np.uint64(32) | low)
    keys[~np.isfinite(entropy)] = _NEVER
    return keys


def _whole(
    values: Float32[np.ndarray, "samples heads"],
) -> UInt32[np.ndarray, "samples heads"]:
    """Map floats to integers in the same order, by their bits; NaN comes last."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0
    turned = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    turned[np.isnan(values)] = np.iinfo(np.uint32).max
    return turned


def _smallest(
    keys: UInt64[np.ndarray, "samples places"], most: int
) -> Bool[np.ndarray, "samples places"]:
    """Find the `most` smallest keys of each sample, first of equal ones, without `_NEVER`."""
    if most >= keys.shape[1]:
        return np.asarray(keys < _NEVER)
    last = np.partition(keys, most - 1, axis=1)[:, most - 1 : most]
    chosen = keys <= last
    crowded = np.flatnonzero(chosen.sum(axis=1) > most)
    below, level = keys[crowded] < last[crowded], keys[crowded] == last[crowded]
    room = most - below.sum(axis=1, keepdims=True)
    chosen[crowded] = below | (level & (np.cumsum(level, axis=1) <= room))
    return np.asarray(chosen & (keys < _NEVER))


@dataclass(frozen=True)
class _DeepEnough:
    """A rule whose candidates lie in layer `skipped_layers` and above.

    Attributes:
        skipped_layers: number of first layers whose heads are never candidates.
    """

    skipped_layers: int = SKIPPED_LAYERS

    def __post_init__(self) -> None:
        per_sample = getattr(self, "per_sample", 1)
        if self.skipped_layers < 0 or per_sample < 1:
            raise InputError(
                "skipped_layers must be at least 0 and per_sample at least 1, got "
                f"{self.skipped_layers} and {per_sample}"
            )

    def _deep(self, seen: DrawnStatistics) -> Bool[np.ndarray, "draws heads"]:
        deep = deep_enough(seen.heads, self.skipped_layers)
        return np.broadcast_to(deep, (seen.draws, len(seen.heads)))


@dataclass(frozen=True)
class Paper(_DeepEnough):
    """The paper's rule (section 3): elbow on mean S_img, then frequency of lowest entropy.

    Attributes:
        per_sample: N, how many heads of lowest entropy each sample votes for.
    """

    per_sample: int = PER_SAMPLE

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, ENTROPY)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by selection frequency, each draw with its own elbow."""
        return self._frequency(seen, ATTENTION, ENTROPY)

    def _frequency(self, seen: DrawnStatistics, amount: str, entropy: str) -> Scores:
        both = seen.means(amount, ATTENTION)
        means, attention = both[amount], both[ATTENTION]
        if np.isnan(means).any():
            raise HeadsError(f"{amount!r} was not measured in every draw; give more samples")
        judged = [
            judge(seen.heads, mean, self.skipped_layers, looking)
            for mean, looking in zip(means, attention, strict=True)
        ]
        candidates = np.stack([one[0] for one in judged])
        frequency = votes(seen, candidates, self.per_sample, (entropy, amount))
        return Scores(
            values=frequency,
            candidates=candidates,
            frequency=frequency,
            criterion=means,
            thresholds=np.array([one[1] for one in judged]),
            notes=tuple(dict.fromkeys(note for one in judged for note in one[2])),
        )


@dataclass(frozen=True)
class PaperSensitivity(Paper):
    """The paper's two criteria with a third: frequency times mean sensitivity."""

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, ENTROPY, SENSITIVITY)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by frequency times sensitivity."""
        two = self._frequency(seen, ATTENTION, ENTROPY)
        moved = _paired(seen, SENSITIVITY)[SENSITIVITY]
        return replace(two, values=two.values * moved)


@dataclass(frozen=True)
class Contrastive(Paper):
    """The paper's two criteria on what the words added to the map of a neutral prompt; no labels.

    Attention that does not depend on the words (sinks, salient objects) is gone from these maps.
    """

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, CONTRAST, CONTRAST_ENTROPY)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by selection frequency on the contrasted maps."""
        return self._frequency(seen, CONTRAST, CONTRAST_ENTROPY)


@dataclass(frozen=True)
class Supervised(_DeepEnough):
    """The mean share of a head's image attention that lies inside the true boxes.

    It needs labels, but few: five to ten samples rank heads as well as two hundred.
    """

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, INSIDE)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by the mean share inside."""
        inside = seen.means(INSIDE)[INSIDE]
        if np.isnan(inside).any():
            raise HeadsError(
                "rule supervised needs true boxes in every draw, but this data lacks them; "
                "choose a label-free rule, or data with boxes"
            )
        return Scores(inside, self._deep(seen))


@dataclass(frozen=True)
class Sensitivity(_DeepEnough):
    """Heads that look at the picture, and elsewhere when the words change; no labels.

    Mean of (1 - overlap) over pairs of expressions about one picture, times mean S_img.
    """

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, SENSITIVITY)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by sensitivity times S_img."""
        means = _paired(seen, ATTENTION, SENSITIVITY)
        return Scores(means[ATTENTION] * means[SENSITIVITY], self._deep(seen))


@dataclass(frozen=True)
class Consensus(Sensitivity):
    """`Sensitivity`, times the agreement of a head's change with that of the other heads.

    A head that changes at random is sensitive too, but its changes agree with no other head's.
    """

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, SENSITIVITY, AGREEMENT)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by sensitivity times S_img times agreement."""
        base = super().score(seen)
        return Scores(base.values * _paired(seen, AGREEMENT)[AGREEMENT], base.candidates)


@dataclass(frozen=True)
class AttentionOnly(_DeepEnough):
    """Criterion 1 alone (an ablation of the paper, and the control of all heads): mean S_img."""

    needs: ClassVar[tuple[str, ...]] = (ATTENTION,)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by mean S_img."""
        return Scores(seen.means(ATTENTION)[ATTENTION], self._deep(seen))


@dataclass(frozen=True)
class EntropyOnly(Paper):
    """Criterion 2 alone (an ablation of the paper): frequency of lowest entropy, no elbow."""

    needs: ClassVar[tuple[str, ...]] = (ATTENTION, ENTROPY)

    def score(self, seen: DrawnStatistics) -> Scores:
        """Score by selection frequency among all heads that lie deep enough."""
        deep = self._deep(seen)
        frequency = votes(seen, deep, self.per_sample)
        return Scores(frequency, deep, frequency)


def _paired(seen: DrawnStatistics, *columns: str) -> dict[str, Float64[np.ndarray, "draws heads"]]:
    """Average columns that compare expressions about one picture."""
    means = seen.means(*columns)
    if any(np.isnan(values).any() for values in means.values()):
        raise HeadsError(
            "this rule compares expressions about one picture: give data in which every draw has "
            "pictures with at least two expressions about different things"
        )
    return means
