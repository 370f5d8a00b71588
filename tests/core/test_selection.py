"""Selection rules, against plain readings of the paper and of each rule's own sentence."""

import math
from collections import Counter

import numpy as np
import pytest

from vg_engine.core.criteria import elbow, sensitivity, spatial_entropy
from vg_engine.core.errors import HeadsError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.observation import Observation, observe
from vg_engine.core.selection import (
    ConsensusSelection,
    MeanOfAll,
    PaperSelection,
    PaperSensitivitySelection,
    SelectionRule,
    SensitivitySelection,
    lowest_entropies,
    per_sample_heads,
    per_sample_selection,
)
from vg_engine.core.types import HeadMaps

HEADS = tuple(Head(layer, head) for layer in range(5) for head in range(4))
RULES = [
    PaperSelection,
    PaperSensitivitySelection,
    SensitivitySelection,
    ConsensusSelection,
    MeanOfAll,
]


def head_maps(
    values: np.ndarray, expression: str = "the dog", heads: tuple[Head, ...] = HEADS
) -> HeadMaps:
    return HeadMaps(
        expression,
        heads,
        SoftMap(values.astype(np.float32), Affine((1.0, 1.0), (0.0, 0.0))),
        values.sum(axis=(1, 2)).astype(np.float32),
    )


def random_maps(rng: np.random.Generator, expression: str = "the dog") -> HeadMaps:
    gain = rng.beta(0.5, 1.5, (len(HEADS), 1, 1))
    values = rng.random((len(HEADS), 6, 6)) ** 3
    return head_maps(values / values.sum(axis=(1, 2), keepdims=True) * gain, expression)


def observation(attention: np.ndarray, entropy: np.ndarray) -> Observation:
    none = np.zeros((0, attention.shape[1]), np.float32)
    return Observation(
        HEADS[: attention.shape[1]],
        attention.astype(np.float32),
        entropy.astype(np.float32),
        none,
        none,
    )


def plain_paper(
    heads: tuple[Head, ...], attention: list[list[float]], entropy: list[list[float]], n: int
) -> tuple[dict[Head, float], float, list[Head]]:
    """Section 3 of the paper, sentence by sentence."""
    samples = len(attention)
    mean = {h: sum(row[i] for row in attention) / samples for i, h in enumerate(heads)}
    tau = elbow(np.array(list(mean.values()))).threshold
    kept = [h for h in heads if mean[h] >= tau and h.layer > 1]
    if not kept:
        kept = [h for h in heads if h.layer > 1]
    count: Counter[Head] = Counter()
    for s_img, h_img in zip(attention, entropy, strict=True):
        by = {h: (h_img[i], -s_img[i], h) for i, h in enumerate(heads)}
        finite = [h for h in kept if by[h][0] != math.inf]
        count.update(sorted(finite, key=by.__getitem__)[:n])
    ranking = sorted(kept, key=lambda h: (-count[h], -mean[h], h))
    return {h: count[h] / samples for h in kept}, tau, ranking


def test_the_paper_rule_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    for trial in range(60):
        samples = int(rng.integers(1, 30))
        attention = rng.beta(0.5, 1.5, (samples, len(HEADS))).astype(np.float32)
        # Few different values, so that ties happen; now and then no component at all.
        entropy = rng.integers(0, 4, (samples, len(HEADS))).astype(np.float32)
        entropy[entropy == 3] = np.inf
        attention = np.round(attention * 4) / 4 if trial % 2 else attention
        n = int(rng.integers(1, 8))
        rule = PaperSelection(k=3, per_sample=n)
        for part in np.array_split(np.arange(samples), 3):
            rule.add(observation(attention[part], entropy[part]))
        found = rule.result()
        frequency, tau, ranking = plain_paper(HEADS, attention.tolist(), entropy.tolist(), n)
        assert list(found.ranked) == ranking
        assert found.heads == tuple(ranking[:3])
        assert found.threshold == pytest.approx(tau)
        assert found.frequency == pytest.approx([frequency[head] for head in ranking])
        assert found.samples == samples
        assert found.curve == pytest.approx(sorted(attention.mean(axis=0, dtype=float)))


def test_ties_go_to_the_larger_attention_then_to_the_earlier_head() -> None:
    attention = np.full((1, 20), 0.5, np.float32)
    attention[0, 15] = 0.7
    entropy = np.zeros((1, 20), np.float32)
    every = np.ones(20, dtype=bool)
    votes = lowest_entropies(entropy[0], attention[0], HEADS, every, 3)
    assert votes.tolist() == [15, 0, 1]


