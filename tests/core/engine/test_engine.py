from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding
from vg_engine.core.contract.scene import Scene
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import (
    ExpressionError,
    HeadsError,
    InputError,
    ModelError,
    PictureError,
    PluginError,
    TokenCountError,
)
from vg_engine.core.heads import Head, HeadSet

PICTURE = np.zeros((60, 120, 3), np.uint8)
Make = Callable[..., Engine]


def centre(grounding: Grounding) -> tuple[float, float]:
    assert grounding.box is not None
    left, top, right, bottom = grounding.box
    return (left + right) / 2, (top + bottom) / 2


def test_the_answer_lies_where_the_head_points(make_engine: Make) -> None:
    grounding = make_engine().ground(PICTURE, "1,4")
    assert grounding.point == pytest.approx((90, 15))  # column 4 of 6 over 120, row 1 of 6 over 60
    assert centre(grounding) == pytest.approx((90, 15))
    assert grounding.mask is not None
    assert grounding.mask[15, 90]
    assert grounding.heatmap.shape == (60, 120)
    assert grounding.provenance["head_set"] == "cell"
    assert set(grounding.timings) == {"prepare", "attend", "read"}


def test_one_text_gives_one_answer_and_many_give_many(make_engine: Make) -> None:
    engine = make_engine()
    assert isinstance(engine.ground(PICTURE, "0,0"), Grounding)
    assert [g.expression for g in engine.ground_all(PICTURE, ["0,0", "5,5"])] == ["0,0", "5,5"]
    assert engine.ground_all(PICTURE, []) == ()


def test_batches_keep_the_order_and_stay_below_their_size(make_engine: Make, adapter: Any) -> None:
    texts = [f"{i % 6},{i // 6}" for i in range(7)]
    other = np.zeros((30, 30, 3), np.uint8)
    requests = [(PICTURE if i < 4 else other, text) for i, text in enumerate(texts)]
    answers = list(make_engine(batch_size=3).ground_many(requests))
    assert [g.expression for g in answers] == texts
    assert [g.size for g in answers] == [(120, 60)] * 4 + [(30, 30)] * 3
    assert adapter.batches == [3, 3, 1]


def test_batching_does_not_change_the_answer(make_engine: Make) -> None:
    texts = ["0,0", "3,2", "5,5"]
    alone = [make_engine().ground(PICTURE, text).box for text in texts]
    assert [g.box for g in make_engine(batch_size=2).ground_all(PICTURE, texts)] == alone


def test_requests_are_read_a_batch_at_a_time(make_engine: Make) -> None:
    read = []

    def requests() -> Any:
        for i in range(6):
            read.append(i)
            yield PICTURE, "0,0"

    stream = make_engine(batch_size=2).ground_many(requests())
    next(stream)
    assert read == [0, 1]


def test_a_failed_record_does_not_take_its_batch_along(make_engine: Make) -> None:
    requests = [
        (PICTURE, "1,1"),
        (PICTURE, "broken"),
        ("lost.png", "0,0"),
        (PICTURE, " "),
        (PICTURE, "2,2"),
    ]
    answers = list(make_engine().ground_many(requests, errors="yield"))
    kinds = [type(answer) for answer in answers]
    assert kinds == [Grounding, TokenCountError, PictureError, ExpressionError, Grounding]
    with pytest.raises(TokenCountError):
        list(make_engine().ground_many(requests[:2]))


def test_only_the_wanted_heads_are_asked_for(make_engine: Make, adapter: Any) -> None:
    make_engine().ground(PICTURE, "0,0")
    assert adapter.requests[-1].heads == (Head(2, 1),)
    assert adapter.requests[-1].last_layer == 2


def test_without_a_head_set_heads_are_selected_on_the_picture_and_it_is_said(
    make_engine: Make, adapter: Any
) -> None:
    grounding = make_engine(head_set=None, k=1).ground(PICTURE, "4,4")
    assert grounding.provenance["head_set"] == "auto"
    assert any("auto" in note for note in grounding.notes)
    assert min(head.layer for head in adapter.requests[-1].heads) == 2  # never layers 0 and 1
    assert grounding.heads == (Head(2, 1),)


def test_a_head_set_that_does_not_fit_is_refused(make_engine: Make) -> None:
    with pytest.raises(HeadsError, match="32 layers x 32 heads"):
        make_engine(head_set=HeadSet("big", (Head(2, 1),), "paper", layers=32, heads_per_layer=32))
    with pytest.raises(HeadsError, match="L9H0 is out of range"):
        make_engine(head_set=HeadSet("deep", (Head(9, 0),), "given"))
    with pytest.raises(HeadsError, match="L9H0 is out of range"):
        make_engine().variant(head_set=HeadSet("deep", (Head(9, 0),), "given"))


