"""Rules against plain readings of their own sentences, in exact fractions."""

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.heads import Head
from vg_engine.core.selection import head_statistics as names
from vg_engine.core.selection import rules
from vg_engine.core.selection.head_statistics import HeadStatistics
from vg_engine.core.selection.ranking import DrawnStatistics, Selection, select

ZERO = Fraction(0)
Table = list[list[Any]]  # one list per sample, one entry per head


@dataclass
class Case:
    """What was observed, as plain lists."""

    heads: tuple[Head, ...]
    columns: dict[str, np.ndarray]
    weights: np.ndarray

    @property
    def draws(self) -> int:
        return self.weights.shape[1]

    def seen(self, blocks: int = 3) -> DrawnStatistics:
        parts = np.array_split(np.arange(len(self.weights)), blocks)
        held = [
            HeadStatistics(self.heads, {name: v[part] for name, v in self.columns.items()})
            for part in parts
        ]
        return DrawnStatistics.of(held, self.weights.astype(float))

    def select(self, rule: rules.Paper | Any, k: int | None = 3) -> Selection:
        return select(rule, self.seen(), name="any", k=k)

    def mean(self, name: str, draw: int) -> list[Fraction]:
        """Exact mean over a draw's samples in which the column is known."""
        means = []
        for values in self.columns[name].T:
            known = [
                (Fraction(float(v)), int(w))
                for v, w in zip(values, self.weights[:, draw], strict=True)
                if math.isfinite(v)
            ]
            means.append(sum((v * w for v, w in known), ZERO) / sum(w for _, w in known))
        return means

    def over_draws(self, per_draw: list[list[Fraction]]) -> list[Fraction]:
        return [sum(column, ZERO) / self.draws for column in zip(*per_draw, strict=True)]

    def attention(self) -> list[Fraction]:
        return self.over_draws([self.mean(names.ATTENTION, d) for d in range(self.draws)])

    def deep(self, skipped: int = 2) -> list[Head]:
        return [h for h in self.heads if h.layer >= skipped] or list(self.heads)


def plain_elbow(values: list[Fraction]) -> tuple[Fraction, bool]:
    """The value furthest below the chord of the sorted curve, and whether it was a close call."""
    curve = sorted(values)
    last = len(curve) - 1
    if last < 2:
        return curve[0], False
    chord = [curve[0] + (curve[last] - curve[0]) * Fraction(i, last) for i in range(last + 1)]
    below = [on_chord - value for on_chord, value in zip(chord, curve, strict=True)]
    deepest = max(below)
    if deepest <= 0:
        return curve[0], False
    found = curve[below.index(deepest)]
    span = curve[last] - curve[0]
    near = [v for v, b in zip(curve, below, strict=True) if deepest - b < span / 10**9]
    return found, deepest < span / 10**7 or any(value != found for value in near)


@dataclass
class Plain:
    frequency: list[list[Fraction]]
    candidates: list[set[Head]]
    taus: list[Fraction]
    close: bool


def plain_paper(
    case: Case,
    n: int,
    skipped: int = 2,
    amount: str = names.ATTENTION,
    entropy: str = names.ENTROPY,
) -> Plain:
    """Section 2 of the method, sentence by sentence, each draw for itself."""
    plain = Plain([], [], [], close=False)
    for draw in range(case.draws):
        s_img = dict(zip(case.heads, case.mean(amount, draw), strict=True))
        looking = dict(zip(case.heads, case.mean(names.ATTENTION, draw), strict=True))
        layers = {h.layer for h in case.heads}
        crossing = {
            layer
            for layer in layers
            if all(looking[h] > 0.999 for h in case.heads if h.layer == layer)
        }
        judged = [s_img[h] for h in case.heads if h.layer not in crossing]
        tau, close = plain_elbow(judged) if judged else (ZERO, False)
        kept = [h for h in case.heads if h.layer in crossing or s_img[h] >= tau]
        deep = case.deep(skipped)
        candidates = {h for h in kept if h in deep} or set(deep)
        count: Counter[Head] = Counter()
        for row, times in enumerate(case.weights[:, draw]):
            h_img = dict(zip(case.heads, case.columns[entropy][row].tolist(), strict=True))
            looked = dict(zip(case.heads, case.columns[amount][row].tolist(), strict=True))
            able = [h for h in candidates if math.isfinite(h_img[h])]
            able.sort(key=lambda h: (h_img[h], -looked[h], h))
            for head in able[:n]:
                count[head] += int(times)
        total = int(case.weights[:, draw].sum())
        plain.frequency.append([Fraction(count[h], total) for h in case.heads])
        plain.candidates.append(candidates)
        plain.taus.append(tau)
        plain.close |= close
    return plain


