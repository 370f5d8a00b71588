"""Uncertainty of metrics: intervals, paired differences and rank correlation.

Every metric here is a ratio of sums over samples: a mean is a sum of values over a count, cIoU a
sum of intersections over a sum of unions. Samples of one picture are not independent, so whole
pictures ("clusters") are drawn and exchanged, each with all its samples. Numerators may be means
over several draws of a random entry, so they need not be whole numbers.

A value without samples is NaN, never 0. The same seed and the same pictures in the same order give
the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt8
from scipy.special import bdtr, ndtri

from vg_engine.core.errors import InputError

_CHUNK = 1 << 20  # numbers drawn at a time: 8 MB
_EXACT = 12  # up to this number of pictures every exchange is tried
_TIE = 1e-10  # two statistics that differ by less differ by rounding alone
_FEWEST = 10  # a rank correlation of fewer items has no interval


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: NaN without samples.
        low, high: NaN with fewer than two pictures.
        n: number of samples.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Format for people: `0.853 [0.826, 0.879]`, `0.853` without an interval, else `n/a`."""
        if math.isnan(self.value):
            return "n/a"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Paired:
    """The difference between entries A and B on the same samples.

    Attributes:
        difference: A - B; NaN where one of the two has no sample.
        low, high: bootstrap interval of the difference; NaN with fewer than two pictures.
        p: two-sided: how often exchanging A and B, picture by picture, gives a difference at least
            as large. NaN where the difference is.
        n: number of samples.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int

    @property
    def reversed(self) -> Paired:
        """B - A."""
        return Paired(0.0 - self.difference, 0.0 - self.high, 0.0 - self.low, self.p, self.n)

    def __str__(self) -> str:
        """Format for people: `+0.031 [+0.010, +0.052], p = 0.004`, else `n/a`."""
        if math.isnan(self.difference):
            return "n/a"
        bounds = "" if math.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.difference:+.3f}{bounds}, p = {self.p:.3g}"


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two entries' hits.

    Attributes:
        only_a, only_b: samples that only A, only B got right.
        p: two-sided, binomial; 1 where both are right on the same samples, NaN without samples.
    """

    only_a: int
    only_b: int
    p: float


