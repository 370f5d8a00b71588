"""Smoothing and regions of 64 maps on one thread: `python benchmarks/bench_regions.py`.

The ratio is to the paper's region, the median of interleaved rounds; only ratios are worth quoting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from ratios import interleaved, report

from vg_engine.core.attention.maps import smooth
from vg_engine.core.readout import regions
from vg_engine.core.readout.edge_level import edge_level

MAPS = 64
REGIONS = [regions.paper, regions.half_level, edge_level, regions.mean_std, regions.otsu]


def peaks(rng: np.random.Generator, side: int) -> np.ndarray:
    """Softmax rows of noise and one peak each, as a head that looks at a thing."""
    cells = np.arange(side)
    row, col = rng.uniform(0, side, (2, MAPS, 1, 1))
    logits = 4 * np.exp(-((cells[:, None] - row) ** 2 + (cells - col) ** 2) / side)
    weights = np.exp(logits + rng.normal(0, 0.5, logits.shape))
    return (weights / weights.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def read_all(region: Callable[[np.ndarray], object], maps: np.ndarray) -> None:
    for one in maps:
        region(one)


def main() -> None:
    """Measure three sizes of grid and print a table of each."""
    cv2.setNumThreads(1)
    for side in (14, 24, 48):
        print(f"\n{MAPS} maps of {side} x {side}")
        raw = peaks(np.random.default_rng(0), side)
        runs = {one.__name__: partial(read_all, one, smooth(raw)) for one in REGIONS}
        report(interleaved({**runs, "smooth": partial(smooth, raw)}, rounds=9), "paper")


if __name__ == "__main__":
    main()
