from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vg_engine.core import errors
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt, clean_expression
from vg_engine.core.contract.results import Grounding
from vg_engine.core.engine.engine import Engine
from vg_engine.core.heads import Head, HeadSet

PICTURE = np.zeros((60, 120, 3), np.uint8)
Make = Callable[..., Engine]


def test_the_answer_lies_where_the_head_points(make_engine: Make, adapter: Any) -> None:
    grounding = make_engine().ground(PICTURE, "1,4")
    assert grounding.point == pytest.approx((90, 15))  # column 4 of 6 over 120, row 1 of 6 over 60
    left, top, right, bottom = grounding.box or (0, 0, 0, 0)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((90, 15))
    assert grounding.mask is not None
    assert grounding.mask[15, 90]
    assert grounding.heatmap.shape == (60, 120)
    assert grounding.provenance["head_set"] == "cell"
    assert set(grounding.timings) == {"prepare", "attend", "read"}
    (request,) = adapter.requests
    assert (request.heads, request.last_layer) == ((Head(2, 1),), 2), "no other head is asked for"


def test_batches_keep_the_order_and_change_no_answer(make_engine: Make, adapter: Any) -> None:
    texts = [f"{i % 6},{i // 6}" for i in range(7)]
    other = np.zeros((30, 30, 3), np.uint8)
    requests = [(PICTURE if i < 4 else other, text) for i, text in enumerate(texts)]
    engine = make_engine(batch_size=3)
    answers = list(engine.ground_many(requests))
    assert adapter.batches == [3, 3, 1]
    assert [g.expression for g in answers] == texts
    assert [g.size for g in answers] == [(120, 60)] * 4 + [(30, 30)] * 3
    boxes = [answer.box for answer in answers]
    assert [engine.ground(*request).box for request in requests] == boxes
    assert [answer.box for answer in engine.ground_all(PICTURE, texts[:4])] == boxes[:4]
    assert engine.ground_all(PICTURE, []) == ()


def test_a_failed_record_does_not_take_its_batch_along(make_engine: Make) -> None:
    fine, broken = (PICTURE, "1,1"), (PICTURE, "broken")
    requests = [fine, broken, ("lost.png", "0,0"), (PICTURE, " "), fine]
    answers = list(make_engine().ground_many(requests, errors="yield"))
    raised = [errors.TokenCountError, errors.PictureError, errors.ExpressionError]
    assert [type(answer) for answer in answers] == [Grounding, *raised, Grounding]
    with pytest.raises(errors.TokenCountError):
        list(make_engine().ground_many(requests[:2]))


def test_without_a_head_set_pictures_select_theirs(make_engine: Make, adapter: Any) -> None:
    grounding = make_engine(head_set=None, k=1).ground(PICTURE, "4,4")
    assert grounding.provenance["head_set"] == "auto"
    assert any("auto" in note for note in grounding.notes)
    assert min(head.layer for head in adapter.requests[-1].heads) == 2  # never layers 0 and 1
    assert grounding.heads == (Head(2, 1),)


def test_a_head_set_that_does_not_fit_is_refused(make_engine: Make) -> None:
    with pytest.raises(errors.HeadsError, match="32 layers x 32 heads"):
        make_engine(head_set=HeadSet("big", (Head(2, 1),), "paper", layers=32, heads_per_layer=32))
    deep = HeadSet("deep", (Head(9, 0),), "given")
    for make in (lambda: make_engine(head_set=deep), lambda: make_engine().variant(heads=deep)):
        with pytest.raises(errors.HeadsError, match="L9H0 is out of range"):
            make()


def test_a_dropped_engine_gives_its_model_back_once(make_engine: Make, adapter: Any) -> None:
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
    several_rows = engine.variant(prompt=Prompt(query_row="expression_all"))
    (averaged,) = several_rows.maps(PICTURE, "0,0", heads=[Head(2, 1)])
    assert averaged.image_attention == pytest.approx([0.9 + 35 * 0.001], abs=1e-6)


def test_what_the_caller_told_torch_changes_no_pass(make_engine: Make, adapter: Any) -> None:
    class Sees(type(adapter)):  # type: ignore[misc]
        def vg_extract_attention(self, inputs: Any, request: Any) -> Any:
            assert not torch.is_autocast_enabled("cpu")
            return adapter.vg_extract_attention(inputs, request)

    engine = make_engine(other=Sees())
    with torch.autocast("cpu"), torch.device("meta"):
        assert engine.ground(PICTURE, "1,4").point == pytest.approx((90, 15))
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_device().type == "meta"


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
    texts = [answer.expression for answer in engine.ground_many(requests)]
    assert texts == ["0,0ab", "1,1ab", "2,2ab", "3,3ab"]
    # All answers about one picture come together, although a batch ended between them.
    assert first.seen == [["0,0", "1,1", "2,2"], ["3,3"]]
    assert second.seen[0] == ["0,0a", "1,1a", "2,2a"]


