"""`auto`: the heads of one query alone, against a plain reading."""

import numpy as np
import pytest
from plain_entropy import entropy

from vg_engine.core.attention.criteria import elbow
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.per_picture import per_picture_heads

HEADS = tuple(Head(layer, head) for layer in range(5) for head in range(6))


def head_maps(values: np.ndarray, heads: tuple[Head, ...] = HEADS) -> HeadMaps:
    values = values.astype(np.float32)
    soft = SoftMap(values, Affine((1.0, 1.0), (0.0, 0.0)))
    return HeadMaps("the dog", heads, soft, values.sum(axis=(1, 2)))


def sparse_maps(rng: np.random.Generator) -> np.ndarray:
    """Few cells of one value, so that many maps have the same areas in another order."""
    values = (rng.random((30, 7, 7)) < 0.2) * rng.beta(0.5, 1.5, (30, 1, 1)) / 20
    values[rng.random(30) < 0.1] = 0.0
    return values


@pytest.mark.parametrize("cut", [1.0, 2.0])
def test_auto_takes_the_lowest_entropies_of_this_query_alone(cut: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        maps = head_maps(sparse_maps(rng))
        skipped = int(rng.integers(0, 4))
        attention = maps.image_attention
        tau = elbow(attention.astype(float)).threshold
        deep = [i for i, head in enumerate(HEADS) if head.layer >= skipped]
        kept = [i for i in deep if attention[i] >= tau] or deep
        # To seven digits: (2, 1, 1) and (1, 2, 1) are a tie, and so are (4, 1, 1, 1, 1) and four.
        h_img = [round(entropy(values.tolist(), cut=cut), 7) for values in maps.maps.values]
        kept.sort(key=lambda i: (h_img[i], -attention[i], HEADS[i]))
        found = per_picture_heads(maps, 4, criteria=Criteria(cut=cut), skipped_layers=skipped)
        assert found == tuple(HEADS[i] for i in kept[:4])


def test_auto_answers_even_where_no_map_has_a_component() -> None:
    assert per_picture_heads(head_maps(np.full((30, 3, 3), 0.01))) == HEADS[12:15]
    assert per_picture_heads(head_maps(np.zeros((1, 2, 2)), HEADS[:1])) == HEADS[:1]


def test_maps_without_a_component_come_last_by_attention() -> None:
    values = np.full((3, 4, 4), 0.02)
    values[0] *= 2  # flat: no component, however much attention
    values[2, 0, 0] = values[2, 3, 3] = 0.1
    maps = head_maps(values, HEADS[12:15])
    assert per_picture_heads(maps, 3, skipped_layers=0)[0] == HEADS[14]
    assert per_picture_heads(head_maps(values[:2], HEADS[12:14]), 2) == HEADS[12:14]


def test_there_may_be_fewer_heads_than_asked_for() -> None:
    rng = np.random.default_rng(1)
    assert len(per_picture_heads(head_maps(rng.random((2, 4, 4)), HEADS[20:22]), 9)) <= 2
