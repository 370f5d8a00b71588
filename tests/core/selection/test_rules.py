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
Table = list[list[Fraction]]  # one list per draw, one entry per head


@dataclass
class Case:
    """Head statistics as plain lists."""

    heads: tuple[Head, ...]
    columns: dict[str, np.ndarray]
    weights: np.ndarray

    def __post_init__(self) -> None:
        self.columns = {name: values.astype(np.float32) for name, values in self.columns.items()}
        self.draws = range(self.weights.shape[1])

    def seen(self) -> DrawnStatistics:
        parts = np.array_split(np.arange(len(self.weights)), 3)
        held = [
            HeadStatistics(self.heads, {name: v[part] for name, v in self.columns.items()})
            for part in parts
        ]
        return DrawnStatistics.of(held, self.weights.astype(float))

    def select(self, rule: Any, k: int | None = None) -> Selection:
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

    def over_draws(self, table: Table) -> list[Fraction]:
        return [sum(column, ZERO) / len(table) for column in zip(*table, strict=True)]

    def deep(self, skipped: int = 2) -> set[Head]:
        return {h for h in self.heads if h.layer >= skipped} or set(self.heads)

    def known_everywhere(self, name: str) -> bool:
        known = np.isfinite(self.columns[name][:, 0])
        return bool((self.weights[known].sum(axis=0) > 0).all())

    def ranking(
        self, scores: list[Fraction], attention: list[Fraction], candidates: set[Head]
    ) -> list[Head]:
        place = {h: (-scores[i], -attention[i], h) for i, h in enumerate(self.heads)}
        return sorted(candidates, key=place.__getitem__)


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


def plain_candidates(
    case: Case, draw: int, skipped: int, amount: str
) -> tuple[set[Head], Fraction, bool]:
    """Criterion 1 of section 2 of the method, with its threshold and whether that was close."""
    s_img = dict(zip(case.heads, case.mean(amount, draw), strict=True))
    looking = dict(zip(case.heads, case.mean(names.ATTENTION, draw), strict=True))
    elsewhere = {h.layer for h in case.heads if looking[h] <= 0.999}
    judged = [s_img[h] for h in case.heads if h.layer in elsewhere]
    tau, close = plain_elbow(judged) if judged else (ZERO, False)
    kept = {h for h in case.heads if h.layer not in elsewhere or s_img[h] >= tau}
    return kept & case.deep(skipped) or case.deep(skipped), tau, close


def plain_votes(
    case: Case,
    draw: int,
    candidates: set[Head],
    n: int,
    entropy: str = names.ENTROPY,
    amount: str = names.ATTENTION,
) -> list[Fraction]:
    """Criterion 2: the share of a draw's samples in which each head is among the n lowest."""
    count: Counter[Head] = Counter()
    for row, times in enumerate(case.weights[:, draw]):
        h_img, looked = (
            dict(zip(case.heads, case.columns[name][row].tolist(), strict=True))
            for name in (entropy, amount)
        )
        able = [h for h in candidates if math.isfinite(h_img[h])]
        able.sort(key=lambda h: (h_img[h], -looked[h], h))
        for head in able[:n]:
            count[head] += int(times)
    total = max(1, int(case.weights[:, draw].sum()))
    return [Fraction(count[h], total) for h in case.heads]


def check(
    case: Case, found: Selection, candidates: list[set[Head]], scores: Table, frequency: Table
) -> None:
    """Compare all that a selection says with one table of scores, and one of votes if any."""
    attention = [case.mean(names.ATTENTION, draw) for draw in case.draws]
    overall = case.over_draws(scores), case.over_draws(attention)
    assert list(found.ranked) == case.ranking(*overall, set.union(*candidates))
    at = [case.heads.index(head) for head in found.ranked]

    votes = (frequency, found.frequency, found.frequency_spread)
    for table, mean, spread in ((scores, found.scores, found.spread), votes):
        values = np.array(table, dtype=float)[:, at] if table else np.zeros((1, 0))
        assert mean == pytest.approx(values.mean(axis=0))
        assert spread == pytest.approx(values.std(axis=0), abs=1e-9)
    for draw, top in enumerate(found.tops if scores is frequency else ()):
        own = case.ranking(scores[draw], attention[draw], candidates[draw])
        assert list(top) == own[: found.k]


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
    return Case(heads, columns, weights)


