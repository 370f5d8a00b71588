"""The scheduler through the engine: what is one picture, what is one pass, what fails with whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding
from vg_engine.core.contract.scene import PostprocessContext, Scene
from vg_engine.core.errors import ExpressionError, InputError, PluginError, VGError

PICTURE = np.zeros((60, 120, 3), np.uint8)
Heard = Callable[..., Any]  # makes an engine, and the adapter that hears of its passes


def frames() -> list[np.ndarray]:
    return [np.full_like(PICTURE, shade) for shade in (10, 20, 30)]


def test_a_buffer_that_is_filled_anew_is_another_picture(heard: Heard) -> None:
    buffer = np.zeros_like(PICTURE)

    def camera() -> Iterator[tuple[np.ndarray, str]]:
        for frame in frames():
            buffer[:] = frame
            yield buffer, "1,1"

    engine, adapter = heard()
    assert len(list(engine.ground_many(camera()))) == 3
    assert adapter.passes == [([10, 20, 30], ["1,1"] * 3)], "three pictures of one pass"


def test_pixels_decide_what_is_one_picture(heard: Heard) -> None:
    engine, adapter = heard()
    noted = Picture(PICTURE, notes=("turned",))
    requests = [PICTURE, PICTURE.copy(), Picture(PICTURE), noted, noted, PICTURE[:, :60], PICTURE]
    list(engine.ground_many((picture, "1,1") for picture in requests))
    assert [len(shown) for shown, _ in adapter.passes] == [4], "1 1 1, 2 2, 3, and the first anew"


def test_an_open_scene_is_the_same_as_itself_alone(heard: Heard) -> None:
    engine, adapter = heard()
    with engine.open(PICTURE) as one, engine.open(PICTURE) as other:
        list(engine.ground_many((s, "1,1") for s in (one, one, other, PICTURE)))
        assert [len(shown) for shown, _ in adapter.passes] == [3]
        assert adapter.kept == [], "the adapter does not say that it keeps pictures"
        assert engine.read(one.maps("1,1")[0], one).size == (120, 60)


def test_a_scene_of_another_engine_is_refused(heard: Heard) -> None:
    (engine, _), (other, _) = heard(), heard()
    with engine.open(PICTURE) as scene:
        with pytest.raises(InputError, match="opened by another engine; open the picture with"):
            other.ground(scene, "1,1")
        found = list(other.ground_many([(scene, "1,1"), (PICTURE, "2,2")], errors="yield"))
        assert [type(one) for one in found] == [InputError, Grounding]
        # A variant shares the model, and so the scene.
        assert engine.variant(sigma=0.0).ground(scene, "1,1").found


def test_no_pass_has_more_tokens_than_allowed(heard: Heard) -> None:
    texts = ["1,1", "2,2", "3,3" + " " + "x" * 20, "4,4", "5,5", "0,0"]
    expected = [g.point for g in heard()[0].ground_all(PICTURE, texts)]
    # Ten tokens and two a letter, as wide as the longest of the pass.
    for most, passes in (
        (None, [6 * 58]),
        (120, [16, 2 * 58, 3 * 16]),
        (58, [16, 16, 58, 3 * 16]),
        (40, [16, 16, 58, 16, 2 * 16]),
        (1, [16, 16, 58, 16, 16, 16]),  # one alone, however long, is asked
    ):
        engine, adapter = heard(max_tokens=most)
        answers = engine.ground_all(PICTURE, texts)
        assert [answer.point for answer in answers] == expected
        assert [answer.expression for answer in answers] == texts
        assert adapter.tokens == passes


@pytest.mark.parametrize("bad", range(8))
def test_one_bad_expression_of_eight_costs_itself_alone(heard: Heard, bad: int) -> None:
    texts = [f"{i % 6},1" for i in range(8)]
    texts[bad] = "bad"
    engine, adapter = heard()
    found = list(engine.ground_many(((PICTURE, text) for text in texts), errors="yield"))
    description = ["bad" if isinstance(one, ExpressionError) else one.expression for one in found]
    assert description == texts
    assert len(adapter.passes) == 7, "8, 4 and 4, 2 and 2, 1 and 1"
    assert len(adapter.tokens) == 3, "passes that went well: of 4, 2 and 1"


def test_a_pass_too_big_for_the_memory_is_halved(heard: Heard) -> None:
    engine, adapter = heard(room=3)
    texts = [f"{i % 6},2" for i in range(8)]
    assert [one.expression for one in engine.ground_all(PICTURE, texts)] == texts
    assert [len(shown) for _, shown in adapter.passes] == [8, 4, 2, 2, 4, 2, 2]
    found = list(engine.ground_many([(PICTURE, "1,1"), (PICTURE, "big 2,2")], errors="yield"))
    assert [type(one) for one in found] == [Grounding, InputError]
    for ask in (engine.token_maps, engine.generate, engine.maps, engine.ground):
        with pytest.raises(InputError, match="out of memory, even alone; use a smaller picture"):
            ask(PICTURE, "big 1,1")


def test_token_maps_say_which_words_are_not_known(heard: Heard) -> None:
    engine, _ = heard()
    (whole,) = engine.maps(PICTURE, "1,1?")
    apart = engine.token_maps(PICTURE, "1,1?", prompt=Prompt(query_row="expression_all"))
    assert [one.notes for one in apart] == [whole.notes] * 2
    assert any("does not know: word" in note for note in whole.notes)


def test_a_stream_is_read_no_further_than_its_batch(heard: Heard) -> None:
    engine, adapter = heard(keeps=True, batch_size=4)
    read = []

    def requests() -> Iterator[tuple[np.ndarray, str]]:
        for i in range(100):
            read.append(i)
            yield frames()[i // 3 % 3], "1,1"

    stream = engine.ground_many(requests())
    assert (read, adapter.passes) == ([], [])
    next(stream)
    assert read == list(range(4))
    assert len(adapter.passes) == 1, "the picture of the fourth is not asked about yet"
    for _ in range(4):
        next(stream)
    assert read == list(range(8))


def test_a_picture_with_several_expressions_is_kept_while_it_lasts(heard: Heard) -> None:
    engine, adapter = heard(keeps=True, batch_size=4)
    one, other, third = frames()
    pairs = [(one, "1,1"), (one, "2,2"), (other, "3,3"), *[(third, "4,4")] * 4]
    assert len(list(engine.ground_many(pairs))) == 7
    # The second has one expression, and so has the third in the first batch.
    assert [shown for shown, _ in adapter.passes] == [[10], [20, 30], [30]]
    assert (adapter.kept, adapter.released) == ([(10, 3), (30, 3)], [10, 30])
    # A bad expression among good ones does not make the picture be encoded again.
    found = list(engine.ground_many([(one, "1,1"), (one, "bad"), (one, "2,2")], errors="yield"))
    assert [isinstance(each, VGError) for each in found] == [False, True, False]
    assert len(adapter.kept) == 3
    with engine.open(other) as scene:
        scene.ground("1,1")
        scene.ground("2,2")
        scene.maps("2,2", prompt=Prompt(query_row="expression_all"))
        assert scene.nbytes == 100
        assert len(adapter.kept) == len(adapter.released) + 1
        scene.maps("2,2", prompt=Prompt(template="no {expression}"))
        assert scene.nbytes == 200
    assert len(adapter.kept) == len(adapter.released) == 6


class Stores:
    """Keeps something per picture, as one with a segmentation model would."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.seen: list[list[str]] = []
        self.contexts: list[PostprocessContext] = []
        self.closed = 0

    def vg_postprocess(
        self, groundings: Sequence[Grounding], scene: Scene, context: PostprocessContext
    ) -> list[Grounding]:
        if "stores" not in scene.store:
            self.made.append(int(scene.picture.pixels[0, 0, 0]))
            scene.store["stores"] = len(self.made)
        self.seen.append([each.expression for each in groundings])
        self.contexts.append(context)
        number = scene.store["stores"]
        return [replace(each, notes=(*each.notes, f"store {number}")) for each in groundings]

    def close(self) -> None:
        self.closed += 1