def ranking(case: Case, scores: list[Fraction], candidates: set[Head]) -> list[Head]:
    attention = case.attention()
    place = {h: (-scores[i], -attention[i], h) for i, h in enumerate(case.heads)}
    return sorted(candidates, key=place.__getitem__)


def check_paper(case: Case, found: Selection, plain: Plain, factor: list[Fraction] | None) -> None:
    """Compare a selection by frequency (times a factor per draw and head) with the plain one."""
    mean = case.over_draws(plain.frequency)
    ever = set.union(*plain.candidates)
    per_draw = plain.frequency
    if factor is not None:
        per_draw = [
            [f * s for f, s in zip(row, factor[d * len(row) : (d + 1) * len(row)], strict=True)]
            for d, row in enumerate(plain.frequency)
        ]
    score = case.over_draws(per_draw)
    assert list(found.ranked) == ranking(case, score, ever)
    at = [case.heads.index(head) for head in found.ranked]
    assert found.scores == pytest.approx([float(score[i]) for i in at])
    assert found.frequency == pytest.approx([float(mean[i]) for i in at])
    spread = [float(np.std([float(row[i]) for row in plain.frequency])) for i in at]
    assert found.frequency_spread == pytest.approx(spread, abs=1e-9)
    assert found.thresholds == pytest.approx([float(tau) for tau in plain.taus])
    assert found.threshold == pytest.approx(float(np.mean([float(t) for t in plain.taus])))


def random_heads(rng: np.random.Generator) -> tuple[Head, ...]:
    """Some heads of some layers, in any order; now and then none that lies deep."""
    layers = 2 if rng.random() < 0.1 else int(rng.integers(3, 7))
    every = [Head(layer, head) for layer in range(layers) for head in range(5)]
    some = rng.permutation(len(every))[: int(rng.integers(1, len(every) + 1))]
    return tuple(every[i] for i in some)


def random_case(rng: np.random.Generator) -> Case:
    heads = random_heads(rng)
    samples = int(rng.integers(1, 25))
    shape = (samples, len(heads))
    attention = rng.beta(0.5, 1.5, shape)
    if rng.random() < 0.5:  # few different values, so that means and samples tie
        attention = np.round(attention * 4) / 4
    layers = np.array([head.layer for head in heads])
    if rng.random() < 0.3:  # a layer that sees nothing but the picture
        attention[:, layers == rng.choice(layers)] = 1.0
    if rng.random() < 0.2:  # only early layers look at the picture
        attention[:, layers > 1] *= 0.01
    entropy = rng.integers(0, 4, shape).astype(float)
    entropy[entropy == 3] = np.inf
    if rng.random() < 0.3:
        entropy = rng.random(shape)
    draws = int(rng.integers(1, 6))
    weights = rng.integers(0, 4, (samples, draws))
    if rng.random() < 0.5:  # draws of one size, of which many heads have equal shares
        weights = rng.multinomial(samples, np.full(samples, 1 / samples), draws).T
    weights[0] += weights.sum(axis=0) == 0
    columns = {
        names.ATTENTION: attention,
        names.ENTROPY: entropy,
        names.SENSITIVITY: np.round(rng.random(shape) * 8) / 8,
        names.AGREEMENT: rng.random(shape),
        names.INSIDE: rng.random(shape),
        names.CONTRAST: attention * (np.round(rng.random(shape) * 2) / 2),
        names.CONTRAST_ENTROPY: rng.permutation(entropy, axis=0),
    }
    unknown = rng.random(samples) < 0.3
    unknown[np.flatnonzero(weights.all(axis=1))[:1]] = False
    for name in (names.SENSITIVITY, names.AGREEMENT, names.INSIDE):
        columns[name][unknown] = np.nan
    return Case(heads, {n: v.astype(np.float32) for n, v in columns.items()}, weights)


