"""What is measured of every head, against plain loops written from each column's sentence."""

import math
from typing import Any

import numpy as np
import pytest

from vg_engine.core.attention.criteria import spatial_entropy
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import (
    AGREEMENT,
    ATTENTION,
    COLUMNS,
    CONTRAST,
    CONTRAST_ENTROPY,
    ENTROPY,
    INSIDE,
    SENSITIVITY,
    Criteria,
    HeadStatistics,
    measure_heads,
)

HEADS = tuple(Head(layer, head) for layer in range(3) for head in range(2))
ROWS, COLS = 5, 4
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


def shares(maps: HeadMaps, head: int) -> list[float]:
    """A map divided by its sum; all 0 without mass."""
    cells = [float(value) for value in maps.maps.values[head].ravel()]
    total = sum(cells)
    return [value / total if total else 0.0 for value in cells]


def plain_sensitivity(a: HeadMaps, b: HeadMaps, head: int) -> float:
    """1 - overlap; 0 where one of the maps has no mass."""
    one, other = shares(a, head), shares(b, head)
    if not sum(one) or not sum(other):
        return 0.0
    return 1.0 - sum(min(x, y) for x, y in zip(one, other, strict=True))


def plain_agreement(a: HeadMaps, b: HeadMaps, head: int) -> float:
    """Cosine of a head's change with the others' changes, weighted by their attention."""
    changes = [
        [x - y for x, y in zip(shares(a, h), shares(b, h), strict=True)] for h in range(len(HEADS))
    ]
    weights = [
        (float(x) + float(y)) / 2 for x, y in zip(a.image_attention, b.image_attention, strict=True)
    ]
    others = [0.0] * (ROWS * COLS)
    for h, change in enumerate(changes):
        if h != head:
            others = [o + weights[h] * c for o, c in zip(others, change, strict=True)]
    dot = sum(x * y for x, y in zip(changes[head], others, strict=True))
    length = math.hypot(*changes[head]) * math.hypot(*others)
    return max(0.0, dot / length) if length else 0.0


