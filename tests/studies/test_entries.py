"""The entries of the table: controls are drawn fairly, and all are read as the engine reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float32

from vg_engine import load
from vg_engine.core.contract.results import HeadMaps, Instance
from vg_engine.core.engine.engine import Engine
from vg_engine.core.evaluation.outcomes import Outcome
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head, HeadSet, parse_heads
from vg_engine.core.readout.instances import ReadOut
from vg_engine.core.readout.regions import half_level, paper
from vg_engine.studies.evaluate import best_head
from vg_engine.studies.evaluate.best_head import BestHead
from vg_engine.studies.evaluate.entries import EntryPlan, as_settings, from_settings, make_plan
from vg_engine.studies.shared.numbers import cut
from vg_engine.studies.shared.predictions import MapReader, centre
from vg_engine.studies.shared.records import of_answers, outcomes


@pytest.fixture(scope="module")
def embedded() -> Iterator[Engine]:
    with load() as engine:
        yield engine


def drawn(plan: EntryPlan, number: int = 0) -> tuple[tuple[Head, ...], ...]:
    return [row for row in plan.entries if row.kind == "random"][number].draws


def test_random_heads_are_of_the_same_layers_and_as_many(embedded: Engine) -> None:
    few = HeadSet("few", parse_heads("L3H1,L5H5"), "paper")
    draws = drawn(make_plan(embedded, [few], draws=20, seed=4), 1)
    assert len(draws) == len(set(draws)) == 20
    assert {len(draw) for draw in draws} == {2}
    assert {head.layer for draw in draws for head in draw} == {3, 5}
    assert all(set(draw) != set(few.heads) and len(set(draw)) == 2 for draw in draws)
    assert drawn(make_plan(embedded, [few], draws=20, seed=4), 1) == draws
    assert drawn(make_plan(embedded, [few], draws=20, seed=5), 1) != draws
    # Fewer draws are the first of many: a longer run goes further, not elsewhere.
    assert drawn(make_plan(embedded, [few], draws=5, seed=4), 1) == draws[:5]


def test_a_set_of_nearly_all_heads_of_its_layers_is_told_of(embedded: Engine) -> None:
    nearly = HeadSet("nearly", tuple(Head(3, head) for head in range(7)), "x")
    plan = make_plan(embedded, [nearly], draws=20)
    assert len(drawn(plan, 1)) == 7  # 8 ways to leave one out, less its own
    assert any("only 7 draws" in note for note in plan.notes)
    assert any("88 % are its own" in note for note in plan.notes)
    whole = HeadSet("whole", tuple(Head(3, head) for head in range(8)), "x")
    plan = make_plan(embedded, [whole])
    assert any("whole holds all 8 heads of layer 3" in note for note in plan.notes)
    assert sum(row.kind == "random" for row in plan.entries) == 1


def test_sets_alike_share_their_random_row(embedded: Engine) -> None:
    one = HeadSet("one", parse_heads("L3H1,L4H4"), "x")
    two = HeadSet("two", parse_heads("L3H2,L4H5"), "x")
    plan = make_plan(embedded, [one, two])
    assert sum(row.kind == "random" for row in plan.entries) == 2


def test_without_controls_only_the_heads_of_the_sets_are_read(embedded: Engine) -> None:
    one = HeadSet("one", parse_heads("L1H1"), "x")
    plan = make_plan(embedded, [one], controls=False)
    assert embedded.head_set is not None
    assert plan.heads == (tuple(sorted({*embedded.head_set.heads, Head(1, 1)})),)
    assert min(head.layer for head in make_plan(embedded).heads[0]) == 2
    assert len(make_plan(embedded).heads[0]) == 32


def test_every_prompt_is_asked_once(embedded: Engine) -> None:
    stated = {"prompt": {"form": "bare", "query_row": "expression_last"}}
    bare = [
        HeadSet(name, parse_heads(heads), "x", provenance=stated)
        for name, heads in (("one", "L3H1"), ("two", "L4H4,L5H5"))
    ]
    plan = make_plan(embedded, bare)
    assert len(plan.prompts) == 2
    assert plan.prompts[0] == embedded.settings.prompt
    assert (plan.prompts[1].form, plan.prompts[1].template) == ("bare", "{expression}")
    assert [row.name for row in plan.of_prompt(1)] == [
        "one",
        "two",
        "random: 1 head of layer 3 (prompt 2)",
        "random: 2 heads of layers 4 to 5 (prompt 2)",
        "mean of all heads (prompt 2)",
        "best single head (prompt 2)",
    ]
    assert any(note.startswith("prompt 2 (bare") and "one, two" in note for note in plan.notes)


def test_settings_hold_the_whole_plan(embedded: Engine) -> None:
    plan = make_plan(embedded, [None])
    assert from_settings(as_settings(plan)) == plan.entries


def observed(maps: Float32[np.ndarray, "heads rows cols"], affine: Affine) -> HeadMaps:
    heads = tuple(Head(2, number) for number in range(len(maps)))
    return HeadMaps("x", heads, SoftMap(maps, affine), np.zeros(len(maps), np.float32))


@pytest.mark.parametrize("region", [paper, half_level])
@pytest.mark.parametrize(
    "affine",
    [
        Affine((10.0, 10.0), (0.0, 0.0)),
        Affine((9.5, 12.25), (-20.0, -31.0)),
        Affine((0.1, 0.1), (0.0, 0.0)),
    ],
)
def test_entries_are_read_as_the_engine_reads(region: Any, affine: Affine) -> None:
    """Also where the picture is padded or finer than the grid's region."""
    size = (70, 61) if affine.scale[0] > 1 else (1, 1)
    rng = np.random.default_rng(3)
    for _ in range(10):
        seen = observed((rng.random((4, 12, 11)) ** 6).astype(np.float32), affine)
        how = ReadOut(region, sigma=0.8, kernel=5)
        reader = MapReader(seen, size, how, masks=True)

        def answer(heads: Sequence[Head], how: ReadOut = how, seen: HeadMaps = seen) -> Instance:
            (one,) = how.instances(how.combined(seen.of(heads), size), size)
            return one

        groups: list[Sequence[Head]] = [seen.heads[:1], seen.heads[1:], seen.heads]
        for heads, summed in zip(groups, reader.sums(groups), strict=True):
            expected = answer(heads)
            for given, near in ((reader.combined(heads), 0.0), (summed, 1e-3)):
                assert given.mask is not None
                assert np.abs(given.boxes[0] - expected.box).max() <= near
                assert given.point == expected.point
                assert given.score == pytest.approx(expected.score, abs=1e-6)
                assert np.array_equal(given.mask, expected.mask)
        for head, single in zip(seen.heads, reader.singles(seen.heads), strict=True):
            assert single.mask is None
            assert np.allclose(single.boxes[0], answer([head]).box, atol=1e-3)


