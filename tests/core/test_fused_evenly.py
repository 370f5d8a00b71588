"""Even attention over several views stays even when they are fused."""

import numpy as np

from vg_engine.core.criteria import spatial_entropy
from vg_engine.core.geometry import Affine, View, fuse


def test_even_attention_over_tiles_has_no_component() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        down, across = (int(n) for n in rng.integers(1, 4, 2))
        cells, side = int(rng.integers(2, 9)), float(rng.uniform(7, 90))
        views, maps, start = [], [], 0
        for row in range(down):
            for column in range(across):
                positions = start + np.arange(cells * cells).reshape(cells, cells)
                corner = (column * side * cells, row * side * cells)
                views.append(View(positions, Affine((side, side), corner)))
                maps.append(np.full((1, cells, cells), 0.37 / 577, np.float32))
                start += cells * cells
        if rng.random() < 0.5:  # a thumbnail of the whole, coarser
            whole = (side * across, side * down)
            positions = start + np.arange(cells * cells).reshape(cells, cells)
            share = np.float32(0.37 / 577 * down * across)
            views.append(View(positions, Affine(whole, (0.0, 0.0))))
            maps.append(np.full((1, cells, cells), share, np.float32))
        assert spatial_entropy(fuse(views, maps).values).tolist() == [np.inf]