def ratio_interval(
    numerators: Float[np.ndarray, " n"],
    denominators: Float[np.ndarray, " n"],
    clusters: Sequence[Hashable],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate a ratio of sums, with a percentile bootstrap interval **clustered by picture**.

    Args:
        numerators, denominators: one each per sample. A sample whose denominator is 0 is left
            out: it is not counted, and does not put its picture into the draws.
        clusters: the picture of each sample.
        resamples: number of times that a set of pictures is drawn.
        level: share of the resampled ratios inside the interval.
        seed: same seed, same pictures, same interval.

    Returns:
        sum(numerators) / sum(denominators): NaN throughout without samples; NaN bounds with one
        picture, which has no spread.

    Raises:
        InputError: lengths differ, a value is not finite, a denominator is below 0, the level lies
            outside (0, 1), or there is no resample.
    """
    columns = _columns(clusters, numerators, denominators)
    _check(columns[1:], level, resamples)
    kept = columns[1] > 0
    if not kept.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    sums = _sums(columns[:, kept], clusters, kept)
    above, below = sums
    value, n = float(above.sum() / below.sum()), int(kept.sum())
    if len(above) == 1:
        return Estimate(value, math.nan, math.nan, n)
    ratios = [
        above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
        for drawn in _draws(len(above), resamples, seed)
    ]
    low, high = _bounds(np.concatenate(ratios), level)
    return Estimate(value, low, high, n)


def paired(
    numerators_a: Float[np.ndarray, " n"],
    denominators_a: Float[np.ndarray, " n"],
    numerators_b: Float[np.ndarray, " n"],
    denominators_b: Float[np.ndarray, " n"],
    clusters: Sequence[Hashable],
    *,
    resamples: int = 2000,
    permutations: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Compare two entries' ratios of sums on the same samples, row by row.

    The interval is a percentile bootstrap by picture. For the p-value, A and B are exchanged in
    whole pictures; with equal denominators that is the sign-flip test of the pictures'
    differences. With up to 12 pictures on which the two differ every exchange is tried, otherwise
    `permutations` random ones, with p = (number at least as far apart + 1) / (permutations + 1).

    Args:
        numerators_a, denominators_a: entry A, one each per sample.
        numerators_b, denominators_b: entry B on the same samples in the same order. A sample is
            left out where both denominators are 0. Where only one is, it still counts for the
            other entry, as unions of masks require; so pass only samples that both answered.
        clusters: the picture of each sample.
        resamples, level: number of draws and share inside the interval.
        permutations: number of random exchanges.
        seed: same seed, same pictures.

    Raises:
        InputError: as in `ratio_interval`, or there is no permutation.
    """
    columns = _columns(clusters, numerators_a, denominators_a, numerators_b, denominators_b)
    _check(columns[[1, 3]], level, resamples)
    if permutations < 1:
        raise InputError(f"permutations must be above 0, got {permutations}")
    kept = (columns[1] > 0) | (columns[3] > 0)
    n = int(kept.sum())
    if not (columns[1].any() and columns[3].any()):
        return Paired(math.nan, math.nan, math.nan, math.nan, n)
    sums = _sums(columns[:, kept], clusters, kept)
    difference = float(_difference(sums.sum(axis=1, keepdims=True))[0])
    p = _exchange(sums, permutations, seed)
    if sums.shape[1] == 1:
        return Paired(difference, math.nan, math.nan, p, n)
    differences = [
        _difference(np.stack([column[drawn].sum(axis=1) for column in sums]))
        for drawn in _draws(sums.shape[1], resamples, seed)
    ]
    low, high = _bounds(np.concatenate(differences), level)
    return Paired(difference, low, high, p, n)


def mcnemar(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> McNemar:
    """Test with McNemar's exact test that A and B are right equally often where they disagree.

    It treats samples as independent: correct with one expression per picture, overconfident with
    more. `paired` has no such limit.
    """
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    if not len(a):
        return McNemar(0, 0, math.nan)
    tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, min(1.0, 2.0 * tail))


def spearman(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, level: float = 0.95
) -> Estimate:
    """Estimate Spearman's rank correlation with its interval; ties have their mean rank.

    The interval is Fisher's z with the variance of Bonett and Wright (2000), whose coverage holds
    under heavy ties, unlike a bootstrap's. Items (such as heads) are treated as independent.

    Returns:
        NaN throughout where `x` or `y` is constant or has fewer than two items; NaN bounds with
        fewer than ten items and at a correlation of exactly 1 or -1, where z is infinite.

    Raises:
        InputError: lengths differ, a value is not finite, or the level lies outside (0, 1).
    """
    from scipy import stats  # noqa: PLC0415 - slow, for this function alone

    if len(x) != len(y):
        raise InputError(f"{len(x)} values but {len(y)} to compare them with")
    columns = _columns(range(len(x)), x, y)
    _check(columns[:0], level)
    n = len(x)
    if n < 2 or (columns == columns[:, :1]).all(axis=1).any():
        return Estimate(math.nan, math.nan, math.nan, n)
    value = float(stats.spearmanr(*columns).statistic)
    if n < _FEWEST or abs(value) > 1 - _TIE:
        return Estimate(min(max(value, -1.0), 1.0), math.nan, math.nan, n)
    reach = float(ndtri((1 + level) / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))
    z = math.atanh(value)
    return Estimate(value, math.tanh(z - reach), math.tanh(z + reach), n)


def _columns(
    clusters: Sequence[Hashable], *columns: Float[np.ndarray, " _"]
) -> Float64[np.ndarray, "columns n"]:
    for column in columns:
        if len(column) != len(clusters):
            raise InputError(f"{len(column)} values but {len(clusters)} clusters")
    table = np.stack([column.astype(np.float64) for column in columns])
    if not np.isfinite(table).all():
        raise InputError("a value is not finite; leave out what was not measured")
    return table


def _check(
    denominators: Float64[np.ndarray, "columns n"], level: float, resamples: int = 1
) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level must lie in (0, 1) and resamples above 0: {level}, {resamples}")
    if (denominators < 0).any():
        raise InputError("a denominator is below 0; they are counts or areas")


def _sums(
    columns: Float64[np.ndarray, "columns kept"],
    clusters: Sequence[Hashable],
    kept: Bool[np.ndarray, " n"],
) -> Float64[np.ndarray, "columns pictures"]:
    index: dict[Hashable, int] = {}  # clusters in the order in which they first appear
    pairs = zip(clusters, kept.tolist(), strict=True)
    owner = [index.setdefault(cluster, len(index)) for cluster, keep in pairs if keep]
    return np.stack([np.bincount(owner, weights=column) for column in columns])


def _draws(pictures: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, "part pictures"]]:
    """Draw pictures with replacement, in chunks of resamples that do not affect the result."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // pictures)
    for start in range(0, resamples, step):
        part = min(step, resamples - start)
        yield rng.integers(0, pictures, size=(part, pictures))


def _bounds(values: Float64[np.ndarray, " resamples"], level: float) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _difference(sums: Float64[np.ndarray, "4 part"]) -> Float64[np.ndarray, " part"]:
    """Subtract B's ratio from A's; NaN where one of the denominators is 0."""
    some = (sums[1] > 0) & (sums[3] > 0)
    a, b = (
        np.divide(sums[i], sums[i + 1], out=np.full(len(some), math.nan), where=some)
        for i in (0, 2)
    )
    return np.asarray(a - b)


def _exchange(sums: Float64[np.ndarray, "4 pictures"], permutations: int, seed: int) -> float:
    """Compute the p-value: how often exchanges by picture set A and B at least as far apart."""
    totals = sums.sum(axis=1, keepdims=True)
    gain = sums[2:] - sums[:2]  # what A gains and B loses when a picture is exchanged
    # Exchanging a picture on which the two agree changes nothing.
    gain = gain[:, (gain != 0).any(axis=0)]
    pictures = gain.shape[1]
    observed = abs(float(_difference(totals)[0]))
    exact = pictures <= _EXACT
    as_far = tried = 0
    for flips in _all_flips(pictures) if exact else _random_flips(pictures, permutations, seed):
        gained = gain @ flips.T.astype(np.float64)
        apart = np.abs(_difference(totals + np.concatenate([gained, -gained])))
        # An exchange with a denominator of 0 counts against a difference.
        as_far += int(np.count_nonzero(~(apart < observed - _TIE)))
        tried += len(flips)
    return as_far / tried if exact else (as_far + 1) / (tried + 1)


def _all_flips(pictures: int) -> Iterator[UInt8[np.ndarray, "part pictures"]]:
    numbers = np.arange(2**pictures)
    yield ((numbers[:, None] >> np.arange(pictures)) & 1).astype(np.uint8)


def _random_flips(
    pictures: int, permutations: int, seed: int
) -> Iterator[UInt8[np.ndarray, "part pictures"]]:
    rng = np.random.default_rng([seed, 1])  # apart from the bootstrap's draws
    words = -(-pictures // 64)
    step = max(1, _CHUNK // pictures)
    for start in range(0, permutations, step):
        part = min(step, permutations - start)
        drawn = rng.integers(0, 2**64, size=(part, words), dtype=np.uint64)
        yield np.unpackbits(drawn.view(np.uint8), axis=1)[:, :pictures]
