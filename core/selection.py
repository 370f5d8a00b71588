"""Which heads point: rules that choose a few fixed heads from observations (paper, section 3).

`observe` measures one picture with all its expressions once; every rule eats the observations one
by one and answers at the end, so that several rules are compared in a single pass:

    rule = PaperSelection(k=3)
    for maps in pictures:              # maps: one HeadMaps per expression about this picture
        rule.add(observe(maps))
    rule.result().heads

Only `PaperSelection` is the paper's. The other rules are label-free candidates, to be measured
beside it and never trusted by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from vg_engine.core.criteria import elbow, ranked, spatial_entropy
from vg_engine.core.heads import Head
from vg_engine.core.observation import Observation, Sums
from vg_engine.core.types import HeadMaps

TOP = 3
PER_SAMPLE = 10
SKIPPED_LAYERS = 2


@dataclass(frozen=True, eq=False)
class Selection:
    """Heads in order, and what put them there.

    Attributes:
        rule: its name.
        k: how many of the ranked heads are chosen.
        ranked: the candidates, best first.
        scores: what they were ranked by, aligned with `ranked`.
        frequency: share of samples in which each was among the lowest entropies, aligned with
            `ranked`; empty where the rule does not count.
        threshold: tau, the least mean S_img of a candidate; 0 where the rule has no such bound.
        all_heads: every head that was observed.
        mean_attention: mean S_img, aligned with `all_heads`.
        samples, pairs: how many were observed.
        notes: what the user should know (criteria that left no candidate).
    """

    rule: str
    k: int
    ranked: tuple[Head, ...]
    scores: Float64[np.ndarray, " ranked"]
    frequency: Float64[np.ndarray, " counted"]
    threshold: float
    all_heads: tuple[Head, ...]
    mean_attention: Float64[np.ndarray, " all_heads"]
    samples: int
    pairs: int = 0
    notes: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        """The chosen heads, best first."""
        return self.ranked[: self.k]

    @property
    def curve(self) -> Float64[np.ndarray, " all_heads"]:
        """Mean S_img sorted ascending, as the elbow sees it."""
        return np.sort(self.mean_attention)


class SelectionRule(Protocol):
    """What every rule offers."""

    def add(self, observation: Observation) -> None:
        """Take in one picture."""

    def result(self) -> Selection:
        """Rank the heads by all that was added.

        Raises:
            HeadsError: too little was added.
        """


def _candidates(
    heads: tuple[Head, ...], kept: Bool[np.ndarray, " heads"], skipped_layers: int
) -> tuple[Bool[np.ndarray, " heads"], tuple[str, ...]]:
    """Heads that pass both criteria; where none does, the criteria give way, and a note says so."""
    deep = np.array([head.layer >= skipped_layers for head in heads])
    if (kept & deep).any():
        return kept & deep, ()
    if deep.any():
        note = f"only layers below {skipped_layers} reach the elbow of S_img; it was not applied"
        return deep, (note,)
    return kept, (f"no layer from {skipped_layers} on was observed; all layers are candidates",)


def _judge(
    heads: tuple[Head, ...],
    mean_attention: Float64[np.ndarray, " heads"],
    skipped_layers: int,
    exempt_layers: frozenset[int],
) -> tuple[Bool[np.ndarray, " heads"], float, tuple[str, ...]]:
    """Criterion 1: who reaches the elbow of S_img and lies deep enough; tau; notes."""
    exempt = np.array([head.layer in exempt_layers for head in heads])
    threshold, kept = 0.0, exempt
    if not exempt.all():
        found = elbow(mean_attention[~exempt])
        threshold, kept = found.threshold, exempt | found.keeps(mean_attention)
    candidates, notes = _candidates(heads, kept, skipped_layers)
    return candidates, threshold, notes


def _rank(
    sums: Sums,
    rule: str,
    k: int | None,
    candidates: Bool[np.ndarray, " heads"],
    scores: Float64[np.ndarray, " heads"],
    *,
    frequency: Float64[np.ndarray, " heads"] | None = None,
    threshold: float = 0.0,
    notes: tuple[str, ...] = (),
) -> Selection:
    """Best score first; ties to the larger mean S_img, then by layer and head."""
    attention = sums.means()[0]
    layers, numbers = (np.array(part) for part in zip(*sums.heads, strict=True))
    order = ranked(-scores, -attention, layers, numbers)
    order = order[candidates[order]]
    return Selection(
        rule,
        len(order) if k is None else min(k, len(order)),
        tuple(sums.heads[i] for i in order),
        scores[order],
        np.zeros(0) if frequency is None else frequency[order],
        threshold,
        sums.heads,
        attention,
        sums.samples,
        sums.pairs,
        notes,
    )


def lowest_entropies(
    entropy: Float[np.ndarray, " heads"],
    attention: Float[np.ndarray, " heads"],
    heads: tuple[Head, ...],
    candidates: Bool[np.ndarray, " heads"],
    most: int,
) -> Int[np.ndarray, " chosen"]:
    """Indices of at most `most` candidates of lowest finite entropy in one sample.

    Many heads tie at 0: the larger S_img of the sample goes first, then layer, then head.
    """
    layers, numbers = (np.array(part) for part in zip(*heads, strict=True))
    order = ranked(entropy, -attention, layers, numbers)
    chosen = candidates[order] & np.isfinite(entropy[order])
    return np.asarray(order[chosen][:most])


@dataclass(eq=False)
class PaperSelection:
    """The paper's rule (section 3): elbow on mean S_img, then frequency of lowest entropy.

    Keeps two float32 arrays of samples x heads, for tau is known only at the end.

    Args:
        k: how many heads are fixed.
        per_sample: N, how many heads of lowest entropy each sample votes for.
        skipped_layers: the first layers, never candidates.
        exempt_layers: layers that the elbow does not judge (cross-attention: their rows hold
            nothing but the picture).
        draws, draw_size, seed: the frequency may be averaged over random draws of the samples,
            each without replacement and with its own elbow (the paper: 5 draws of 1,000). By
            default all samples are taken once.
    """

    k: int = TOP
    per_sample: int = PER_SAMPLE
    skipped_layers: int = SKIPPED_LAYERS
    exempt_layers: frozenset[int] = frozenset()
    draws: int = 1
    draw_size: int | None = None
    seed: int = 0
    name: str = "paper"
    _sums: Sums = field(default_factory=Sums, init=False, repr=False)
    _attention: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    _entropy: list[np.ndarray] = field(default_factory=list, init=False, repr=False)

    def add(self, observation: Observation) -> None:
        """Take in one picture; each of its expressions is one sample."""
        self._sums.add(observation)
        self._attention.append(observation.image_attention)
        self._entropy.append(observation.entropy)

    def result(self) -> Selection:
        """Rank by selection frequency.

        Raises:
            HeadsError: nothing was added.
        """
        candidates, frequency, threshold, notes = self._count()
        return _rank(
            self._sums,
            self.name,
            self.k,
            candidates,
            frequency,
            frequency=frequency,
            threshold=threshold,
            notes=notes,
        )

    def _count(
        self,
    ) -> tuple[Bool[np.ndarray, " heads"], Float64[np.ndarray, " heads"], float, tuple[str, ...]]:
        """Who was a candidate in any draw, mean frequency and tau over the draws, notes."""
        self._sums.means()
        heads = self._sums.heads
        attention, entropy = np.concatenate(self._attention), np.concatenate(self._entropy)
        size = min(self.draw_size or len(attention), len(attention))
        rng = np.random.default_rng(self.seed)
        ever = np.zeros(len(heads), dtype=bool)
        frequency, taus, notes = np.zeros(len(heads)), [], dict[str, None]()
        for _ in range(self.draws):
            drawn = rng.permutation(len(attention))[:size]
            mean = attention[drawn].mean(axis=0, dtype=np.float64)
            candidates, tau, told = _judge(heads, mean, self.skipped_layers, self.exempt_layers)
            for sample in drawn:
                votes = lowest_entropies(
                    entropy[sample], attention[sample], heads, candidates, self.per_sample
                )
                frequency[votes] += 1.0
            ever |= candidates
            taus.append(tau)
            notes.update(dict.fromkeys(told))
        return ever, frequency / (self.draws * size), float(np.mean(taus)), tuple(notes)


@dataclass(eq=False)
class PaperSensitivitySelection(PaperSelection):
    """The paper's two criteria with a third: frequency x mean sensitivity."""

    name: str = "paper+sensitivity"

    def result(self) -> Selection:
        """Rank by frequency x sensitivity.

        Raises:
            HeadsError: nothing was added, or no picture with two expressions.
        """
        candidates, frequency, threshold, notes = self._count()
        _, moved, _ = self._sums.means(pairs=True)
        return _rank(
            self._sums,
            self.name,
            self.k,
            candidates,
            frequency * moved,
            frequency=frequency,
            threshold=threshold,
            notes=notes,
        )


