"""The entries of the table: controls are drawn fairly, and all are read as the engine reads."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vg_engine import load
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import Outcome
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head, HeadSet, parse_heads
from vg_engine.core.readout.instances import ReadOut
from vg_engine.core.readout.regions import half_level, paper
from vg_engine.studies.evaluate import best_head
from vg_engine.studies.evaluate.best_head import BestHead
from vg_engine.studies.evaluate.entries import as_settings, from_settings, make_plan
from vg_engine.studies.shared.numbers import cut
from vg_engine.studies.shared.predictions import MapReader, centre
from vg_engine.studies.shared.records import of_answers, outcomes


@pytest.fixture(scope="module")
def embedded():
    with load() as engine:
        yield engine


def made(name, heads, **provenance):
    return HeadSet(name, parse_heads(heads), "x", provenance=provenance)


def drawn(plan):
    """The draws of each random row; the first belongs to the engine's own heads."""
    return [row.draws for row in plan.entries if row.kind == "random"]


def test_random_heads_are_of_the_same_layers_and_as_many(embedded) -> None:
    few = made("few", "L3H1,L5H5")

    def draw(number=20, seed=4):
        return drawn(make_plan(embedded, [few], draws=number, seed=seed))[1]

    draws = draw()
    assert len(draws) == len(set(draws)) == 20
    assert {len(one) for one in draws} == {2}
    assert {head.layer for one in draws for head in one} == {3, 5}
    assert all(set(one) != set(few.heads) and len(set(one)) == 2 for one in draws)
    assert draw() == draws != draw(seed=5)
    # Fewer draws are the first of many: a longer run goes further, not elsewhere.
    assert draw(5) == draws[:5]
    # Sets alike share their random row.
    plan = make_plan(embedded, [made("one", "L3H1,L4H4"), made("two", "L3H2,L4H5")])
    assert len(drawn(plan)) == 2


def test_a_set_of_nearly_all_heads_of_its_layers_is_told_of(embedded) -> None:
    names = [f"L3H{head}" for head in range(8)]
    plan = make_plan(embedded, [made("nearly", ",".join(names[:7]))], draws=20)
    assert len(drawn(plan)[1]) == 7  # 8 ways to leave one out, less its own
    assert any("only 7 draws" in note for note in plan.notes)
    assert any("88 % are its own" in note for note in plan.notes)
    plan = make_plan(embedded, [made("whole", ",".join(names))])
    assert any("whole holds all 8 heads of layer 3" in note for note in plan.notes)
    assert len(drawn(plan)) == 1


def test_without_controls_only_the_heads_of_the_sets_are_read(embedded) -> None:
    plan = make_plan(embedded, [made("one", "L1H1")], controls=False)
    assert plan.heads == (tuple(sorted({*embedded.head_set.heads, Head(1, 1)})),)
    (heads,) = make_plan(embedded).heads
    assert (min(head.layer for head in heads), len(heads)) == (2, 32)
    plan = make_plan(embedded, [None])
    assert from_settings(as_settings(plan)) == plan.entries, "settings hold the whole plan"


def test_every_prompt_is_asked_once(embedded) -> None:
    stated = {"form": "bare", "query_row": "expression_last"}
    sets = (("one", "L3H1"), ("two", "L4H4,L5H5"))
    plan = make_plan(embedded, [made(*one, prompt=stated) for one in sets])
    assert len(plan.prompts) == 2
    assert plan.prompts[0] == embedded.settings.prompt
    assert (plan.prompts[1].form, plan.prompts[1].template) == ("bare", "{expression}")
    random = ("random: 1 head of layer 3", "random: 2 heads of layers 4 to 5")
    controls = (*random, "mean of all heads", "best single head")
    rows = ["one", "two", *(f"{name} (prompt 2)" for name in controls)]
    assert [row.name for row in plan.of_prompt(1)] == rows
    assert any(note.startswith("prompt 2 (bare") and "one, two" in note for note in plan.notes)


@pytest.mark.parametrize("region", [paper, half_level])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [((10.0, 10.0), (0.0, 0.0)), ((9.5, 12.25), (-20.0, -31.0)), ((0.1, 0.1), (0.0, 0.0))],
)
def test_entries_are_read_as_the_engine_reads(region, scale, offset) -> None:
    """Also where the picture is padded or finer than the grid's region."""
    size = (70, 61) if scale[0] > 1 else (1, 1)
    rng = np.random.default_rng(3)
    how = ReadOut(region, sigma=0.8, kernel=5)
    heads = tuple(Head(2, number) for number in range(4))
    groups = [heads[:1], heads[1:], heads]
    for _ in range(10):
        maps = SoftMap((rng.random((4, 12, 11)) ** 6).astype(np.float32), Affine(scale, offset))
        seen = HeadMaps("x", heads, maps, np.zeros(4, np.float32))
        reader = MapReader(seen, size, how, masks=True)
        for group, summed in zip(groups, reader.sums(groups), strict=True):
            (expected,) = how.instances(how.combined(seen.of(group), size), size)
            for given, near in ((reader.combined(group), 0.0), (summed, 1e-3)):
                assert np.abs(given.boxes[0] - expected.box).max() <= near
                assert given.point == expected.point
                assert given.score == pytest.approx(expected.score, abs=1e-6)
                assert np.array_equal(given.mask, expected.mask)
        for head, single in zip(heads, reader.per_head(heads), strict=True):
            (expected,) = how.instances(how.combined(seen.of([head]), size), size)
            assert single.mask is None
            assert np.allclose(single.boxes[0], expected.box, atol=1e-3)


