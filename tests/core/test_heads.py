"""Head sets and how alike two lists are, against plain readings of the definitions."""

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vg_engine.core.errors import HeadsError
from vg_engine.core.heads import Head, HeadSet, agreement, check_heads, parse_heads

HEADS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=16, unique=True)


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(HEADS, HEADS)
@example([], [])
def test_agreement_is_what_its_definitions_say(a: list, b: list) -> None:
    first, second = tuple(Head(*x) for x in a), tuple(Head(*x) for x in b)
    found = agreement(first, second)
    assert list(found.shared) == [head for head in first if head in second]
    assert found.jaccard == len(set(a) & set(b)) / max(1, len(set(a) | set(b)))
    signs = [
        math.copysign(1, second.index(y) - second.index(x))
        for x, y in itertools.combinations(found.shared, 2)
    ]
    assert found.kendall == (pytest.approx(sum(signs) / len(signs)) if signs else None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": ()}, "names no heads"),
        ({"heads": (Head(1, 1), Head(1, 1))}, "'x': a head is named twice in L1H1, L1H1"),
        ({"frequency": (0.5, 0.5)}, "2 x frequency for 1 heads"),
        ({"frequency": (1.01,)}, "frequency of L1H1 is 1.01; .* between 0 and 1"),
        ({"frequency": (-0.1,)}, "between 0 and 1"),
        ({"spread": (-0.1,)}, "spread of L1H1 is -0.1; .* from 0 on"),
        ({"spread": (math.inf,)}, "finite number"),
        ({"score": (math.nan,)}, "score of L1H1 is nan; it is a finite number$"),
    ],
)
def test_a_set_that_cannot_be_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(HeadsError, match=words):
        HeadSet(**{"name": "x", "heads": (Head(1, 1),), "rule": "given"} | changes)


def test_what_is_known_of_each_head() -> None:
    heads = HeadSet("x", (Head(1, 1),), "given", frequency=(1.0,), score=(-3.5,))
    assert heads.columns == {"frequency": (1.0,), "score": (-3.5,)}


def test_a_list_that_may_count_from_1_is_told_so() -> None:
    for text, hinted in (("L4H1", True), ("L1H8", True), ("L5H1", False), ("L1H9", False)):
        with pytest.raises(HeadsError, match="out of range") as caught:
            check_heads(parse_heads(text), layers=4, per_layer=8)
        assert ("index_base: 1" in str(caught.value)) == hinted