def test_heads_in_any_order_rank_alike() -> None:
    rng = np.random.default_rng(1)
    maps = [random_maps(rng) for _ in range(4)]
    order = rng.permutation(len(HEADS))
    straight, shuffled = PaperSelection(), PaperSelection()
    for one in maps:
        straight.add(observe([one]))
        mixed = head_maps(one.maps.values[order], heads=tuple(HEADS[i] for i in order))
        shuffled.add(observe([mixed]))
    assert straight.result().ranked == shuffled.result().ranked


def test_draws_average_the_frequency_and_are_repeatable() -> None:
    rng = np.random.default_rng(2)
    attention = rng.random((40, 20)).astype(np.float32)
    entropy = rng.random((40, 20)).astype(np.float32)

    def run(**settings: int) -> tuple[np.ndarray, float]:
        rule = PaperSelection(per_sample=3, **settings)
        rule.add(observation(attention, entropy))
        found = rule.result()
        by_head = dict(zip(found.ranked, found.frequency, strict=True))
        return np.array([by_head.get(head, 0.0) for head in HEADS]), found.threshold

    whole, tau = run()
    assert run(draws=4, draw_size=40)[0] == pytest.approx(whole)
    assert run(draws=4, draw_size=99)[1] == pytest.approx(tau)
    some, _ = run(draws=5, draw_size=10, seed=3)
    assert run(draws=5, draw_size=10, seed=3)[0].tolist() == some.tolist()
    assert some * 50 == pytest.approx(np.round(some * 50)), "votes of 5 x 10 samples"
    assert 0 < some.sum() <= 3 + 1e-9, "each sample votes for three at most"


def test_layers_exempt_from_the_elbow_stay() -> None:
    attention = np.linspace(0.01, 0.02, 20)[None].astype(np.float32)
    attention[0, -4:] = [0.5, 0.6, 0.7, 0.9]
    entropy = np.ones((1, 20), np.float32)
    strict, lenient = PaperSelection(), PaperSelection(exempt_layers=frozenset({2}))
    for rule in (strict, lenient):
        rule.add(observation(attention, entropy))
    assert Head(2, 0) not in strict.result().ranked
    assert {head for head in lenient.result().ranked if head.layer == 2} == set(HEADS[8:12])
    alone = PaperSelection(exempt_layers=frozenset(range(5)))
    alone.add(observation(attention, entropy))
    assert alone.result().threshold == 0.0
    assert len(alone.result().ranked) == 12


def test_criteria_that_leave_nobody_give_way_and_say_so() -> None:
    attention = np.linspace(0.02, 0.01, 20)[None].astype(np.float32)
    attention[0, :8] += np.linspace(0.9, 0.8, 8)  # only the first two layers look at the picture
    attention[0, 8] = 0.0  # the elbow keeps its own point: let that not be a deep head
    attention[0, 7] = 0.03
    rule = PaperSelection()
    rule.add(observation(attention, np.ones((1, 20))))
    found = rule.result()
    assert {head.layer for head in found.ranked} == {2, 3, 4}
    assert any("elbow" in note for note in found.notes)

    shallow = PaperSelection()
    shallow.add(observation(attention[:, :8], np.ones((1, 8))))
    assert len(shallow.result().heads) == 3
    assert any("layer" in note for note in shallow.result().notes)


def test_k_larger_than_the_candidates_takes_what_there_is() -> None:
    rule = PaperSelection(k=99)
    rule.add(observation(np.full((1, 20), 0.5), np.ones((1, 20))))
    assert len(rule.result().heads) == 12


def test_observing_measures_every_expression_and_every_pair() -> None:
    rng = np.random.default_rng(4)
    maps = [random_maps(rng, text) for text in ("a dog", "a cat", "a dog")]
    seen = observe(maps)
    assert seen.heads == HEADS
    assert seen.image_attention.shape == seen.entropy.shape == (3, 20)
    assert seen.sensitivity.shape == seen.agreement.shape == (2, 20), "the same words are no pair"
    a, b, c = (one.maps.values for one in maps)
    np.testing.assert_allclose(seen.entropy[1], spatial_entropy(b), rtol=1e-6)
    np.testing.assert_allclose(seen.sensitivity, [sensitivity(a, b), sensitivity(b, c)], rtol=1e-6)
    assert observe(maps[:1]).sensitivity.shape == (0, 20)


def test_observations_of_other_heads_are_refused() -> None:
    rng = np.random.default_rng(5)
    one, other = random_maps(rng), random_maps(rng)
    few = head_maps(other.maps.values[:4], "a cat", HEADS[:4])
    for wrong in ([], [one, few]):
        with pytest.raises(HeadsError, match="same heads"):
            observe(wrong)
    rule = MeanOfAll()
    rule.add(observe([one]))
    with pytest.raises(HeadsError, match="same heads"):
        rule.add(observe([few]))