def test_the_centre_box_covers_its_share() -> None:
    given = centre((40, 20), 0.5, mask=True)
    assert given.boxes.tolist() == [[10, 5, 30, 15]]
    assert given.point == (20, 10)
    assert given.mask is not None
    assert given.mask.sum() == 200
    assert given.mask[5, 10]
    assert not given.mask[4, 10]
    assert centre((1, 1), 0.5, mask=False).mask is None


@pytest.mark.parametrize("value", [0.4999999999, 0.5, 0.24999999, 0.25, 0.7499999, 1.0, 1 / 3, 0.0])
def test_no_share_climbs_over_a_threshold_when_it_is_written(value: float) -> None:
    written = cut(value)
    assert written is not None
    assert written <= value
    assert value - written < 1.1e-6
    assert [written >= step for step in (0.25, 0.5, 0.75, 1.0)] == [
        value >= step for step in (0.25, 0.5, 0.75, 1.0)
    ]


def test_many_answers_are_read_back_as_they_were() -> None:
    given = [
        Outcome(True, True, 0.25, True, None, None, 1.0),
        Outcome(True, True, math.nan, None, None, None, 0.0),
        Outcome(True, True, 0.5, False, None, None, math.nan),
    ]
    back = outcomes(of_answers(given), target=True)
    assert [repr(one) for one in back] == [repr(one) for one in given]
    assert of_answers(given)["inter"] is None


def record(hits: str, ious: list[float | None]) -> dict[str, Any]:
    answer = {"hit": hits, "iou": ious, "inter": None, "union": None, "f1": None}
    return {"boxes": [[0, 0, 1, 1]], "area": 1.0, "answers": {"best": answer}}


def test_the_search_keeps_the_best_and_follows_from_its_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(best_head, "FEW", 4)
    monkeypatch.setattr(best_head, "FIRST", 3)
    monkeypatch.setattr(best_head, "LEFT", 2)
    heads = parse_heads("L2H0,L2H1,L2H2,L3H0,L3H1")
    search, again = BestHead("best", heads), BestHead("best", heads)
    first = [record("11111", [0.1, 0.9, 0.2, 0.9, 0.3])]
    more = [record("01010", [0.4, 0.8, 0.2, 0.7, 0.3]), {"error": "lost"}]
    for batch in (first, more):
        search.add(batch)
        again.add(batch)
    assert search.heads == heads  # two samples are too few
    search.add([record("00000", [0.0, 0.7, 0.0, 0.8, 0.0])])
    again.add([record("00000", [0.0, 0.7, 0.0, 0.8, 0.0])])
    assert list(map(str, search.heads)) == ["L2H1", "L3H0"] == list(map(str, again.heads))
    assert search.halved
    search.add([record("11", [0.0, 0.5])])
    assert (str(search.best), search.measure, search.started) == ("L3H0", "mean IoU", 5)


def test_without_boxes_the_search_goes_by_pointing() -> None:
    search = BestHead("best", parse_heads("L2H0,L2H1,L2H2"))
    search.add([record("-10", [None] * 3), record("011", [None] * 3), record("-10", [None] * 3)])
    assert (str(search.best), search.measure) == ("L2H1", "pointing")
    tied = BestHead("best", parse_heads("L2H0,L2H1"))
    tied.add([record("11", [0.5, 0.5])])
    assert str(tied.best) == "L2H0"


def test_few_heads_all_go_on() -> None:
    heads = tuple(itertools.islice((Head(layer, 0) for layer in itertools.count(2)), best_head.FEW))
    search = BestHead("best", heads)
    search.add([record("1" * len(heads), [0.5] * len(heads))] * (best_head.FIRST + 1))
    assert search.heads == heads