def plain_inside(maps: HeadMaps, boxes: np.ndarray, head: int) -> float:
    """Share of the mass on the cells whose centres lie in a box (boxes end on cells' borders)."""
    inside = 0.0
    for cell, share in enumerate(shares(maps, head)):
        x, y = FRAME.point(cell % COLS + 0.5, cell // COLS + 0.5)
        if any(left < x < right and top < y < bottom for left, top, right, bottom in boxes):
            inside += share
    return inside


def test_attention_and_entropy_of_every_sentence() -> None:
    rng = np.random.default_rng(0)
    maps = [random_maps(rng) for _ in range(3)]
    seen = measure_heads(maps)
    assert (seen.heads, len(seen), set(seen.columns)) == (HEADS, 3, {ATTENTION, ENTROPY})
    for row, one in enumerate(maps):
        assert seen.columns[ATTENTION][row].tolist() == one.image_attention.tolist()
        expected = spatial_entropy(one.maps.values).astype(np.float32)
        assert seen.columns[ENTROPY][row].tolist() == expected.tolist()
    dead = np.concatenate([one.image_attention == 0 for one in maps])
    assert np.isinf(seen.columns[ENTROPY].ravel()[dead]).all()
    assert {column.dtype for column in seen.columns.values()} == {np.dtype(np.float32)}


def test_the_entropy_is_taken_as_the_criteria_say() -> None:
    rng = np.random.default_rng(1)
    maps = head_maps(rng.random((6, 9, 9)) ** 4)
    found = set()
    for options in ({}, {"cut": 2.0}, {"connectivity": 4}, {"weighting": "mass"}):
        column = measure_heads([maps], criteria=Criteria(**options)).columns[ENTROPY][0]
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
    assert np.isnan(seen.columns[INSIDE][[1, 3]]).all(), "unknown, or nothing is meant"
    for row, boxes in ((0, two), (2, two[:1])):
        expected = [plain_inside(maps[row], boxes, head) for head in range(len(HEADS))]
        assert seen.columns[INSIDE][row] == pytest.approx(expected, abs=1e-6)


def test_change_with_the_words() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        maps = [random_maps(rng) for _ in range(4)]
        partners = [2, None, 0, 1]
        seen = measure_heads(maps, partners=partners)
        assert np.isnan(seen.columns[SENSITIVITY][1]).all()
        assert np.isnan(seen.columns[AGREEMENT][1]).all()
        for row, partner in enumerate(partners):
            if partner is None:
                continue
            for head in range(len(HEADS)):
                pair = maps[row], maps[partner], head
                moved, agreed = (seen.columns[name][row, head] for name in (SENSITIVITY, AGREEMENT))
                assert moved == pytest.approx(plain_sensitivity(*pair), abs=1e-6)
                assert agreed == pytest.approx(plain_agreement(*pair), abs=1e-6)


def test_two_sentences_change_alike_both_ways() -> None:
    rng = np.random.default_rng(4)
    seen = measure_heads([random_maps(rng), random_maps(rng)], partners=[1, 0])
    for name in (SENSITIVITY, AGREEMENT):
        assert seen.columns[name][0] == pytest.approx(seen.columns[name][1], abs=1e-6)
    same = random_maps(rng)
    still = measure_heads([same, same], partners=[1, 0])
    assert still.columns[SENSITIVITY] == pytest.approx(0.0, abs=1e-6)
    assert (still.columns[AGREEMENT] == 0).all()


def test_what_the_words_added() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        maps, neutral = [random_maps(rng) for _ in range(3)], random_maps(rng)
        seen = measure_heads(maps, neutral=neutral)
        for row, one in enumerate(maps):
            for head in range(len(HEADS)):
                added = [
                    max(0.0, x - y)
                    for x, y in zip(shares(one, head), shares(neutral, head), strict=True)
                ]
                amount = sum(added) * float(one.image_attention[head])
                assert seen.columns[CONTRAST][row, head] == pytest.approx(amount, abs=1e-6)
                where = np.array(added, dtype=np.float32).reshape(1, ROWS, COLS)
                assert seen.columns[CONTRAST_ENTROPY][row, head] == pytest.approx(
                    float(spatial_entropy(where)[0]), abs=1e-6
                )


def test_a_map_like_the_neutral_one_adds_nothing_anywhere() -> None:
    maps = random_maps(np.random.default_rng(6))
    louder = head_maps(maps.maps.values * 4)
    seen = measure_heads([maps, louder], neutral=maps)
    assert seen.columns[CONTRAST] == pytest.approx(0.0, abs=1e-6)
    assert (seen.columns[CONTRAST] >= 0).all()


def test_maps_beyond_the_boxes_and_partners_are_only_compared_with() -> None:
    rng = np.random.default_rng(7)
    maps = [random_maps(rng) for _ in range(3)]
    box = np.array([[0.0, 0.0, 20.0, 20.0]])
    seen = measure_heads(maps, boxes=[box, None], partners=[2, None], neutral=maps[2])
    assert len(seen) == 2
    assert set(seen.columns) == set(COLUMNS) - {"iou", "hit"}
    assert seen.columns[SENSITIVITY][0, 0] == pytest.approx(
        plain_sensitivity(maps[0], maps[2], 0), abs=1e-6
    )


def test_what_does_not_fit_together_is_refused() -> None:
    rng = np.random.default_rng(8)
    one, other = random_maps(rng), random_maps(rng)
    few = HeadMaps(
        "a cat", HEADS[:2], SoftMap(other.maps.values[:2], FRAME), np.ones(2, np.float32)
    )
    for wrong in ([], [one, few]):
        with pytest.raises(HeadsError, match="same heads"):
            measure_heads(wrong)
    with pytest.raises(HeadsError, match="same heads"):
        measure_heads([one], neutral=few)
    for options in (
        {"boxes": [None] * 3},
        {"partners": []},
        {"boxes": [None, None], "partners": [None]},
    ):
        with pytest.raises(HeadsError, match="2 maps"):
            measure_heads([one, other], **options)


def test_columns_are_samples_by_heads() -> None:
    with pytest.raises(HeadsError, match="samples x 6 heads"):
        HeadStatistics(HEADS, {ATTENTION: np.zeros((2, 5), np.float32)})
    assert len(HeadStatistics(HEADS, {})) == 0
