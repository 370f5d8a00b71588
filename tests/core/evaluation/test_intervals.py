"""Intervals, paired tests and rank correlation against plain loops, full enumeration and scipy."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation import intervals
from vg_engine.core.evaluation.intervals import Paired, paired, ratio_interval, spearman


def clustered(
    rng: np.random.Generator, pictures: int, samples: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Intersections and unions whose ratio hangs on the picture."""
    clusters = [f"p{i}" for i in rng.integers(0, pictures, samples)]
    level = {name: rng.uniform(0.2, 0.9) for name in sorted(set(clusters))}
    unions = rng.integers(1, 500, samples).astype(float)
    inters = np.floor(unions * [level[name] for name in clusters])
    return inters, unions, clusters


def by_picture(clusters: list[str]) -> list[list[int]]:
    """Places of the samples of each picture, pictures in the order of their first sample."""
    return [[i for i, c in enumerate(clusters) if c == name] for name in dict.fromkeys(clusters)]


def drawn_rows(clusters: list[str], resamples: int, seed: int) -> list[list[int]]:
    """The rows of each resample, as a plain reading of "draw whole pictures"."""
    groups = by_picture(clusters)
    draws = np.random.default_rng(seed).integers(0, len(groups), (resamples, len(groups)))
    return [[row for picture in draw for row in groups[picture]] for draw in draws.tolist()]


def ratio(above: np.ndarray, below: np.ndarray, rows: list[int]) -> float:
    total = sum(float(below[row]) for row in rows)
    return sum(float(above[row]) for row in rows) / total if total else math.nan


def test_the_interval_is_a_plain_loop_over_the_same_pictures() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        above, below, clusters = clustered(rng, 12, 60)
        settings = {"resamples": 300, "seed": seed, "level": 0.9}
        # Samples without a denominator are left out, and pictures without another sample.
        silent = (rng.random(60) < 0.4) | np.isin(clusters, ["p1", "p5"])
        above[silent] = below[silent] = 0.0
        found = ratio_interval(above, below, clusters, **settings)
        kept = np.flatnonzero(~silent)
        above, below, clusters = above[kept], below[kept], [clusters[row] for row in kept]
        ratios = [ratio(above, below, rows) for rows in drawn_rows(clusters, 300, seed)]
        low, high = np.quantile(ratios, [0.05, 0.95])
        assert found.value == pytest.approx(ratio(above, below, list(range(len(kept)))))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
        assert found.n == len(kept)


@pytest.mark.parametrize("chunk", [1, 64, 1000])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    rng = np.random.default_rng(4)
    a, below, clusters = clustered(rng, 40, 200)
    b = np.floor(a * rng.uniform(0.8, 1.2, 200))
    whole = ratio_interval(a, below, clusters, resamples=100)
    both = paired(a, below, b, below, clusters, resamples=100, permutations=300)
    monkeypatch.setattr(intervals, "_CHUNK", chunk)
    assert ratio_interval(a, below, clusters, resamples=100) == whole
    again = paired(a, below, b, below, clusters, resamples=100, permutations=300)
    assert again == both


def test_intervals_cover_what_they_promise_and_the_test_keeps_its_level() -> None:
    rng = np.random.default_rng(6)
    inside = np.zeros(2)
    alarms = 0
    for trial in range(300):
        owner = np.repeat(np.arange(60), rng.integers(1, 5, 60))
        ones, clusters = np.ones(len(owner)), owner.tolist()
        # The picture's level does not hang on the size, so the ratio of means is 0.6.
        base, below = rng.beta(3, 2, 60)[owner], rng.uniform(1, 100, len(owner))
        alone = ratio_interval(below * base, below, clusters, resamples=400, seed=trial)
        # What helps A helps it on the whole picture, and by nothing on average.
        help_a = rng.choice([-0.2, 0.2], 60)[owner]
        a, b = np.clip(base + help_a, 0, 1), np.clip(base - help_a, 0, 1)
        found = paired(a, ones, b, ones, clusters, resamples=400, permutations=400, seed=trial)
        inside += (alone.low <= 0.6 <= alone.high, found.low <= 0.0 <= found.high)
        alarms += found.p < 0.05
    assert ((inside / 300 >= 0.90) & (inside / 300 <= 0.98)).all()
    assert 0.02 <= alarms / 300 <= 0.09


def plain_bounds(sums: Sequence[np.ndarray], draws: list[list[int]]) -> tuple[float, float]:
    """The interval of A - B over drawn rows; draws in which A or B has no ratio are left out."""
    a, below_a, b, below_b = sums
    differences = [ratio(a, below_a, rows) - ratio(b, below_b, rows) for rows in draws]
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return float(low), float(high)