def test_sensitivity_is_mean_change_times_mean_attention() -> None:
    rng = np.random.default_rng(6)
    rule = SensitivitySelection()
    moved, attention = [], []
    for _ in range(7):
        a, b = random_maps(rng, "a dog"), random_maps(rng, "a cat")
        rule.add(observe([a, b]))
        moved.append(sensitivity(a.maps.values, b.maps.values))
        attention += [a.image_attention, b.image_attention]
    score = np.mean(moved, axis=0) * np.mean(attention, axis=0)
    found = rule.result()
    expected = sorted(HEADS[8:], key=lambda head: -score[HEADS.index(head)])
    assert list(found.ranked) == expected
    assert found.scores == pytest.approx([score[HEADS.index(head)] for head in expected], rel=1e-5)
    assert (found.samples, found.pairs, len(found.heads)) == (14, 7, 3)


def planted(rng: np.random.Generator) -> tuple[HeadMaps, HeadMaps]:
    """One picture, two expressions: heads 9, 13, 17 follow the words, 10 is restless, 11 fixed."""
    cells = rng.choice(36, 2, replace=False)
    pair = []
    for cell in cells:
        values = rng.uniform(0.5, 1.0, (20, 36)) * 0.01
        for head in (9, 13, 17):
            values[head, cell] += 0.6
        values[10, rng.integers(36)] += 0.6
        values[11, 0] += 0.6
        pair.append(head_maps(values.reshape(20, 6, 6), f"thing {cell}"))
    return pair[0], pair[1]


@pytest.mark.parametrize("kind", RULES[1:4])
def test_heads_that_follow_the_words_are_found(kind: type[SelectionRule]) -> None:
    rng, rule = np.random.default_rng(7), kind()
    for _ in range(12):
        rule.add(observe(planted(rng)))
    found = rule.result()
    restless = HEADS[10]
    followers = {HEADS[9], HEADS[13], HEADS[17]}
    assert HEADS[11] not in found.heads
    if kind is ConsensusSelection:
        assert set(found.heads) == followers
        assert found.ranked.index(restless) >= 3
    else:
        assert set(found.ranked[:4]) == followers | {restless}


def test_rules_that_compare_need_two_expressions() -> None:
    rng = np.random.default_rng(8)
    for kind in RULES[1:4]:
        rule = kind()
        rule.add(observe([random_maps(rng)]))
        with pytest.raises(HeadsError, match="two different expressions"):
            rule.result()


@pytest.mark.parametrize("kind", RULES)
def test_nothing_observed_is_refused(kind: type[SelectionRule]) -> None:
    with pytest.raises(HeadsError, match="no sample"):
        kind().result()


def test_the_mean_of_all_is_every_deep_head_by_attention() -> None:
    rng, rule = np.random.default_rng(9), MeanOfAll()
    seen = [random_maps(rng) for _ in range(3)]
    for one in seen:
        rule.add(observe([one]))
    found = rule.result()
    mean = np.mean([one.image_attention for one in seen], axis=0)
    assert list(found.heads) == sorted(HEADS[8:], key=lambda head: -mean[HEADS.index(head)])


def test_every_rule_says_its_name() -> None:
    rng = np.random.default_rng(10)
    names = []
    for kind in RULES:
        rule = kind()
        rule.add(observe(planted(rng)))
        names.append(rule.result().rule)
    assert names == ["paper", "paper+sensitivity", "sensitivity", "consensus", "mean_all"]


def test_auto_takes_the_lowest_entropies_of_this_query_alone() -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        maps = random_maps(rng)
        attention = maps.image_attention
        entropy = spatial_entropy(maps.maps.values).astype(np.float32)
        tau = elbow(attention).threshold
        kept = [i for i, h in enumerate(HEADS) if attention[i] >= tau and h.layer > 1]
        kept = kept or [i for i, h in enumerate(HEADS) if h.layer > 1]
        expected = sorted(kept, key=lambda i: (entropy[i], -attention[i], HEADS[i]))[:3]
        assert per_sample_heads(maps, 3) == tuple(HEADS[i] for i in expected)


def test_auto_answers_even_where_no_map_has_a_component() -> None:
    maps = head_maps(np.full((20, 3, 3), 0.01))
    found = per_sample_selection(maps)
    assert found.rule == "auto"
    assert found.heads == HEADS[8:11]
    assert per_sample_heads(head_maps(np.zeros((1, 2, 2)), heads=HEADS[:1])) == HEADS[:1]
