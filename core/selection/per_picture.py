"""`auto`: heads chosen on one query alone, for a model without known heads (paper, section 4)."""

from __future__ import annotations

import numpy as np

from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.ranking import TOP
from vg_engine.core.selection.rules import SKIPPED_LAYERS, judge, lowest


def per_picture_heads(
    maps: HeadMaps,
    k: int = TOP,
    *,
    criteria: Criteria | None = None,
    skipped_layers: int = SKIPPED_LAYERS,
) -> tuple[Head, ...]:
    """Choose at most `k` heads, best first, by the paper's two criteria on this one query.

    The paper's ablation (section 4) scores this far below fixed heads, so results must say that it
    was used. The heads are those of lowest entropy among those that reach the elbow of S_img; ties
    go to the larger S_img, then by layer and head. Where no map has a component, S_img alone
    decides.
    """
    # float32, as in `measure_heads`: components of the same sizes in another order are a tie.
    entropy = (criteria or Criteria()).entropy(maps.maps.values).astype(np.float32)
    # Maps without a component come last; among them S_img alone decides.
    entropy = np.nan_to_num(entropy, posinf=float(np.finfo(np.float32).max))
    attention = maps.image_attention.astype(np.float64)
    candidates, _, _ = judge(maps.heads, attention, skipped_layers)
    chosen = lowest(entropy, attention, maps.heads, candidates, k)
    return tuple(maps.heads[i] for i in chosen)