def known_everywhere(case: Case, name: str) -> bool:
    known = np.isfinite(case.columns[name][:, 0])
    return bool((case.weights[known].sum(axis=0) > 0).all())


def test_the_paper_rule_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    checked, kinds = 0, Counter[str]()
    for _ in range(160):
        case = random_case(rng)
        n, skipped = int(rng.integers(1, 8)), int(rng.integers(0, 4))
        plain = plain_paper(case, n, skipped)
        if plain.close:
            continue
        checked += 1
        found = case.select(rules.Paper(per_sample=n, skipped_layers=skipped))
        check_paper(case, found, plain, None)
        for draw, top in enumerate(found.tops):
            s_img = case.mean(names.ATTENTION, draw)
            place = {h: (-plain.frequency[draw][i], -s_img[i], h) for i, h in enumerate(case.heads)}
            expected = sorted(plain.candidates[draw], key=place.__getitem__)
            assert list(top) == expected[: found.k]
        kinds["candidates differ between draws"] += len(set(map(frozenset, plain.candidates))) > 1
        kinds["resampled"] += int(case.weights.max() > 1)
        kinds["noted"] += bool(found.notes)
    assert checked > 100
    assert min(kinds.values()) > 15, kinds


def test_paper_and_sensitivity_is_frequency_times_mean_sensitivity() -> None:
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(90):
        case = random_case(rng)
        plain = plain_paper(case, 5)
        if plain.close or not known_everywhere(case, names.SENSITIVITY):
            continue
        checked += 1
        moved = [value for d in range(case.draws) for value in case.mean(names.SENSITIVITY, d)]
        check_paper(case, case.select(rules.PaperSensitivity(per_sample=5)), plain, moved)
    assert checked > 50


def test_contrastive_is_the_papers_rule_on_what_the_words_added() -> None:
    rng = np.random.default_rng(2)
    checked = 0
    for _ in range(90):
        case = random_case(rng)
        plain = plain_paper(case, 4, 2, names.CONTRAST, names.CONTRAST_ENTROPY)
        if plain.close:
            continue
        checked += 1
        check_paper(case, case.select(rules.Contrastive(per_sample=4)), plain, None)
    assert checked > 50


@pytest.mark.parametrize(
    ("rule", "factors"),
    [
        (rules.AttentionOnly(), [names.ATTENTION]),
        (rules.Supervised(), [names.INSIDE]),
        (rules.Sensitivity(), [names.ATTENTION, names.SENSITIVITY]),
        (rules.Consensus(), [names.ATTENTION, names.SENSITIVITY, names.AGREEMENT]),
    ],
)
def test_rules_of_means_are_products_of_means(rule: Any, factors: list[str]) -> None:
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(60):
        case = random_case(rng)
        if not all(known_everywhere(case, name) for name in factors):
            continue
        checked += 1
        per_draw = [
            [math.prod(parts, start=Fraction(1)) for parts in zip(*means, strict=True)]
            for d in range(case.draws)
            for means in [[case.mean(name, d) for name in factors]]
        ]
        score = case.over_draws(per_draw)
        found = case.select(rule, k=None)
        assert list(found.ranked) == ranking(case, score, set(case.deep()))
        assert found.heads == found.ranked
        at = [case.heads.index(head) for head in found.ranked]
        assert found.scores == pytest.approx([float(score[i]) for i in at])
        assert found.spread == pytest.approx(
            [float(np.std([float(row[i]) for row in per_draw])) for i in at], abs=1e-9
        )
        assert len(found.frequency) == len(found.frequency_spread) == 0
    assert checked > 40