def test_a_postprocessor_that_loses_an_answer_is_named(make_engine: Make) -> None:
    class Loses:
        def vg_postprocess(self, groundings: Sequence[Grounding]) -> list[Grounding]:
            return list(groundings)[1:]

    with pytest.raises(errors.PluginError, match=r"'loses'.*0 answers for 1"):
        make_engine([("loses", Loses())]).ground(PICTURE, "0,0")


class Fails:
    def vg_postprocess(self, groundings: Sequence[Grounding]) -> Iterator[Grounding]:
        for one in groundings:
            if one.expression == "1,1":
                raise ZeroDivisionError("no\nbox")
            yield replace(one, expression=one.expression + "!")


def test_a_postprocessor_that_raises_is_named_and_costs_the_answers_it_raised_on(
    make_engine: Make,
) -> None:
    engine = make_engine([("fails", Fails())])
    requests = [(PICTURE, "0,0"), (PICTURE, "1,1"), (PICTURE, "2,2"), (PICTURE + 1, "3,3")]
    first, error, *others = engine.ground_many(requests, errors="yield")
    assert isinstance(error, errors.PluginError)
    assert "'fails' (Fails): vg_postprocess raised ZeroDivisionError: no box" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert [a.expression for a in (first, *others)] == ["0,0!", "2,2!", "3,3!"]  # type: ignore[union-attr]
    with pytest.raises(errors.PluginError, match="'fails'"):
        engine.ground(PICTURE, "1,1")


@pytest.mark.parametrize(
    "wrong", [{"sigma": -1.0}, {"kernel": 4}, {"k": 0}, {"batch_size": 0}, {"max_tokens": 0}]
)
def test_settings_are_checked(make_engine: Make, wrong: dict[str, int]) -> None:
    with pytest.raises(errors.InputError):
        make_engine(**wrong)


class Silent:
    """An adapter that loads the given model and answers None to every other hook."""

    def __init__(self, loaded: Any = None) -> None:
        self.loaded = loaded

    def vg_load_model(self, spec: ModelSpec) -> Any:
        return self.loaded

    def _nothing(self, model: LoadedModel) -> None:
        pass

    vg_prepare_inputs = vg_locate_image_tokens = vg_extract_attention = _nothing


def test_an_adapter_that_answers_wrongly_is_named(make_engine: Make, adapter: Any) -> None:
    model = adapter.vg_load_model(ModelSpec("x"))
    for loaded, description in (
        (None, "'cell' answered nothing to vg_load_model"),
        ("a model", "'cell': vg_load_model returned str instead of"),
        (replace(model, layers=1, heads=0), "1 layers x 0 heads"),
        (replace(model, map_layers=(9,)), "map_layers"),
    ):
        with pytest.raises(errors.PluginError, match=description):
            make_engine(other=Silent(loaded))
    with pytest.raises(errors.PluginError, match="nothing to vg_prepare_inputs"):
        make_engine(other=Silent(model)).ground(PICTURE, "0,0")


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
    go_on.set()
    work.join()
    assert isinstance(answers[0], Grounding)
    assert (seen, adapter.closed) == ([0], 1)


@pytest.mark.parametrize("text", ["\ud800", "a \udcff b", "\u200b", "\x00", "\ufeff \u2060"])
def test_an_expression_must_be_text_that_shows_something(make_engine: Make, text: str) -> None:
    with pytest.raises(errors.ExpressionError):
        make_engine().ground(PICTURE, text)


def test_accents_in_one_character_or_two_are_the_same_expression() -> None:
    assert (
        clean_expression("the cafe\u0301") == clean_expression("the caf\u00e9") == "the caf\u00e9"
    )


OTHER = Picture(np.full((30, 90, 3), 7, np.uint8), "other", ("turned",))
HERE = Picture(PICTURE)


def test_maps_of_many_pictures_share_passes(make_engine: Make, adapter: Any) -> None:
    shown: list[list[tuple[int, int]]] = []

    class Counts(type(adapter)):  # type: ignore[misc]
        def vg_prepare_inputs(self, scenes: Any, expressions: Any, prompt: Any) -> Any:
            shown.append([scene.picture.size for scene in scenes])
            return adapter.vg_prepare_inputs(scenes, expressions, prompt)

    requests = [(HERE, "0,1"), (HERE, " 2,3 "), (OTHER, "4,5"), (HERE, "5,0"), (HERE, "5,1")]
    engine = make_engine(batch_size=4, other=Counts())
    many = engine.maps_many(requests)
    assert adapter.batches == [4, 1]
    once_per_run = [(120, 60), (90, 30), (120, 60)]
    assert shown == [once_per_run, [(120, 60)]]
    assert [one.expression for one in many] == ["0,1", "2,3", "4,5", "5,0", "5,1"]
    for (picture, text), one in zip(requests, many, strict=True):
        (alone,) = engine.maps(picture, text)
        assert one.heads == alone.heads == engine.model.all_heads
        assert np.array_equal(one.maps.values, alone.maps.values)
        assert one.maps.to_original == alone.maps.to_original
        assert one.image_attention.tolist() == alone.image_attention.tolist()


