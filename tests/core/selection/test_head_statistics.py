"""Compare every column of the head statistics with a plain loop written from its description."""

import math
from typing import Any

import numpy as np
import pytest
from plain_entropy import entropy

from vg_engine.core.attention.criteria import spatial_entropy
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.selection import head_statistics as names
from vg_engine.core.selection.head_statistics import Criteria, HeadStatistics, measure_heads

HEADS = tuple(Head(layer, head) for layer in range(3) for head in range(2))
ROWS, COLS = 5, 4
CHANGES = names.SENSITIVITY, names.AGREEMENT
FRAME = Affine((10.0, 6.0), (-5.0, 2.0))


def head_maps(values: np.ndarray, attention: np.ndarray | None = None) -> HeadMaps:
    values = values.astype(np.float32)
    looked = values.sum(axis=(1, 2)) if attention is None else attention.astype(np.float32)
    return HeadMaps("the dog", HEADS[: len(values)], SoftMap(values, FRAME), looked)


def random_maps(rng: np.random.Generator) -> HeadMaps:
    values = rng.random((len(HEADS), ROWS, COLS)) ** 4
    values[int(rng.integers(len(HEADS)))] = 0.0
    # Of several views S_img is not the sum of the fused map: it is taken as it is given.
    return head_maps(values, rng.random(len(HEADS)) * (values.sum(axis=(1, 2)) > 0))


def shares(maps: HeadMaps) -> np.ndarray:
    """Each head's cells in one row, divided by their sum; all 0 without mass."""
    cells = maps.maps.values.reshape(-1, ROWS * COLS).astype(float)
    total = cells.sum(axis=1, keepdims=True)
    return cells / np.where(total, total, 1)


def plain_sensitivity(a: HeadMaps, b: HeadMaps) -> list[float]:
    """1 - overlap; 0 where one of the maps has no mass."""
    return [
        1 - sum(map(min, one, other)) if one.any() and other.any() else 0.0
        for one, other in zip(shares(a), shares(b), strict=True)
    ]


def plain_agreement(a: HeadMaps, b: HeadMaps) -> list[float]:
    """Cosine of a head's change with the others' changes, weighted by their attention."""
    changes = shares(a) - shares(b)
    weights = [sum(pair) / 2 for pair in zip(a.image_attention, b.image_attention, strict=True)]
    found = []
    for head, own in enumerate(changes):
        others = sum(weights[h] * changes[h] for h in range(len(HEADS)) if h != head)
        length = math.hypot(*own) * math.hypot(*others)
        found.append(max(0.0, float(own @ others) / length) if length else 0.0)
    return found