def test_the_centre_box_covers_its_share() -> None:
    given = centre((40, 20), 0.5, mask=True)
    assert given.boxes.tolist() == [[10, 5, 30, 15]]
    assert given.point == (20, 10)
    assert given.mask.sum() == 200
    assert (given.mask[5, 10], given.mask[4, 10]) == (True, False)
    assert centre((1, 1), 0.5, mask=False).mask is None


@pytest.mark.parametrize("value", [0.4999999999, 0.5, 0.24999999, 0.25, 0.7499999, 1.0, 1 / 3, 0.0])
def test_no_share_climbs_over_a_threshold_when_it_is_written(value) -> None:
    written = cut(value)
    assert 0 <= value - written < 1.1e-6
    for step in (0.25, 0.5, 0.75, 1.0):
        assert (written >= step) == (value >= step)


def test_many_answers_are_read_back_as_they_were() -> None:
    given = [
        Outcome(True, True, 0.25, True, None, None, 1.0),
        Outcome(True, True, math.nan, None, None, None, 0.0),
        Outcome(True, True, 0.5, False, None, None, math.nan),
    ]
    back = outcomes(of_answers(given), target=True)
    assert [repr(one) for one in back] == [repr(one) for one in given]
    assert of_answers(given)["inter"] is None


def record(hits, ious):
    answer = {"hit": hits, "iou": ious, "inter": None, "union": None, "f1": None}
    return {"boxes": [[0, 0, 1, 1]], "area": 1.0, "answers": {"best": answer}}


def test_the_search_keeps_the_best_and_follows_from_its_records(monkeypatch) -> None:
    for name, number in (("FEW", 4), ("FIRST", 3), ("LEFT", 2)):
        monkeypatch.setattr(best_head, name, number)
    heads = parse_heads("L2H0,L2H1,L2H2,L3H0,L3H1")
    for search in (BestHead("best", heads), BestHead("best", heads)):
        search.add([record("11111", [0.1, 0.9, 0.2, 0.9, 0.3])])
        search.add([record("01010", [0.4, 0.8, 0.2, 0.7, 0.3]), {"error": "lost"}])
        assert search.heads == heads  # two samples are too few
        search.add([record("00000", [0.0, 0.7, 0.0, 0.8, 0.0])])
        assert list(map(str, search.heads)) == ["L2H1", "L3H0"]
        assert search.halved
        search.add([record("11", [0.0, 0.5])])
        assert (str(search.best), search.measure, search.started) == ("L3H0", "mean IoU", 5)


def test_without_boxes_the_search_goes_by_pointing_and_few_heads_all_go_on() -> None:
    search = BestHead("best", parse_heads("L2H0,L2H1,L2H2"))
    search.add([record(hits, [None] * 3) for hits in ("-10", "011", "-10")])
    assert (str(search.best), search.measure) == ("L2H1", "pointing")
    tied = BestHead("best", parse_heads("L2H0,L2H1"))
    tied.add([record("11", [0.5, 0.5])])
    assert str(tied.best) == "L2H0"
    heads = tuple(Head(2 + number, 0) for number in range(best_head.FEW))
    search = BestHead("best", heads)
    search.add([record("1" * len(heads), [0.5] * len(heads))] * (best_head.FIRST + 1))
    assert search.heads == heads


def test_controls_of_a_set_follow_its_own_layers(embedded) -> None:
    """Heads of the first two layers are no candidates, but a set may name them."""
    plan = make_plan(embedded, [made("low", "L0H0,L1H1")], draws=5)
    low = drawn(plan)[1]
    assert len(low) == 5
    assert {head.layer for one in low for head in one} == {0, 1}
    for kind in ("mean", "single"):
        (row,) = (row for row in plan.entries if row.kind == kind)
        assert {head.layer for head in row.heads} == {0, 1, 2, 3, 4, 5}, kind


def test_two_sets_of_the_same_heads_are_two_rows_with_a_note(embedded) -> None:
    one, other = made("one", "L3H1,L4H4"), made("other", "L3H1,L4H4")
    plan = make_plan(embedded, [one, other])
    assert [row.name for row in plan.entries[1:3]] == ["one", "other"]
    assert "one and other hold the same heads" in plan.notes
    with pytest.raises(InputError, match="one is in the table already"):
        make_plan(embedded, [one, one])


def test_a_set_whose_region_is_not_used_is_said(embedded) -> None:
    found = replace(made("one", "L3H1"), provenance={"region": "otsu"})
    note = "head set 'one' was found with region otsu, not edge_level"
    assert note in make_plan(embedded, [found]).notes
    assert note not in make_plan(embedded.variant(region="otsu"), [found]).notes