def test_an_engine_that_is_dropped_gives_its_model_back_once(
    make_engine: Make, adapter: Any
) -> None:
    engine = make_engine()
    other = engine.variant(k=2)
    assert (other.settings.k, engine.settings.k) == (2, 3)
    other.close()
    assert adapter.closed == 0, "the model belongs to the first engine"
    del engine
    assert other.ground(PICTURE, "0,0").found
    assert adapter.closed == 0, "a variant keeps the engine that it was made from"
    del other
    gc.collect()
    assert adapter.closed == 1


def test_maps_of_chosen_heads(make_engine: Make) -> None:
    engine = make_engine()
    (observed,) = engine.maps(PICTURE, "3,5", heads=[Head(2, 1), Head(3, 0)])
    assert observed.maps.values.shape == (2, 6, 6)
    assert np.unravel_index(observed.maps.values[0].argmax(), (6, 6)) == (3, 5)
    assert observed.image_attention == pytest.approx([0.9 + 35 * 0.001, 36 / 42], abs=1e-6)
    assert len(engine.maps(PICTURE, ["0,0", "1,1"])[0].heads) == 8
    with pytest.raises(HeadsError):
        engine.maps(PICTURE, "0,0", heads=[Head(0, 2)])


def test_several_rows_are_averaged(make_engine: Make) -> None:
    engine = make_engine(prompt=Prompt(query_row="expression_all"))
    (observed,) = engine.maps(PICTURE, "0,0", heads=[Head(2, 1)])
    assert observed.image_attention == pytest.approx([0.9 + 35 * 0.001], abs=1e-6)


def test_close_gives_the_model_back_once(make_engine: Make, adapter: Any) -> None:
    with make_engine() as engine:
        engine.ground(PICTURE, "0,0")
    engine.close()
    assert adapter.closed == 1
    with pytest.raises(ModelError, match="closed"):
        engine.ground(PICTURE, "0,0")


class Renames:
    """A post-processor that shows in which order and over what it was called."""

    def __init__(self, mark: str) -> None:
        self.mark, self.seen = mark, []  # type: ignore[var-annotated]

    def vg_postprocess(self, groundings: Sequence[Grounding]) -> list[Grounding]:
        self.seen.append([g.expression for g in groundings])
        return [replace(g, expression=g.expression + self.mark) for g in groundings]


def test_postprocessors_are_folded_in_the_order_named(make_engine: Make) -> None:
    first, second = Renames("a"), Renames("b")
    engine = make_engine([("first", first), ("second", second)], batch_size=2)
    other = PICTURE + 1
    requests = [(PICTURE, "0,0"), (PICTURE, "1,1"), (PICTURE, "2,2"), (other, "3,3")]
    assert [g.expression for g in engine.ground_many(requests)] == [
        "0,0ab",
        "1,1ab",
        "2,2ab",
        "3,3ab",
    ]
    # All answers about one picture come together, although a batch ended between them.
    assert first.seen == [["0,0", "1,1", "2,2"], ["3,3"]]
    assert second.seen[0] == ["0,0a", "1,1a", "2,2a"]


class Loses:
    def vg_postprocess(self, groundings: Sequence[Grounding], scene: Scene) -> list[Grounding]:
        return list(groundings)[1:]


def test_a_postprocessor_that_loses_an_answer_is_named(make_engine: Make) -> None:
    with pytest.raises(PluginError, match=r"'loses'.*0 answers for 1"):
        make_engine([("loses", Loses())]).ground(PICTURE, "0,0")


def test_two_engines_live_side_by_side(make_engine: Make) -> None:
    one, two = make_engine([("a", Renames("a"))]), make_engine([("b", Renames("b"))])
    assert one.ground(PICTURE, "0,0").expression == "0,0a"
    assert two.ground(PICTURE, "0,0").expression == "0,0b"


