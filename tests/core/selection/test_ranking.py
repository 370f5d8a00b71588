"""From scores to heads: draws, ties, blocks of any size, and memory that does not grow."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from vg_engine.core.errors import HeadsError
from vg_engine.core.heads import Head
from vg_engine.core.selection import head_statistics as names
from vg_engine.core.selection import rules
from vg_engine.core.selection.head_statistics import ATTENTION, ENTROPY, HeadStatistics
from vg_engine.core.selection.ranking import Block, DrawnStatistics, Rule, Scores, Selection, select

HEADS = tuple(Head(layer, head) for layer in range(2, 5) for head in range(4))


def columns(rng: np.random.Generator, samples: int) -> dict[str, np.ndarray]:
    shape = (samples, len(HEADS))
    values = {
        # From large to tiny, so that sums in another order end on another digit.
        ATTENTION: rng.beta(0.1, 1.5, shape),
        ENTROPY: np.where(rng.random(shape) < 0.3, np.inf, rng.integers(0, 3, shape)),
        names.CONTRAST_ENTROPY: rng.integers(0, 3, shape),
    }
    for name in (names.INSIDE, names.SENSITIVITY, names.AGREEMENT, names.CONTRAST):
        values[name] = np.where(rng.random((samples, 1)) < 0.3, np.nan, rng.random(shape))
    return {name: column.astype(np.float32) for name, column in values.items()}


def cut_into(held: dict[str, np.ndarray], sizes: list[int]) -> list[HeadStatistics]:
    ends = np.cumsum(sizes)[:-1]
    parts = {name: np.split(values, ends) for name, values in held.items()}
    return [
        HeadStatistics(HEADS, {name: part[i] for name, part in parts.items()})
        for i in range(len(sizes))
    ]


@dataclass(frozen=True)
class Given:
    """A rule whose scores are known beforehand."""

    scores: Scores
    needs: tuple[str, ...] = (ATTENTION,)

    def score(self, seen: DrawnStatistics) -> Scores:
        return self.scores


def choose(values: Any, attention: Any = 0.5, k: int | None = 3, **more: Any) -> Selection:
    """The selection of a rule with these scores, on heads with this mean S_img."""
    table = np.atleast_2d(np.array(values, dtype=float))
    looked = np.full((1, table.shape[1]), attention, dtype=np.float32)
    observed = HeadStatistics(HEADS[: table.shape[1]], {ATTENTION: looked})
    seen = DrawnStatistics.of([observed], np.ones((1, len(table))))
    return select(Given(Scores(table, **more)), seen, name="given", k=k)


def numbers(heads: tuple[Head, ...]) -> list[int]:
    return [HEADS.index(head) for head in heads]


# Blocks ------------------------------------------------------------------------------------------


def test_how_samples_are_cut_into_blocks_does_not_show(rule: Rule) -> None:
    rng = np.random.default_rng(0)
    held = columns(rng, 300)
    weights = rng.poisson(1, (300, 4)).astype(float)
    cuts = [[300], [1] * 300, [0, 100, 0, 200], [257, 43], [13] * 23 + [1]]
    found = [
        select(rule, DrawnStatistics.of(cut_into(held, cut), weights), name="any", k=4)
        for cut in cuts
    ]
    for one in found[1:]:
        assert one.ranked == found[0].ranked
        assert one.tops == found[0].tops
        # To the last digit: work that was stopped and goes on must not move a head.
        assert one.scores.tolist() == found[0].scores.tolist()
        assert one.mean_attention.tolist() == found[0].mean_attention.tolist()
        assert (one.thresholds, one.samples) == (found[0].thresholds, found[0].samples)


def test_blocks_may_be_read_again_and_stay_as_they_were(rule: Rule) -> None:
    held = columns(np.random.default_rng(1), 40)
    for values in held.values():
        values.setflags(write=False)
    seen = DrawnStatistics.of(cut_into(held, [10, 30]))
    first, again = (select(rule, seen, name="any") for _ in range(2))
    assert again.ranked == first.ranked
    assert again.scores.tolist() == first.scores.tolist()
    assert [len(block.weights) for block in seen.blocks()] == [10, 30]


def test_pieces_are_the_samples_once_and_in_order() -> None:
    held = columns(np.random.default_rng(2), 1200)
    weights = np.arange(2400.0).reshape(1200, 2)
    seen = DrawnStatistics.of(cut_into(held, [0, 1000, 200]), weights)
    pieces = list(seen.pieces())
    assert max(len(piece.weights) for piece in pieces) < 600
    assert np.array_equal(np.concatenate([piece.weights for piece in pieces]), weights)
    for name, values in held.items():
        joined = np.concatenate([piece.column(name) for piece in pieces])
        assert np.array_equal(joined, values, equal_nan=True)


def test_samples_are_counted_as_often_as_they_stand_in_a_draw() -> None:
    held = columns(np.random.default_rng(4), 3)
    weights = np.array([[1.0, 0.0], [2.0, 5.0], [1.0, 0.0]])
    seen = DrawnStatistics.of(cut_into(held, [1, 2]), weights)
    assert seen.samples.tolist() == [4, 5]
    assert DrawnStatistics.of(cut_into(held, [3])).samples.tolist() == [3]
    assert select(rules.AttentionOnly(), seen, name="any").samples == (4, 5)


def test_observations_that_do_not_belong_together_are_refused() -> None:
    held = cut_into(columns(np.random.default_rng(5), 4), [2, 2])
    few = HeadStatistics(HEADS[:4], {ATTENTION: np.zeros((1, 4), np.float32)})
    for wrong in ([], [*held, few]):
        with pytest.raises(HeadsError, match="same heads"):
            DrawnStatistics.of(wrong)
    with pytest.raises(HeadsError, match="5 weights for 4 samples"):
        DrawnStatistics.of(held, np.ones((5, 2)))


def test_nothing_observed_is_refused(rule: Rule) -> None:
    for seen in (
        DrawnStatistics(HEADS, 2, lambda: iter(())),
        DrawnStatistics.of(cut_into(columns(np.random.default_rng(6), 0), [0])),
    ):
        with pytest.raises(HeadsError, match="no sample"):
            select(rule, seen, name="any")


# Ranking -----------------------------------------------------------------------------------------


def test_scores_are_averaged_over_draws_and_ranked() -> None:
    found = choose([[0.1, 0.6, 0.2], [0.5, 0.4, 0.2]], k=2)
    assert numbers(found.ranked) == [1, 0, 2]
    assert numbers(found.heads) == [1, 0]
    assert found.scores == pytest.approx([0.5, 0.3, 0.2])
    assert found.spread == pytest.approx([0.1, 0.2, 0.0])
    assert [numbers(top) for top in found.tops] == [[1, 2], [0, 1]]
    assert found.stability == pytest.approx(0.5)
    assert (found.rule, found.all_heads) == ("given", HEADS[:3])


def test_ties_go_to_the_larger_attention_then_to_the_earlier_head() -> None:
    assert numbers(choose([2.0, 2.0, 3.0, 2.0], [0.1, 0.3, 0.1, 0.3], k=4).heads) == [2, 1, 3, 0]


def test_what_rounding_alone_sets_apart_is_a_tie() -> None:
    # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point; both won six of thirty votes.
    values = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    for scores in (values, values[:, ::-1]):
        assert numbers(choose(scores, [0.2, 0.4]).heads) == [1, 0]
        assert numbers(choose(scores, [0.4, 0.2]).heads) == [0, 1]
    assert numbers(choose([1.0, 1.0 + 1e-9], [0.9, 0.1]).heads) == [1, 0], "no rounding"
    assert numbers(choose([1e-20, 2e-20], [0.9, 0.1]).heads) == [1, 0], "small, but not alike"


def test_heads_in_any_order_rank_alike(rule: Rule) -> None:
    rng = np.random.default_rng(7)
    held = columns(rng, 30)
    order = rng.permutation(len(HEADS))
    heads = tuple(HEADS[i] for i in order)
    mixed = HeadStatistics(heads, {name: values[:, order] for name, values in held.items()})
    straight = select(rule, DrawnStatistics.of(cut_into(held, [30])), name="any")
    shuffled = select(rule, DrawnStatistics.of([mixed]), name="any")
    assert straight.ranked == shuffled.ranked
    assert straight.scores == pytest.approx(shuffled.scores)


def test_a_head_is_ranked_by_the_draws_that_know_it() -> None:
    found = choose([[0.9, np.nan, 0.5], [0.1, 0.8, np.nan]], k=None)
    assert numbers(found.ranked) == [1, 0, 2]
    assert found.scores == pytest.approx([0.8, 0.5, 0.5])
    assert [numbers(top) for top in found.tops] == [[0, 2], [1, 0]]
    unknown = choose([[0.9, np.nan], [0.1, np.nan]], k=None)
    assert numbers(unknown.ranked) == [0], "a head of which nothing is known is no candidate"


def test_a_head_that_was_no_candidate_got_no_votes_in_that_draw() -> None:
    votes = np.array([[0.9, 0.0], [0.0, 0.6]])
    found = choose(votes, candidates=votes > 0, frequency=votes)
    assert found.scores == pytest.approx([0.45, 0.3])
    assert found.frequency == pytest.approx([0.45, 0.3])
    assert found.frequency_spread == pytest.approx([0.45, 0.3])
    assert [numbers(top) for top in found.tops] == [[0], [1]]
    assert found.stability == 0.0


def test_k_larger_than_the_candidates_takes_what_there_is() -> None:
    allowed = np.array([[True, False, True, True]])
    for k in (3, 99, None):
        found = choose([0.1, 0.9, 0.2, 0.3], k=k, candidates=allowed)
        assert (found.k, numbers(found.heads)) == (3, [3, 2, 0])
    assert np.isnan(found.stability), "a single draw says nothing of it"


@pytest.mark.parametrize(
    ("values", "candidates"),
    [([np.nan, np.nan], None), ([0.1, 0.2], [[False, False]]), ([0.1, np.nan], [[False, True]])],
)
def test_a_rule_that_leaves_nobody_is_refused(values: Any, candidates: Any) -> None:
    more = {} if candidates is None else {"candidates": np.array(candidates)}
    with pytest.raises(HeadsError, match="rule given found no score"):
        choose(values, **more)


def test_a_score_that_is_not_finite_is_not_known() -> None:
    found = choose([[-np.inf, 1.0, np.inf], [3.0, 2.0, np.nan]], k=None)
    assert numbers(found.ranked) == [0, 1]
    assert found.scores == pytest.approx([3.0, 1.5])


def test_the_elbows_curve_and_thresholds_are_handed_on() -> None:
    criterion = np.array([[0.3, 0.1], [0.5, 0.1]])
    found = choose(criterion, criterion=criterion, thresholds=np.array([0.2, 0.4]), notes=("told",))
    assert found.curve == pytest.approx([0.1, 0.4])
    assert (found.threshold, found.thresholds) == (pytest.approx(0.3), (0.2, 0.4))
    assert found.notes[0] == "told"
    assert "only 2 candidates" in found.notes[1]
    plain = choose([0.9, 0.1], [0.6, 0.2])
    assert plain.curve == pytest.approx([0.2, 0.6])
    assert (plain.threshold, plain.thresholds, len(plain.criterion)) == (0.0, (), 0)


# Memory ------------------------------------------------------------------------------------------


@dataclass
class Stream:
    """Samples of 1,024 heads that are made when they are read, alike each time."""

    samples: int
    draws: int = 5
    size: int = 250
    passes: int = 0
    heads: tuple[Head, ...] = tuple(Head(i, j) for i in range(32) for j in range(32))
    gain: np.ndarray = field(
        default_factory=lambda: (np.random.default_rng(0).random(1024) ** 4).astype(np.float32)
    )

    def blocks(self) -> Iterator[Block]:
        self.passes += 1
        for start in range(0, self.samples, self.size):
            rng = np.random.default_rng(start)
            shape = (min(self.size, self.samples - start), 1024)
            # Every fifth map or so is one component, as in real models: votes tie all the time.
            entropy = rng.integers(0, 250, shape, dtype=np.uint8).astype(np.float32)
            columns = {
                ATTENTION: rng.random(shape, dtype=np.float32) * self.gain,
                ENTROPY: np.maximum(entropy - 50, 0) / 64,
            }
            yield Block(columns, rng.poisson(1, (shape[0], self.draws)).astype(float))

    def select(self) -> tuple[Selection, int]:
        """What is found, and the most bytes that were held meanwhile."""
        seen = DrawnStatistics(self.heads, self.draws, self.blocks)
        tracemalloc.start()
        try:
            return select(rules.Paper(), seen, name="paper"), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_memory_does_not_grow_with_the_samples() -> None:
    few, many = Stream(1_000), Stream(8_000)
    _, least = few.select()
    found, most = many.select()
    assert sum(found.samples) == pytest.approx(40_000, rel=0.05)
    assert few.passes == many.passes > 1
    assert most < least + 2**21
    assert most < 2**25, "one block and what is worked on"


def test_a_column_that_is_named_twice_counts_once() -> None:
    values = np.random.default_rng(0).random((7, 2)).astype(np.float32)
    seen = DrawnStatistics.of([HeadStatistics(HEADS[:2], {ATTENTION: values})])
    once, twice = seen.means(ATTENTION), seen.means(ATTENTION, ATTENTION)
    assert twice[ATTENTION].tolist() == once[ATTENTION].tolist()