def test_what_is_stored_of_a_picture_lasts_as_long_as_it_is_open(heard: Heard) -> None:
    stores = Stores()
    engine, _ = heard(("stores", stores), keeps=True)
    one, other, _ = frames()
    with engine.open(one) as scene:
        answers = (scene.ground("1,1"), *scene.ground_all(["2,2", "3,3"]))
        better = engine.refine(answers[:1], scene)
    assert stores.made == [10], "once for two questions and what is refined later"
    assert {note for each in answers for note in each.notes} == {"store 1"}
    assert better[0].notes.count("store 1") == 2
    with engine.open(one) as scene:
        scene.ground("1,1")
    assert stores.made == [10, 10], "not beyond its closing"
    # A stream folds once per picture, over batches and around what fails.
    stores.seen.clear()
    pairs = [(one, "1,1"), (one, "bad"), (one, "2,2"), (other, "3,3"), (other, " ")]
    small = engine.variant(batch_size=2)
    assert len(list(small.ground_many(pairs, errors="yield"))) == 5
    assert stores.seen == [["1,1", "2,2"], ["3,3"]]
    assert stores.made[2:] == [10, 20]


def test_a_context_and_an_end_for_each_post_processor(heard: Heard) -> None:
    class Silent:
        def vg_postprocess(self) -> None:
            """Leave the answers as they are."""

    stores = Stores()
    engine, _ = heard(("stores", stores), ("silent", Silent()))
    engine.variant(k=2).close()
    assert stores.closed == 0
    answer = engine.ground(PICTURE, "1,1")
    (context,) = stores.contexts
    assert context.device == torch.device("cpu")
    assert dict(context.provenance) == dict(answer.provenance)
    assert context.provenance["postprocess"] == ["stores", "silent"]
    engine.close()
    engine.close()
    assert stores.closed == 1


def test_a_post_processor_that_fails_costs_its_pictures_answers_alone(heard: Heard) -> None:
    class Fails:
        def vg_postprocess(self, groundings: Sequence[Grounding], scene: Scene) -> None:
            if scene.picture.pixels[0, 0, 0] == 10:
                raise PluginError("plugin 'fails': no mask for this picture")

    one, other, _ = frames()
    engine, _ = heard(("fails", Fails()))
    pairs = [(one, "1,1"), (one, " "), (one, "2,2"), (other, "3,3")]
    found = list(engine.ground_many(pairs, errors="yield"))
    kinds = [PluginError, ExpressionError, PluginError, Grounding]
    assert [type(each) for each in found] == kinds
    with pytest.raises(PluginError, match="no mask for this picture"):
        engine.ground(one, "1,1")


def test_threads_share_an_open_scene(heard: Heard) -> None:
    engine, adapter = heard(keeps=True)
    expected = [engine.ground(PICTURE, f"{i % 6},3").point for i in range(10)]
    found: list[list[Any]] = []
    with engine.open(PICTURE) as scene:

        def work() -> None:
            found.append([scene.ground(f"{i % 6},3").point for i in range(10)])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 4
        assert len(adapter.kept) == 1
    assert len(adapter.released) == 1