def test_threads_agree_with_one(make_engine: Make) -> None:
    engine = make_engine()
    expected = {text: engine.ground(PICTURE, text).box for text in ("0,0", "2,3", "5,1")}
    results: list[tuple[str, object]] = []

    def work(text: str) -> None:
        results.extend((text, engine.ground(PICTURE, text).box) for _ in range(5))

    threads = [threading.Thread(target=work, args=(text,)) for text in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    assert all(expected[text] == box for text, box in results)


@pytest.mark.parametrize("wrong", [{"sigma": -1.0}, {"kernel": 4}, {"k": 0}, {"batch_size": 0}])
def test_settings_are_checked(make_engine: Make, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        make_engine(**wrong)


class Silent:
    """An adapter whose hooks answer what they are told to."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def vg_load_model(self, spec: ModelSpec) -> Any:
        return self.answers.get("load")

    def vg_prepare_inputs(self, model: LoadedModel) -> Any:
        return self.answers.get("prepare")

    def vg_locate_image_tokens(self, model: LoadedModel) -> Any:
        return self.answers.get("locate")

    def vg_extract_attention(self, model: LoadedModel) -> Any:
        return self.answers.get("extract")


def test_an_adapter_that_answers_nothing_or_wrongly_is_named(
    make_engine: Make, adapter: Any
) -> None:
    with pytest.raises(PluginError, match="'cell' answered nothing to vg_load_model"):
        make_engine(other=Silent())
    with pytest.raises(PluginError, match="'cell': vg_load_model returned str instead of"):
        make_engine(other=Silent(load="a model"))
    model = adapter.vg_load_model(ModelSpec("x"))
    with pytest.raises(PluginError, match="nothing to vg_prepare_inputs"):
        make_engine(other=Silent(load=model)).ground(PICTURE, "0,0")
    with pytest.raises(PluginError, match="1 layers x 0 heads"):
        make_engine(other=Silent(load=replace(model, layers=1, heads=0)))
    with pytest.raises(PluginError, match="map_layers"):
        make_engine(other=Silent(load=replace(model, map_layers=(9,))))


def test_close_waits_for_what_is_being_read(make_engine: Make, adapter: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()
    read, seen = adapter.vg_extract_attention, []

    class Slow(type(adapter)):  # type: ignore[misc]
        def vg_extract_attention(self, inputs: Any, request: Any) -> Any:
            inside.set()
            assert go_on.wait(10)
            seen.append(adapter.closed)
            return read(inputs, request)

    slow = Slow()
    slow._close = adapter._close
    engine = make_engine(other=slow)
    answers: list[object] = []
    work = threading.Thread(target=lambda: answers.append(engine.ground(PICTURE, "0,0")))
    work.start()
    assert inside.wait(10)
    engine.close()
    engine.close()
    go_on.set()
    work.join()
    assert isinstance(answers[0], Grounding)
    assert (seen, adapter.closed) == ([0], 1)
    with pytest.raises(ModelError, match="closed"):
        engine.ground(PICTURE, "0,0")


def test_a_failed_text_does_not_part_the_answers_about_its_picture(make_engine: Make) -> None:
    first = Renames("a")
    engine = make_engine([("first", first)], batch_size=2)
    requests = [(PICTURE, "0,0"), (PICTURE, " "), (PICTURE, "broken"), (PICTURE, "2,2")]
    answers = list(engine.ground_many(requests, errors="yield"))
    assert [isinstance(answer, Grounding) for answer in answers] == [True, False, False, True]
    assert first.seen == [["0,0", "2,2"]]


@pytest.mark.parametrize("text", ["\ud800", "a \udcff b", "\u200b", "\x00", "\ufeff \u2060"])
def test_an_expression_must_be_text_that_shows_something(make_engine: Make, text: str) -> None:
    with pytest.raises(ExpressionError):
        make_engine().ground(PICTURE, text)


# Maps first, answers later -----------------------------------------------------------------------

OTHER = Picture(np.full((30, 90, 3), 7, np.uint8), "other", ("turned",))
HERE = Picture(PICTURE)


def test_maps_of_many_pictures_take_one_pass_and_keep_the_order(
    make_engine: Make, adapter: Any
) -> None:
    shown: list[list[tuple[int, int]]] = []

    class Counts(type(adapter)):  # type: ignore[misc]
        def vg_prepare_inputs(self, scenes: Any, expressions: Any, prompt: Any) -> Any:
            shown.append([scene.picture.size for scene in scenes])
            return adapter.vg_prepare_inputs(scenes, expressions, prompt)

    requests = [(HERE, "0,1"), (HERE, " 2,3 "), (OTHER, "4,5"), (HERE, "5,0")]
    engine = make_engine(batch_size=4, other=Counts())
    many = engine.maps_many(requests)
    assert adapter.batches == [4]
    assert shown == [[(120, 60), (90, 30), (120, 60)]], "a picture once per run of its requests"
    assert [one.expression for one in many] == ["0,1", "2,3", "4,5", "5,0"]
    for (picture, text), one in zip(requests, many, strict=True):
        (alone,) = engine.maps(picture, text)
        assert one.heads == alone.heads == engine.model.all_heads
        assert np.array_equal(one.maps.values, alone.maps.values)
        assert one.maps.to_original == alone.maps.to_original
        assert one.image_attention.tolist() == alone.image_attention.tolist()


def test_maps_of_one_picture_are_cut_into_batches(make_engine: Make, adapter: Any) -> None:
    found = make_engine(batch_size=2).maps(HERE, ["0,0", "1,1", "2,2", "3,3", "4,4"])
    assert adapter.batches == [2, 2, 1]
    assert [one.expression for one in found] == ["0,0", "1,1", "2,2", "3,3", "4,4"]


def test_maps_of_many_ask_for_the_heads_and_the_prompt_that_are_named(
    make_engine: Make, adapter: Any
) -> None:
    engine = make_engine()
    (one,) = engine.maps_many(
        [(HERE, "3,4")], [Head(3, 1), Head(2, 1)], prompt=Prompt(query_row="expression_all")
    )
    assert one.heads == adapter.requests[-1].heads == (Head(3, 1), Head(2, 1))
    assert np.unravel_index(one.maps.values[1].argmax(), (6, 6)) == (3, 4)
    for wrong in ([Head(9, 0)], [Head(0, 2)]):
        with pytest.raises(HeadsError, match="out of range"):
            engine.maps_many([(HERE, "0,0")], wrong)
        with pytest.raises(HeadsError, match="out of range"):
            engine.maps_many([], wrong)


def test_maps_of_nothing_and_of_broken_requests(make_engine: Make, adapter: Any) -> None:
    engine = make_engine()
    assert engine.maps_many([]) == ()
    assert adapter.batches == []
    for request, error in (
        (("lost.png", "0,0"), PictureError),
        ((HERE, " "), ExpressionError),
        ((HERE, "broken"), TokenCountError),
    ):
        with pytest.raises(error):
            engine.maps_many([(HERE, "0,0"), request])
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        engine.maps_many([(HERE, "0,0")])


def test_reading_maps_gives_the_answer_of_ground_without_another_pass(
    make_engine: Make, adapter: Any
) -> None:
    engine = make_engine()
    for picture, text in ((HERE, "1,4"), (OTHER, "5,5")):
        expected = engine.ground(picture, text)
        (maps,) = engine.maps_many([(picture, text)])
        passes = len(adapter.batches)
        found = engine.read(maps, picture, [Head(2, 1)])
        assert len(adapter.batches) == passes
        assert found.heads == expected.heads == (Head(2, 1),)
        assert (found.box, found.point, found.size) == (expected.box, expected.point, expected.size)
        assert np.array_equal(found.soft_map.values, expected.soft_map.values)
        assert found.score == expected.score
        assert found.notes == expected.notes
        assert found.provenance == expected.provenance


def test_reading_combines_all_maps_if_none_is_named(make_engine: Make) -> None:
    engine = make_engine(sigma=0.0)
    (maps,) = engine.maps_many([(HERE, "1,4")], [Head(2, 1), Head(3, 0)])
    whole = engine.read(maps, HERE)
    assert whole.heads == (Head(2, 1), Head(3, 0))
    expected = maps.maps.values.sum(axis=0, dtype=np.float64)
    assert whole.soft_map.values == pytest.approx(expected, rel=1e-6)
    turned = engine.read(maps, HERE, [Head(3, 0), Head(2, 1)])
    assert turned.heads == (Head(3, 0), Head(2, 1))
    assert turned.soft_map.values == pytest.approx(expected, rel=1e-6)


def test_refining_is_what_the_postprocessors_make_of_a_pictures_answers(make_engine: Make) -> None:
    first, second = Renames("a"), Renames("b")
    engine = make_engine([("first", first), ("second", second)])
    answers = [engine.read(maps, HERE) for maps in engine.maps(HERE, ["0,0", "1,1"])]
    assert first.seen == [], "reading alone refines nothing"
    better = engine.refine(answers, HERE)
    assert [answer.expression for answer in better] == ["0,0ab", "1,1ab"]
    assert first.seen == [["0,0", "1,1"]]
    assert engine.refine([], HERE) == ()
    assert len(first.seen) == 1
    assert make_engine().refine(answers, PICTURE) == tuple(answers)


def test_an_answer_of_other_heads_says_so(make_engine: Make) -> None:
    engine = make_engine()
    (maps,) = engine.maps(PICTURE, "1,4")
    assert engine.read(maps, PICTURE, [Head(2, 1)]).provenance["head_set"] == "cell"
    assert engine.read(maps, PICTURE, [Head(3, 0)]).provenance["head_set"] == "given"
    with pytest.raises(HeadsError, match="L9H9"):
        engine.read(maps, PICTURE, [Head(9, 9)])