def test_a_difference_is_a_plain_loop_over_the_same_pictures() -> None:
    rng = np.random.default_rng(7)
    for seed in range(5):
        a, below_a, clusters = clustered(rng, 9, 40)
        b, below_b, _ = clustered(rng, 9, 40)
        below_b[rng.random(40) < 0.2] = 0.0
        b[below_b == 0] = 0.0
        found = paired(a, below_a, b, below_b, clusters, resamples=200, seed=seed)
        expected = plain_bounds((a, below_a, b, below_b), drawn_rows(clusters, 200, seed))
        apart = [ratio(*sums, list(range(40))) for sums in ((a, below_a), (b, below_b))]
        assert found.difference == pytest.approx(apart[0] - apart[1])
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_resamples_that_tell_nothing_are_left_out() -> None:
    # B's only union lies in one of four pictures: without it B has no ratio.
    sums = np.array([[1, 2, 3, 4], [5, 5, 5, 5], [0, 0, 0, 3], [0, 0, 0, 4]], dtype=float)
    draws = drawn_rows(list("wxyz"), 200, 0)
    assert 0 < sum(3 in rows for rows in draws) < 200
    found = paired(*sums, list("wxyz"), resamples=200)
    assert (found.low, found.high) == pytest.approx(plain_bounds(sums, draws))
    # Only draws of both pictures would tell; the seed is one that draws a picture twice.
    seed = next(s for s in range(99) if len({*drawn_rows(["w", "x"], 1, s)[0]}) == 1)
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    lone = paired(one, one, other, other, ["w", "x"], resamples=1, seed=seed)
    assert lone.difference == 0.0
    assert math.isnan(lone.low)


def enumerated(sums: Sequence[np.ndarray], clusters: list[str]) -> float:
    """The p-value over all 2^pictures exchanges, one by one."""

    def apart(swapped: set[int]) -> float:
        totals = [0.0] * 4
        for row, values in enumerate(np.transpose(sums).tolist()):
            now = values[2:] + values[:2] if row in swapped else values
            totals = [total + value for total, value in zip(totals, now, strict=True)]
        return abs(totals[0] / totals[1] - totals[2] / totals[3])

    groups = by_picture(clusters)
    every = [
        apart({row for group, flip in zip(groups, flips, strict=True) if flip for row in group})
        for flips in itertools.product([False, True], repeat=len(groups))
    ]
    return sum(one >= apart(set()) - 1e-9 for one in every) / len(every)


def test_few_pictures_are_exchanged_in_every_way() -> None:
    rng = np.random.default_rng(8)
    for pictures in [1, 2, 5, 7] * 4:
        clusters = [f"p{i}" for i in [*range(pictures), *rng.integers(0, pictures, 10)]]
        ones = np.ones(len(clusters))
        hits = (rng.random((2, len(clusters))) < [[0.8], [0.4]]).astype(float)
        # Means over draws: the mirror of an exchange is as far apart but for rounding.
        means = rng.integers(0, 8, (2, len(clusters))) / 7
        unions = rng.integers(1, 40, (2, len(clusters))).astype(float)
        inters = np.floor(unions * rng.random((2, len(clusters))))
        for sums in (
            (hits[0], ones, hits[1], ones),
            (means[0], ones, means[1], ones),
            (inters[0], unions[0], inters[1], unions[1]),
        ):
            found = paired(*sums, clusters, resamples=1).p
            assert found == pytest.approx(enumerated(sums, clusters))


def test_pictures_on_which_both_agree_are_not_exchanged() -> None:
    # A is better in 5 pictures of 1005: of 32 exchanges only none and all are as far apart.
    ones, same = np.ones(1005), np.full(1000, 0.5)
    a, b = np.concatenate([np.ones(5), same]), np.concatenate([np.zeros(5), same])
    assert paired(a, ones, b, ones, range(1005), resamples=10).p == 2 / 32


def test_many_pictures_are_exchanged_at_random() -> None:
    rng = np.random.default_rng(9)
    n, ones = 14, np.ones(14)
    a, b = rng.random(n) + 0.2, rng.random(n)
    changes = np.abs(np.array(list(itertools.product([-1, 1], repeat=n))) @ (a - b))
    exact = float(np.mean(changes >= abs((a - b).sum()) - 1e-9))
    found = paired(a, ones, b, ones, range(n), permutations=20_000).p
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))
    # All exchanges but 2 of 2^300 are less far apart: p is never 0.
    sure = paired(np.ones(300), np.ones(300), np.zeros(300), np.ones(300), range(300))
    assert sure.p == 1 / 10_001
    assert (sure.difference, sure.low, sure.high) == (1.0, 1.0, 1.0)


def test_a_contestant_does_not_differ_from_itself() -> None:
    above, below, clusters = clustered(np.random.default_rng(10), 20, 100)
    same = Paired(0.0, 0.0, 0.0, 1.0, 100)
    assert paired(above, below, above, below, clusters) == same


