"""Even attention over several views stays even when they are fused."""

import numpy as np

from vg_engine.core.attention.criteria import spatial_entropy
from vg_engine.core.geometry import Affine, View, fuse


def test_even_attention_over_tiles_has_no_component() -> None:
    """Tiles of odd sizes at odd places, most with a thumbnail: rounding must not make blobs."""
    rng = np.random.default_rng(0)
    for _ in range(600):
        down, across = (int(n) for n in rng.integers(1, 4, 2))
        cells, value = int(rng.integers(2, 9)), np.float32(rng.random() / 577)
        wide, high = (float(side) for side in rng.uniform(7, 90, 2))
        left, top = (float(corner) for corner in rng.uniform(-40, 40, 2))
        places = [
            ((wide, high), (left + column * wide * cells, top + row * high * cells))
            for row in range(down)
            for column in range(across)
        ]
        if len(places) > 1 and rng.random() < 0.7:
            places.append(((wide * across, high * down), (left, top)))
        grid = np.arange(cells * cells).reshape(cells, cells)
        views = [View(grid + i * grid.size, Affine(*place)) for i, place in enumerate(places)]
        maps = [np.full((1, cells, cells), value, np.float32) for _ in views]
        assert spatial_entropy(fuse(views, maps).values).tolist() == [np.inf]