@pytest.mark.parametrize(
    ("kind", "columns", "factor"),
    [
        (rules.Paper, (names.ATTENTION, names.ENTROPY), None),
        (rules.PaperSensitivity, (names.ATTENTION, names.ENTROPY), names.SENSITIVITY),
        (rules.Contrastive, (names.CONTRAST, names.CONTRAST_ENTROPY), None),
    ],
)
def test_the_paper_rule_is_the_papers(
    kind: Any, columns: tuple[str, str], factor: str | None
) -> None:
    rng = np.random.default_rng(0)
    amount, entropy = columns
    checked, kinds = 0, Counter[str]()
    for _ in range(110):
        case = random_case(rng)
        n, skipped = int(rng.integers(1, 8)), int(rng.integers(0, 4))
        judged = [plain_candidates(case, draw, skipped, amount) for draw in case.draws]
        candidates = [one[0] for one in judged]
        if any(one[2] for one in judged) or (factor and not case.known_everywhere(factor)):
            continue
        checked += 1
        scores = frequency = [
            plain_votes(case, draw, candidates[draw], n, entropy, amount) for draw in case.draws
        ]
        if factor:
            scores = [
                [f * s for f, s in zip(row, case.mean(factor, draw), strict=True)]
                for draw, row in enumerate(frequency)
            ]
        found = case.select(kind(per_sample=n, skipped_layers=skipped), k=3)
        check(case, found, candidates, scores, frequency)
        taus = [float(one[1]) for one in judged]
        assert found.thresholds == pytest.approx(taus)
        assert found.threshold == pytest.approx(float(np.mean(taus)))
        kinds["candidates differ between draws"] += len(set(map(frozenset, candidates))) > 1
        kinds["resampled"] += int(case.weights.max() > 1)
        kinds["noted"] += bool(found.notes)
    assert checked > 60
    assert min(kinds.values()) > 10, kinds


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
        if not all(case.known_everywhere(name) for name in factors):
            continue
        checked += 1
        scores = [
            [math.prod(parts, start=Fraction(1)) for parts in zip(*means, strict=True)]
            for draw in case.draws
            for means in [[case.mean(name, draw) for name in factors]]
        ]
        found = case.select(rule)
        check(case, found, [case.deep() for _ in case.draws], scores, [])
        assert found.heads == found.ranked
    assert checked > 40


def test_entropy_only_votes_among_all_deep_heads() -> None:
    rng = np.random.default_rng(4)
    for _ in range(80):
        case = random_case(rng)
        n, deep = int(rng.integers(1, 6)), case.deep()
        votes = [plain_votes(case, draw, deep, n) for draw in case.draws]
        check(
            case, case.select(rules.EntropyOnly(per_sample=n)), [deep for _ in votes], votes, votes
        )


def test_votes_are_those_of_each_sample_alone() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        heads = random_heads(rng)
        shape = (int(rng.integers(1, 30)), len(heads))
        entropy = rng.choice([0.0, -0.0, 0.5, 1.5, np.inf, np.nan], shape)
        attention = rng.choice([0.0, -0.0, 0.25, 0.5], shape)
        weights = rng.integers(0, 3, (shape[0], 4))
        allowed = rng.random((4, shape[1])) < rng.choice([0.0, 0.3, 0.9, 1.0], (4, 1))
        allowed[1] = allowed[0]
        case = Case(heads, {names.ENTROPY: entropy, names.ATTENTION: attention}, weights)
        most = int(rng.integers(1, 9))
        expected = [
            plain_votes(case, draw, {h for h, able in zip(heads, row, strict=True) if able}, most)
            for draw, row in enumerate(allowed)
        ]
        found = rules.votes(case.seen(), allowed, most)
        np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-15)