def test_nothing_is_not_a_number() -> None:
    none: np.ndarray = np.zeros(0)
    one, zero = np.ones(3), np.zeros(3)
    for found in (
        ratio_interval(none, none, []),
        ratio_interval(zero, zero, "abc"),
        spearman(none, none),
    ):
        assert np.isnan([found.value, found.low, found.high]).all()
        assert (found.n, str(found)) == (0, "n/a")
    for lacking in (
        paired(none, none, none, none, []),
        paired(one, one, zero, zero, "abc"),
        paired(zero, zero, one, one, "abc"),
    ):
        assert np.isnan([lacking.difference, lacking.low, lacking.high, lacking.p]).all()
        assert str(lacking) == "n/a"


def test_one_picture_tells_no_spread() -> None:
    a, b, ones = np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.ones(3)
    found, both = ratio_interval(a, ones, "xxx"), paired(a, ones, b, ones, "xxx")
    assert (found.value, both.difference, both.p) == pytest.approx((2 / 3, 1 / 3, 1.0))
    assert np.isnan([found.low, found.high, both.low, both.high]).all()


def test_numbers_read_well() -> None:
    assert str(intervals.Estimate(0.8534, 0.8261, 0.879, 600)) == "0.853 [0.826, 0.879]"
    assert str(intervals.Estimate(0.5, math.nan, math.nan, 2)) == "0.500"
    assert str(Paired(0.0314, -0.01, 0.052, 0.0421, 9)) == "+0.031 [-0.010, +0.052], p = 0.0421"
    assert str(Paired(-0.5, math.nan, math.nan, 1.0, 2)) == "-0.500, p = 1"


def test_what_makes_no_interval_is_refused() -> None:
    two, bad, names = np.array([0.5, 0.7]), np.array([0.5, math.inf]), ["a", "b"]
    whole = (two, two, two, two, names)
    for measure, given, settings, description in (
        (ratio_interval, (two, two, ["a"]), {}, "clusters"),
        (ratio_interval, (bad, two, names), {}, "finite"),
        (paired, (two, two, two, bad, names), {}, "finite"),
        (ratio_interval, (two, -two, names), {}, "below 0"),
        (paired, (two, two, two, -two, names), {}, "below 0"),
        (paired, whole, {"permutations": 0}, "permutations"),
        (spearman, (two, bad), {}, "finite"),
        *((paired, whole, wrong, "level") for wrong in ({"level": 1.0}, {"resamples": 0})),
        (ratio_interval, (two, two, names), {"level": 0.0}, "level"),
        (ratio_interval, (two, two, names), {"resamples": 0}, "level"),
    ):
        with pytest.raises(InputError, match=description):
            measure(*given, **settings)


def test_mcnemar_is_a_binomial_test_of_what_differs() -> None:
    rng = np.random.default_rng(12)
    for n in (1, 5, 40, 1000):
        a, b = rng.random((2, n)) < [[0.6], [0.5]]
        found = intervals.mcnemar(a, b)
        assert found.only_a == sum(x and not y for x, y in zip(a, b, strict=True))
        assert found.only_b == sum(y and not x for x, y in zip(a, b, strict=True))
        total = found.only_a + found.only_b
        if total:
            expected = scipy.stats.binomtest(found.only_a, total).pvalue
            assert found.p == pytest.approx(expected, rel=1e-9)
    assert intervals.mcnemar(a, a).p == 1.0
    assert math.isnan(intervals.mcnemar(a[:0], b[:0]).p)


def test_rank_correlation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(13)
    for n, values in itertools.product((2, 3, 10, 57), (1000, 4)):
        x, y = rng.integers(0, values, (2, n)).astype(float)
        found = spearman(x, y)
        if np.ptp(x) and np.ptp(y):
            expected = scipy.stats.spearmanr(x, y)[0]
            assert found.value == pytest.approx(expected, abs=1e-12)
            assert math.isnan(found.low) == (n < 10), "few items have no interval"
    line, constant = np.arange(20.0), np.full(20, 3.0)
    for found in (spearman(line, constant), spearman(constant, line)):
        assert math.isnan(found.value)
        assert found.n == 20
    perfect = spearman(line, -(line**3))
    assert perfect.value == pytest.approx(-1.0)
    assert math.isnan(perfect.low)


def test_the_interval_of_a_rank_correlation_by_hand_and_by_coverage() -> None:
    rng = np.random.default_rng(14)
    x = rng.random(50)
    y = x + rng.random(50)
    found = spearman(x, y, level=0.9)
    reach = 1.6448536 * math.sqrt((1 + found.value**2 / 2) / 47)
    bounds = [math.tanh(math.atanh(found.value) + sign * reach) for sign in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(tuple(bounds), abs=1e-6)
    # Four of five are equal, as heads that were never chosen are: it errs on the safe side.
    draws = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], (301, 40))
    big = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 100_000)
    draws[..., 0], big[:, 0] = np.maximum(draws[..., 0], 0.84), np.maximum(big[:, 0], 0.84)
    true = scipy.stats.spearmanr(big[:, 0], big[:, 1])[0]
    each = [spearman(draw[:, 0].copy(), draw[:, 1].copy()) for draw in draws]
    assert 0.92 <= sum(one.low <= true <= one.high for one in each) / len(each) <= 1.0