def test_entropy_only_votes_among_all_deep_heads() -> None:
    rng = np.random.default_rng(4)
    for _ in range(80):
        case = random_case(rng)
        n = int(rng.integers(1, 6))
        columns = (case.columns[names.ENTROPY], case.columns[names.ATTENTION])
        deep = case.deep()
        frequency = []
        for draw in range(case.draws):
            count: Counter[Head] = Counter()
            for row, times in enumerate(case.weights[:, draw]):
                entropy, attention = (column[row].tolist() for column in columns)
                place = {h: (entropy[i], -attention[i], h) for i, h in enumerate(case.heads)}
                able = [h for h in deep if place[h][0] != math.inf]
                for head in sorted(able, key=place.__getitem__)[:n]:
                    count[head] += int(times)
            total = int(case.weights[:, draw].sum())
            frequency.append([Fraction(count[h], total) for h in case.heads])
        found = case.select(rules.EntropyOnly(per_sample=n), k=None)
        assert list(found.ranked) == ranking(case, case.over_draws(frequency), set(deep))


def test_votes_are_those_of_each_sample_alone() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        heads = random_heads(rng)
        shape = (int(rng.integers(1, 30)), len(heads))
        entropy = rng.choice([0.0, -0.0, 0.5, 1.5, np.inf, np.nan], shape).astype(np.float32)
        attention = rng.choice([0.0, -0.0, 0.25, 0.5], shape).astype(np.float32)
        weights = rng.integers(0, 3, (shape[0], 4)).astype(float)
        candidates = rng.random((4, shape[1])) < rng.choice([0.0, 0.3, 0.9, 1.0], (4, 1))
        candidates[1] = candidates[0]
        case = Case(heads, {names.ENTROPY: entropy, names.ATTENTION: attention}, weights)
        most = int(rng.integers(1, 9))
        counts = np.zeros(candidates.shape)
        for draw, allowed in enumerate(candidates):
            for row, times in enumerate(weights[:, draw]):
                for i in rules.lowest(entropy[row], attention[row], heads, allowed, most):
                    counts[draw, i] += times
        expected = counts / np.maximum(weights.sum(axis=0), 1)[:, None]
        assert np.array_equal(rules.votes(case.seen(), candidates, most), expected)


def test_the_lowest_are_finite_and_tie_to_attention_layer_and_head() -> None:
    heads = (Head(3, 1), Head(3, 0), Head(2, 5), Head(2, 4), Head(1, 0))
    entropy = np.array([0.0, 0.0, 0.0, np.inf, 0.0], np.float32)
    attention = np.array([0.5, 0.5, 0.5, 0.9, 0.7], np.float32)
    every = np.ones(5, dtype=bool)
    assert rules.lowest(entropy, attention, heads, every, 9).tolist() == [4, 2, 1, 0]
    every[4] = False
    assert rules.lowest(entropy, attention, heads, every, 2).tolist() == [2, 1]


def one_draw(heads: tuple[Head, ...], attention: list[float], **columns: np.ndarray) -> Case:
    values = {names.ATTENTION: np.array([attention]), names.ENTROPY: np.ones((1, len(heads)))}
    values |= columns
    return Case(
        heads, {n: v.astype(np.float32) for n, v in values.items()}, np.ones((1, 1), dtype=int)
    )


def test_layers_that_see_only_the_picture_are_exempt_from_the_elbow() -> None:
    heads = tuple(Head(layer, head) for layer in range(2, 7) for head in range(4))
    attention = [0.3 * (i / 15) ** 2 for i in range(16)] + [1.0, 0.9995, 1.0004, 0.9999]
    crossing = one_draw(heads, attention).select(rules.Paper(), k=None)
    tau, _ = plain_elbow([Fraction(float(np.float32(value))) for value in attention[:16]])
    assert crossing.threshold == pytest.approx(float(tau))
    assert set(heads[16:]) < set(crossing.ranked)
    attention[-1] = 0.9  # one head of the layer looks elsewhere, too: no cross-attention
    plain = one_draw(heads, attention).select(rules.Paper(), k=None)
    assert plain.threshold > 2 * crossing.threshold
    assert set(heads[16:]) <= set(plain.ranked)
    alone = one_draw(heads, [1.0] * 20).select(rules.Paper(), k=None)
    assert (alone.threshold, len(alone.ranked)) == (0.0, 20)