def test_the_lowest_are_finite_and_tie_to_attention_layer_and_head() -> None:
    heads = (Head(3, 1), Head(3, 0), Head(2, 5), Head(2, 4), Head(1, 0))
    entropy = np.array([0.0, 0.0, 0.0, np.inf, 0.0], np.float32)
    attention = np.array([0.5, 0.5, 0.5, 0.9, 0.7], np.float32)
    every = np.ones(5, dtype=bool)
    assert rules.lowest(entropy, attention, heads, every, 9).tolist() == [4, 2, 1, 0]
    every[4] = False
    assert rules.lowest(entropy, attention, heads, every, 2).tolist() == [2, 1]


def by_paper(heads: tuple[Head, ...], attention: list[float]) -> Selection:
    columns = {names.ATTENTION: np.array([attention]), names.ENTROPY: np.ones((1, len(heads)))}
    return Case(heads, columns, np.ones((1, 1), dtype=int)).select(rules.Paper())


def test_layers_that_see_only_the_picture_are_exempt_from_the_elbow() -> None:
    heads = tuple(Head(layer, head) for layer in range(2, 7) for head in range(4))
    attention = [0.3 * (i / 15) ** 2 for i in range(16)] + [1.0, 0.9995, 1.0004, 0.9999]
    crossing = by_paper(heads, attention)
    tau, _ = plain_elbow([Fraction(float(np.float32(value))) for value in attention[:16]])
    assert crossing.threshold == pytest.approx(float(tau))
    assert set(heads[16:]) < set(crossing.ranked)
    attention[-1] = 0.9  # one head of the layer looks elsewhere, too: no cross-attention
    plain = by_paper(heads, attention)
    assert plain.threshold > 2 * crossing.threshold
    assert set(heads[16:]) <= set(plain.ranked)
    alone = by_paper(heads, [1.0] * 20)
    assert (alone.threshold, len(alone.ranked)) == (0.0, 20)


def test_criteria_that_leave_nobody_give_way_and_say_so() -> None:
    heads = tuple(Head(layer, head) for layer in range(5) for head in range(4))
    attention = [0.9, 0.85, 0.88, 0.83, 0.81, 0.8, 0.82, 0.03] + [0.0] + [0.01] * 11
    found = by_paper(heads, attention)
    assert {head.layer for head in found.ranked} == {2, 3, 4}
    assert any("elbow" in note for note in found.notes)
    shallow = by_paper(heads[:8], attention[:8])
    assert len(shallow.heads) == 8
    assert any("all layers are candidates" in note for note in shallow.notes)


def known_case(seed: int) -> Case:
    case = random_case(np.random.default_rng(seed))
    case.columns = {name: np.nan_to_num(values) for name, values in case.columns.items()}
    return case


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
    case = known_case(6)
    case.weights = np.ones((len(case.weights), 2), dtype=int)
    case.select(rule)
    case.weights[0, 1] = 0
    case.weights[1:, 0] = 0
    case.columns[column][1:] = np.nan
    with pytest.raises(HeadsError, match=says):
        case.select(rule)


def test_a_rule_reads_what_it_says_that_it_needs(rule: Any) -> None:
    case = known_case(7)
    case.columns = {name: case.columns[name] for name in rule.needs}
    assert case.select(rule).heads
    for name in rule.needs:
        less = {n: v for n, v in case.columns.items() if n != name}
        less["other"] = case.columns[name]
        with pytest.raises(HeadsError, match=f"'{name}' was not measured"):
            Case(case.heads, less, case.weights).select(rule)


def test_options_are_checked(rule: Any) -> None:
    with pytest.raises(InputError, match="skipped_layers"):
        type(rule)(skipped_layers=-1)
    if hasattr(rule, "per_sample"):
        with pytest.raises(InputError, match="per_sample"):
            type(rule)(per_sample=0)
