"""Spatial entropy of 1,024 maps against the naive loop: `python benchmarks/bench_entropy.py`."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from ratios import interleaved, report

from vg_engine.core.criteria import spatial_entropy
from vg_engine.core.maps import smooth


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


def main() -> None:
    """Measure several kinds of maps on one core and print."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    noise = rng.random((1024, 24, 24), dtype=np.float32)
    for kind, maps in {
        "noise": noise,
        "smooth": smooth(noise, 2.0, 7),
        "peaked": np.asarray(noise**16, dtype=np.float32),
    }.items():
        assert np.allclose(spatial_entropy(maps), naive(maps), atol=1e-9)
        print(f"1,024 maps of 24 x 24, {kind}")
        seconds = interleaved(
            {
                "all maps at once": partial(spatial_entropy, maps),
                "naive loop": partial(naive, maps),
            },
            rounds=7,
        )
        report(seconds, "all maps at once")


if __name__ == "__main__":
    main()