def test_maps_of_the_heads_and_prompt_named(make_engine: Make, adapter: Any) -> None:
    engine = make_engine()
    every_row = Prompt(query_row="expression_all")
    (one,) = engine.maps_many([(HERE, "3,4")], [Head(3, 1), Head(2, 1)], prompt=every_row)
    assert one.heads == adapter.requests[-1].heads == (Head(3, 1), Head(2, 1))
    assert np.unravel_index(one.maps.values[1].argmax(), (6, 6)) == (3, 4)
    for wrong in (Head(9, 0), Head(0, 2)):
        for requests in ([(HERE, "0,0")], []):
            with pytest.raises(errors.HeadsError, match="out of range"):
                engine.maps_many(requests, [wrong])


def test_heads_by_name_and_none_and_a_switch_that_is_not_there(make_engine: Make) -> None:
    engine = make_engine()
    (maps,) = engine.maps(HERE, "0,0", ["L3H1", Head(2, 1)])
    assert maps.heads == engine.maps(HERE, "0,0", "3.1,L2H1")[0].heads == (Head(3, 1), Head(2, 1))
    for none in ([], ""):
        with pytest.raises(errors.HeadsError, match="no head is named"):
            engine.maps(HERE, "0,0", none)
    with pytest.raises(errors.InputError, match="no 'regoin'; did you mean region"):
        engine.variant(regoin=None)


def test_an_answer_is_about_its_own_picture(make_engine: Make) -> None:
    engine = make_engine()
    (maps,) = engine.maps(HERE, "0,0")
    for act in (
        lambda: engine.read(maps, OTHER),
        lambda: engine.refine([engine.read(maps, HERE)], OTHER),
    ):
        with pytest.raises(errors.InputError, match=r"of \(120, 60\), this one is \(90, 30\)"):
            act()


def test_maps_of_nothing_and_of_broken_requests(make_engine: Make, adapter: Any) -> None:
    with make_engine() as engine:
        assert engine.maps_many([]) == ()
        assert adapter.batches == []
        for request, error in (
            (("lost.png", "0,0"), errors.PictureError),
            ((HERE, " "), errors.ExpressionError),
            ((HERE, "broken"), errors.TokenCountError),
        ):
            with pytest.raises(error):
                engine.maps_many([(HERE, "0,0"), request])
    assert adapter.closed == 1
    engine.close()
    assert adapter.closed == 1, "once"
    for ask in (engine.maps, engine.ground):
        with pytest.raises(errors.ModelError, match="closed"):
            ask(HERE, "0,0")


def test_reading_maps_needs_no_other_pass(make_engine: Make, adapter: Any) -> None:
    engine = make_engine()
    for picture, text in ((HERE, "1,4"), (OTHER, "5,5")):
        expected = engine.ground(picture, text)
        (maps,) = engine.maps_many([(picture, text)])
        passes = len(adapter.batches)
        found = engine.read(maps, picture, [Head(2, 1)])
        assert len(adapter.batches) == passes
        assert found.heads == expected.heads == (Head(2, 1),)
        for name in ("box", "point", "size", "score", "notes", "provenance"):
            assert getattr(found, name) == getattr(expected, name), name
        assert np.array_equal(found.soft_map.values, expected.soft_map.values)
        assert engine.read(maps, picture, [Head(3, 0)]).provenance["head_set"] == "given"
        with pytest.raises(errors.HeadsError, match="L9H9"):
            engine.read(maps, picture, [Head(9, 9)])


def test_reading_combines_all_maps_if_none_is_named(make_engine: Make) -> None:
    engine, heads = make_engine(sigma=0.0), (Head(2, 1), Head(3, 0))
    (maps,) = engine.maps_many([(HERE, "1,4")], heads)
    expected = maps.maps.values.sum(axis=0, dtype=np.float64)
    for asked, named in ((None, heads), (heads[::-1], heads[::-1])):
        answer = engine.read(maps, HERE, asked)
        assert answer.heads == named
        assert answer.soft_map.values == pytest.approx(expected, rel=1e-6)


def test_refining_is_what_the_postprocessors_make_of_a_pictures_answers(make_engine: Make) -> None:
    only = Renames("a")
    engine = make_engine([("only", only)])
    answers = [engine.read(maps, HERE) for maps in engine.maps(HERE, ["0,0", "1,1"])]
    assert only.seen == [], "reading alone refines nothing"
    better = engine.refine(answers, HERE)
    assert [answer.expression for answer in better] == ["0,0a", "1,1a"]
    assert engine.refine([], HERE) == ()
    assert only.seen == [["0,0", "1,1"]]
    assert make_engine().refine(answers, PICTURE) == tuple(answers)