def plain_inside(maps: HeadMaps, boxes: np.ndarray) -> np.ndarray:
    """Share of the mass on the cells whose centres lie in a box (boxes end on cells' borders)."""
    centres = [FRAME.point(cell % COLS + 0.5, cell // COLS + 0.5) for cell in range(ROWS * COLS)]
    held = [any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in boxes) for x, y in centres]
    return shares(maps)[:, held].sum(axis=1)


def test_attention_and_entropy_of_every_sentence() -> None:
    rng = np.random.default_rng(0)
    maps = [random_maps(rng) for _ in range(3)]
    seen = measure_heads(maps)
    assert (seen.heads, len(seen)) == (HEADS, 3)
    assert set(seen.columns) == {names.ATTENTION, names.ENTROPY}
    for row, one in enumerate(maps):
        assert seen.columns[names.ATTENTION][row].tolist() == one.image_attention.tolist()
        expected = spatial_entropy(one.maps.values).astype(np.float32)
        assert seen.columns[names.ENTROPY][row].tolist() == expected.tolist()
    dead = np.concatenate([one.image_attention == 0 for one in maps])
    assert np.isinf(seen.columns[names.ENTROPY].ravel()[dead]).all()
    assert {column.dtype for column in seen.columns.values()} == {np.dtype(np.float32)}


def test_the_entropy_is_taken_as_the_criteria_say() -> None:
    rng = np.random.default_rng(1)
    maps = head_maps(rng.random((6, 9, 9)) ** 4)
    found = set()
    for options in ({}, {"cut": 2.0}, {"connectivity": 4}, {"weighting": "mass"}):
        column = measure_heads([maps], criteria=Criteria(**options)).columns[names.ENTROPY][0]
        assert column == pytest.approx(spatial_entropy(maps.maps.values, **options))
        found.add(tuple(column.tolist()))
    assert len(found) == 4


@pytest.mark.parametrize(
    "wrong",
    [{"cut": 0.0}, {"cut": -1.0}, {"cut": math.inf}, {"cut": math.nan}, {"connectivity": 6}],
)
def test_criteria_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        Criteria(**wrong)


def test_the_share_inside_the_boxes() -> None:
    rng = np.random.default_rng(2)
    maps = [random_maps(rng) for _ in range(4)]
    # Grid (1, 0)-(3, 2) and (2, 1)-(4, 5), which overlap; the second picture's is unknown.
    two = np.array([FRAME.box((1.0, 0.0, 3.0, 2.0)), FRAME.box((2.0, 1.0, 4.0, 5.0))])
    seen = measure_heads(maps, boxes=[two, None, two[:1], np.zeros((0, 4))])
    assert np.isnan(seen.columns[names.INSIDE][[1, 3]]).all(), "unknown, or nothing is meant"
    for row, boxes in ((0, two), (2, two[:1])):
        expected = plain_inside(maps[row], boxes)
        assert seen.columns[names.INSIDE][row] == pytest.approx(expected, abs=1e-6)


def test_change_with_the_words() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        maps = [random_maps(rng) for _ in range(4)]
        partners = [2, None, 0, 1]
        seen = measure_heads(maps, partners=partners)
        assert all(np.isnan(seen.columns[name][1]).all() for name in CHANGES)
        for row, partner in enumerate(partners):
            if partner is None:
                continue
            moved, agreed = (seen.columns[name][row] for name in CHANGES)
            pair = maps[row], maps[partner]
            assert moved == pytest.approx(plain_sensitivity(*pair), abs=1e-6)
            assert agreed == pytest.approx(plain_agreement(*pair), abs=1e-6)
    still = measure_heads([maps[0], maps[0]], partners=[1, 0])
    assert still.columns[names.SENSITIVITY] == pytest.approx(0.0, abs=1e-6)
    assert (still.columns[names.AGREEMENT] == 0).all()


def test_what_the_words_added() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        maps, neutral = [random_maps(rng) for _ in range(3)], random_maps(rng)
        seen = measure_heads(maps, neutral=neutral)
        for row, one in enumerate(maps):
            added = np.maximum(shares(one) - shares(neutral), 0)
            amount = added.sum(axis=1) * one.image_attention
            assert seen.columns[names.CONTRAST][row] == pytest.approx(amount, abs=1e-6)
            where = added.astype(np.float32).reshape(-1, ROWS, COLS).tolist()
            found = seen.columns[names.CONTRAST_ENTROPY][row]
            assert found == pytest.approx([entropy(one) for one in where], abs=1e-6)


def test_maps_beyond_the_boxes_and_partners_are_only_compared_with() -> None:
    rng = np.random.default_rng(7)
    maps = [random_maps(rng) for _ in range(3)]
    box = np.array([[0.0, 0.0, 20.0, 20.0]])
    seen = measure_heads(maps, boxes=[box, None], partners=[2, None], neutral=maps[2])
    assert len(seen) == 2
    assert set(seen.columns) == set(names.COLUMNS) - {"iou", "hit"}
    expected = plain_sensitivity(maps[0], maps[2])
    assert seen.columns[names.SENSITIVITY][0] == pytest.approx(expected, abs=1e-6)


def test_what_does_not_fit_together_is_refused() -> None:
    rng = np.random.default_rng(8)
    one, other = random_maps(rng), random_maps(rng)
    few = head_maps(other.maps.values[:2])
    for wrong in ([], [one, few]):
        with pytest.raises(HeadsError, match="same heads"):
            measure_heads(wrong)
    with pytest.raises(HeadsError, match="same heads"):
        measure_heads([one], neutral=few)
    uneven = {"boxes": [None, None], "partners": [None]}
    for options in ({"boxes": [None] * 3}, {"partners": []}, uneven):
        with pytest.raises(HeadsError, match="2 maps"):
            measure_heads([one, other], **options)


def test_columns_are_samples_by_heads() -> None:
    one, two, narrow = (np.zeros(shape, np.float32) for shape in ((1, 6), (2, 6), (2, 5)))
    for wrong in ({"a": narrow}, {"a": one, "b": two}):
        with pytest.raises(HeadsError, match="samples x 6 heads"):
            HeadStatistics(HEADS, wrong)
    assert len(HeadStatistics(HEADS, {})) == 0