@dataclass(eq=False)
class SensitivitySelection:
    """Label-free: heads that look at the picture, and elsewhere when other words are said.

    Score: mean over picture pairs of (1 - overlap), times mean S_img. Memory O(heads).
    """

    k: int = TOP
    skipped_layers: int = SKIPPED_LAYERS
    name: str = "sensitivity"
    _sums: Sums = field(default_factory=Sums, init=False, repr=False)

    def add(self, observation: Observation) -> None:
        """Take in one picture; only pictures with two or more expressions tell something."""
        self._sums.add(observation)

    def result(self) -> Selection:
        """Rank by sensitivity x S_img.

        Raises:
            HeadsError: no picture with two different expressions was added.
        """
        attention, moved, agreed = self._sums.means(pairs=True)
        every = np.ones(len(attention), dtype=bool)
        candidates, notes = _candidates(self._sums.heads, every, self.skipped_layers)
        scores = self._score(attention, moved, agreed)
        return _rank(self._sums, self.name, self.k, candidates, scores, notes=notes)

    def _score(
        self,
        attention: Float64[np.ndarray, " heads"],
        moved: Float64[np.ndarray, " heads"],
        agreed: Float64[np.ndarray, " heads"],  # noqa: ARG002 - a further rule weighs it
    ) -> Float64[np.ndarray, " heads"]:
        return np.asarray(moved * attention)


