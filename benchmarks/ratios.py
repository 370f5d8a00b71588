"""Ratios of interleaved runs: what a shared machine can tell about speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    candidates: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds per candidate and round; every round runs each candidate once, in turn."""
    for _ in range(warmup):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def report(seconds: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Print median seconds and the median ratio, round by round, to `base`; return the ratios."""
    ratios = {}
    for name, times in seconds.items():
        pairs = [t / b for t, b in zip(times, seconds[base], strict=True)]
        ratios[name] = statistics.median(pairs)
        spread = f"[{min(pairs):.3f}, {max(pairs):.3f}]"
        print(f"{name:<44} {statistics.median(times):8.3f} s   ratio {ratios[name]:6.3f}  {spread}")
    return ratios
