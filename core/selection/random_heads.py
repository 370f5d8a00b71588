"""Random heads, the control that every selection must beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from vg_engine.core.heads import Head

_ATTEMPTS = 100  # per draw, to find one that was not drawn before


def random_heads(
    pool: Sequence[Head], size: int, *, draws: int, seed: int, without: Iterable[Head] = ()
) -> tuple[tuple[Head, ...], ...]:
    """Draw sets of heads at random, no set twice and none equal to `without`.

    Args:
        pool: heads to draw from.
        size: heads per set.
        draws: number of sets; there are fewer where the pool is too small.
        seed: seed of the random numbers.
        without: a set to leave out: the selection itself.
    """
    rng = np.random.default_rng(seed)
    own = frozenset(without)
    seen = {own}
    found: list[tuple[Head, ...]] = []
    possible = math.comb(len(pool), size) - (len(own) == size and own <= set(pool))
    for _ in range(draws * _ATTEMPTS):
        if len(found) >= min(draws, possible):
            break
        chosen = tuple(sorted(pool[i] for i in rng.permutation(len(pool))[:size].tolist()))
        if frozenset(chosen) not in seen:
            seen.add(frozenset(chosen))
            found.append(chosen)
    return tuple(found)