@dataclass(eq=False)
class ConsensusSelection(SensitivitySelection):
    """`sensitivity`, times how far a head's change is the change of the other heads.

    A head that changes at random is sensitive, too; its changes agree with nobody's.
    """

    name: str = "consensus"

    def _score(
        self,
        attention: Float64[np.ndarray, " heads"],
        moved: Float64[np.ndarray, " heads"],
        agreed: Float64[np.ndarray, " heads"],
    ) -> Float64[np.ndarray, " heads"]:
        return np.asarray(moved * attention * agreed)


@dataclass(eq=False)
class MeanOfAll:
    """Every head from layer `skipped_layers` on, by mean S_img: the control, and a rule."""

    k: int | None = None
    skipped_layers: int = SKIPPED_LAYERS
    name: str = "mean_all"
    _sums: Sums = field(default_factory=Sums, init=False, repr=False)

    def add(self, observation: Observation) -> None:
        """Take in one picture."""
        self._sums.add(observation)

    def result(self) -> Selection:
        """All candidates, by mean S_img.

        Raises:
            HeadsError: nothing was added.
        """
        attention = self._sums.means()[0]
        every = np.ones(len(attention), dtype=bool)
        candidates, notes = _candidates(self._sums.heads, every, self.skipped_layers)
        return _rank(self._sums, self.name, self.k, candidates, attention, notes=notes)


def per_sample_heads(maps: HeadMaps, k: int = TOP) -> tuple[Head, ...]:
    """The heads of `per_sample_selection` with its defaults, best first."""
    return per_sample_selection(maps, k).heads


def per_sample_selection(
    maps: HeadMaps,
    k: int = TOP,
    *,
    cut: float = 1.0,
    skipped_layers: int = SKIPPED_LAYERS,
    exempt_layers: frozenset[int] = frozenset(),
) -> Selection:
    """`auto`: the paper's criteria on this one query alone, for a model without known heads.

    Its ablation (section 4) scores this far below fixed heads; results must say that it was used.
    The heads are the `k` of lowest entropy among those that reach the elbow of S_img; ties to the
    larger S_img, then by layer and head. Scores are negative entropies.
    """
    attention = maps.image_attention.astype(np.float64)
    entropy = spatial_entropy(maps.maps.values, cut=cut).astype(np.float32)
    candidates, threshold, notes = _judge(maps.heads, attention, skipped_layers, exempt_layers)
    none = np.zeros_like(attention)
    sums = Sums(maps.heads, 1, 0, attention, none, none)
    scores = -entropy.astype(np.float64)
    return _rank(sums, "auto", k, candidates, scores, threshold=threshold, notes=notes)
