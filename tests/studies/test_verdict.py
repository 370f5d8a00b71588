"""The sentence above a report: it claims no more than the differences show."""

import math

import pytest

from vg_engine.core.evaluation.intervals import Paired
from vg_engine.studies.shared.verdict import Control, Verdict, side_of

ABOVE, BELOW = Paired(0.2, 0.1, 0.3, 0.001, 90), Paired(-0.2, -0.3, -0.1, 0.001, 90)
NEAR = Paired(0.05, -0.01, 0.1, 0.2, 90)


def said(*controls):
    return Verdict("ours", "acc@0.5", controls)


@pytest.mark.parametrize(
    ("difference", "side"),
    [
        (ABOVE, "better"),
        (BELOW, "worse"),
        (ABOVE.reversed, "worse"),
        (NEAR, "not told apart"),
        # Few pictures: the interval alone would say too much; one picture has no interval.
        (Paired(0.2, 0.1, 0.3, 0.125, 4), "not told apart"),
        (Paired(0.2, math.nan, math.nan, 0.01, 1), "not told apart"),
        (Paired(math.nan, math.nan, math.nan, math.nan, 0), "not told apart"),
        (Paired(0.1, 0.0, 0.2, 0.01, 90), "not told apart"),
    ],
)
def test_interval_and_p_value_must_agree(difference, side):
    assert side_of(difference) == side


def test_to_beat_random_heads_is_to_beat_nearly_all_draws():
    assert Control("random", ABOVE, 1, 20).side == "better"
    assert Control("random", ABOVE, 2, 20).side == "not told apart"
    assert Control("random", BELOW, 20, 20).side == "worse"


def test_the_words():
    mean, centre = Control("mean", NEAR), Control("centre box", ABOVE)
    random = Control("random", ABOVE, 4, 20)
    yes, no, unclear = (
        said(centre),
        said(centre, Control("mean", BELOW)),
        said(random, mean, centre),
    )
    assert (yes.question, str(yes)) == (
        "Does ours beat its controls? Yes.",
        "In Acc@0.5, it is better than centre box (+0.200).",
    )
    assert "20" not in yes.rule
    assert (no.question, str(no)) == (
        "Does ours beat its controls? No.",
        "In Acc@0.5, it is better than centre box (+0.200); worse than mean (−0.200).",
    )
    assert unclear.question == "Does ours beat its controls? Not told apart from 2 of 3."
    assert str(unclear) == (
        "In Acc@0.5, it is better than centre box (+0.200); not told apart from random (+0.200 to "
        "the mean of 20 draws; 4 reach it) and mean (+0.050)."
    )
    assert "at most one in 20" in unclear.rule
    told = unclear.to_json()
    assert (told["metric"], told["beats_controls"]) == ("acc@0.5", "not told apart")
    assert told["controls"][0] == {
        "name": "random", "is": "not told apart", "difference": 0.2, "low": 0.1, "high": 0.3,
        "p": 0.001, "n": 90, "reached": 4, "draws": 20,
    }  # fmt: skip
