"""Spatial entropy of 1,024 maps against the naive loop: `python benchmarks/bench_entropy.py`.

The ratio is naive time over ours, the median of interleaved rounds on one thread; it differs by
kind of map, because labelling is fast on few long edges and the naive loop on few components.
"""

from __future__ import annotations

import statistics
from functools import partial

import cv2
import numpy as np
from ratios import interleaved

from vg_engine.core.attention.criteria import spatial_entropy
from vg_engine.core.attention.maps import smooth

HEADS, SIDE = 1024, 24


def naive(maps: np.ndarray) -> np.ndarray:
    """Label each map, sum each component in Python."""
    result = []
    for one in maps:
        above = (one > one.mean()).astype(np.uint8)
        count, labels = cv2.connectedComponents(above, connectivity=8)
        areas = [float((labels == i).sum()) for i in range(1, count)]
        total = sum(areas)
        shares = [area / total for area in areas]
        result.append(-sum(p * np.log(p) for p in shares) if shares else np.inf)
    return np.array(result)


def kinds(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Maps of every kind that heads have, and some that they have not."""
    shape = (HEADS, SIDE, SIDE)
    noise = rng.random(shape, dtype=np.float32)
    cells = np.arange(SIDE)
    one = np.full(shape, 0.1)
    one[:, 5, 7] = 0.2
    places = rng.random((HEADS, SIDE * SIDE)).argsort(axis=1)[:, :4]
    sinks = noise.reshape(HEADS, -1) * 1e-4
    np.put_along_axis(sinks, places, rng.random(places.shape, dtype=np.float32), axis=1)
    peaks = np.zeros(shape)
    for _ in range(3):
        row, col = rng.uniform(0, SIDE, (2, HEADS, 1, 1))
        distance = (cells[:, None] - row) ** 2 + (cells - col) ** 2
        peaks += rng.uniform(1, 5, (HEADS, 1, 1)) * np.exp(-distance / 8)
    logits = peaks + rng.normal(0, 1, shape)
    made = {
        "uniform noise": noise,
        "noise, smoothed lightly": smooth(noise, 0.8, 7),
        "noise, smoothed to blobs": smooth(noise, 2.0, 7),
        "noise to the power of 16": noise**16,
        "softmax of noise and three peaks": np.exp(logits),
        "softmax of three peaks, smoothed": smooth(np.exp(logits).astype(np.float32), 1.0, 7),
        "power law": rng.pareto(1.0, shape),
        "bimodal": rng.normal(0, 0.1, shape) + (rng.random(shape) < 0.3),
        "four sinks": sinks.reshape(shape),
        "constant but for one cell": one,
        "checkerboard": np.broadcast_to((cells[:, None] + cells) % 2, shape),
    }
    return {kind: np.ascontiguousarray(maps, dtype=np.float32) for kind, maps in made.items()}


def main() -> None:
    """Measure every kind of map on one thread and print a table."""
    cv2.setNumThreads(1)
    print(f"{HEADS:,} maps of {SIDE} x {SIDE}: median ms, and naive / ours with its range\n")
    print(f"{'maps':<34} {'ours':>6} {'naive':>6} {'ratio':>6}")
    for kind, maps in kinds(np.random.default_rng(0)).items():
        assert np.allclose(spatial_entropy(maps), naive(maps), rtol=0, atol=1e-9)
        seconds = interleaved(
            {"ours": partial(spatial_entropy, maps), "naive": partial(naive, maps)}, rounds=9
        )
        ours, loop = (1e3 * statistics.median(times) for times in seconds.values())
        ratios = [slow / fast for fast, slow in zip(*seconds.values(), strict=True)]
        ratio = statistics.median(ratios)
        spread = f"[{min(ratios):.1f}, {max(ratios):.1f}]"
        print(f"{kind:<34} {ours:6.1f} {loop:6.1f} {ratio:6.1f}  {spread}")


if __name__ == "__main__":
    main()