def test_criteria_that_leave_nobody_give_way_and_say_so() -> None:
    heads = tuple(Head(layer, head) for layer in range(5) for head in range(4))
    attention = [0.9, 0.85, 0.88, 0.83, 0.81, 0.8, 0.82, 0.03] + [0.0] + [0.01] * 11
    found = one_draw(heads, attention).select(rules.Paper(), k=None)
    assert {head.layer for head in found.ranked} == {2, 3, 4}
    assert any("elbow" in note for note in found.notes)
    shallow = one_draw(heads[:8], attention[:8]).select(rules.Paper())
    assert len(shallow.heads) == 3
    assert any("all layers are candidates" in note for note in shallow.notes)


@pytest.mark.parametrize(
    ("rule", "column", "says"),
    [
        (rules.Supervised(), names.INSIDE, "true boxes"),
        (rules.Sensitivity(), names.SENSITIVITY, "two expressions"),
        (rules.Consensus(), names.AGREEMENT, "two expressions"),
        (rules.PaperSensitivity(), names.SENSITIVITY, "two expressions"),
        (rules.Contrastive(), names.CONTRAST, "more samples"),
    ],
)
def test_a_draw_in_which_nothing_is_known_is_refused(rule: Any, column: str, says: str) -> None:
    rng = np.random.default_rng(6)
    case = random_case(rng)
    for name in case.columns:
        case.columns[name] = np.nan_to_num(case.columns[name])
    case.weights = np.ones((len(case.weights), 2), dtype=int)
    case.select(rule)
    case.weights[0, 1] = 0
    case.weights[1:, 0] = 0
    case.columns[column][1:] = np.nan
    with pytest.raises(HeadsError, match=says):
        case.select(rule)


EVERY = [
    rules.Paper(),
    rules.PaperSensitivity(),
    rules.Contrastive(),
    rules.Supervised(),
    rules.Sensitivity(),
    rules.Consensus(),
    rules.AttentionOnly(),
    rules.EntropyOnly(),
]


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: type(rule).__name__)
def test_a_rule_reads_what_it_says_that_it_needs(rule: Any) -> None:
    case = random_case(np.random.default_rng(7))
    for name in case.columns:
        case.columns[name] = np.nan_to_num(case.columns[name])
    case.columns = {name: case.columns[name] for name in rule.needs}
    assert case.select(rule).heads
    for name in rule.needs:
        less = {n: v for n, v in case.columns.items() if n != name}
        less["other"] = case.columns[name]
        with pytest.raises(HeadsError, match=f"'{name}' was not measured"):
            Case(case.heads, less, case.weights).select(rule)


@pytest.mark.parametrize("kind", [type(rule) for rule in EVERY])
def test_options_are_checked(kind: Any) -> None:
    with pytest.raises(InputError, match="skipped_layers"):
        kind(skipped_layers=-1)
    if "per_sample" in kind.__dataclass_fields__:
        with pytest.raises(InputError, match="per_sample"):
            kind(per_sample=0)


def test_contrast_leaves_cross_attention_layers_their_exemption() -> None:
    """Layer 2 holds nothing but the picture; what words add there may be little."""
    heads = tuple(Head(layer, head) for layer in (2, 3) for head in range(6))
    looking = np.array([1.0] * 6 + [0.01, 0.02, 0.03, 0.05, 0.5, 0.6])
    added = np.array([0.01] * 6 + [0.01, 0.01, 0.01, 0.02, 0.4, 0.5])
    kept, _, _ = rules.judge(heads, added, 2, looking)
    assert kept.tolist() == [True] * 6 + [False] * 3 + [True] * 3  # from .02 on
