"""Results: instances and their views, found and not found, copies, and what is refused."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps, Instance
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head, HeadSet

SIZE = (8, 6)
MAP = SoftMap(np.arange(12, dtype=np.float32).reshape(3, 4), Affine((2.0, 2.0), (0.0, 0.0)))
HEADS = (Head(2, 1), Head(3, 0))
BOTH = MAP.with_values(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
HEAD_MAPS = HeadMaps("the cup", HEADS, BOTH, np.ones(2, np.float32), ("a note",))


def instance(score: float = 0.5, left: float = 1.0) -> Instance:
    mask = np.zeros((6, 8), bool)
    mask[2:4, int(left) : int(left) + 2] = True
    return Instance((left, 2.0, left + 2.0, 4.0), score, (left + 1.0, 3.0), mask)


def grounding(*instances: Instance, presence: float = 0.9, threshold: float = 0.0) -> Grounding:
    kept = {"timings": {"read": 0.25}, "provenance": {"model": "m"}, "heads": HEADS}
    return Grounding("the cup", SIZE, instances, MAP, presence, threshold, **kept)


def test_views_show_the_accepted_instances_best_first() -> None:
    answer = grounding(instance(0.8), instance(0.6, 4.0), instance(0.3, 5.0), threshold=0.5)
    assert answer.found
    assert answer.boxes.tolist() == [[1, 2, 3, 4], [4, 2, 6, 4]]
    assert answer.box == (1, 2, 3, 4)
    assert [mask.sum() for mask in answer.masks] == [4, 4]
    assert answer.mask is answer.instances[0].mask
    assert (answer.score, answer.point) == (0.8, (2.0, 3.0))
    assert len(answer.instances) == 3, "candidates are kept"
    assert len(replace(answer, threshold=0.2).accepted) == 3
    weak = grounding(instance(0.3), presence=0.9, threshold=0.5)
    assert (weak.found, weak.box) == (True, (1, 2, 3, 4)), "present: at least its best instance"


def test_short_forms_say_what_matters_and_show_no_arrays() -> None:
    several = grounding(instance(0.8), instance(0.6, 4.0))
    place = "box=(1.0, 2.0, 3.0, 4.0)"
    assert repr(several) == f"Grounding('the cup', {place}, score=0.800, instances: 2)"
    noted = replace(grounding(), notes=("a note",))
    assert repr(noted) == "Grounding('the cup', not found, score=0.000, notes: 1)"
    assert repr(instance()) == f"Instance({place}, score=0.500, mask of 4 pixels)"
    assert repr(HEAD_MAPS) == "HeadMaps('the cup', 2 heads, 3 x 4 cells)"
    assert repr(Picture(np.zeros((2, 3, 3), np.uint8), "a.png")) == "Picture(3 x 2, a.png)"
    many = HeadSet("mine", tuple(Head(2, head) for head in range(6)), "given")
    assert repr(many) == "HeadSet('mine': L2H0, L2H1, L2H2, L2H3, ... (6))"


@pytest.mark.parametrize(("instances", "presence"), [((instance(0.9),), 0.4), ((), 0.9), ((), 0.0)])
def test_nothing_found_has_empty_views(instances: tuple[Instance, ...], presence: float) -> None:
    answer = grounding(*instances, presence=presence, threshold=0.5)
    assert not answer.found
    assert (answer.box, answer.mask, answer.masks, answer.accepted) == (None, None, (), ())
    assert answer.boxes.shape == (0, 4)
    # A point there is nevertheless: of the best candidate, else of the map's highest cell.
    assert answer.point == ((2.0, 3.0) if instances else (7.0, 5.0))


def test_a_read_only_view_of_a_buffer_is_copied() -> None:
    buffer, seen = np.ones((6, 8, 3), np.uint8), np.ones((6, 8), bool)
    shown, mask = buffer[:], seen[:]
    for view in (shown, mask):
        view.setflags(write=False)
    picture, one = Picture(shown), replace(instance(), mask=mask)
    buffer[:] = seen[:] = 0
    assert picture.pixels.all()
    assert one.mask is not None
    assert one.mask.all()
    assert Picture(picture.pixels).pixels is picture.pixels


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_results_can_be_copied_and_stay_read_only(copied: Callable[[Any], Any]) -> None:
    answer = copied(grounding(instance()))
    assert answer.box == (1, 2, 3, 4)
    assert dict(answer.provenance) == {"model": "m"}
    assert answer.heads == HEADS
    maps = copied(HEAD_MAPS)
    picture = copied(Picture(np.zeros((6, 8, 3), np.uint8), "here", ("turned",)))
    assert (picture.source, picture.notes, maps.notes) == ("here", ("turned",), ("a note",))
    for array in (answer.mask, answer.soft_map.values, maps.maps.values, picture.pixels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError):
        answer.provenance["model"] = "other"
    with pytest.raises(FrozenInstanceError):
        answer.presence = 1.0
    assert copied(HeadSet("two", HEADS, "given", provenance={"n": 3})).provenance["n"] == 3


@pytest.mark.parametrize(
    ("make", "description"),
    [
        (lambda: replace(instance(), box=(3.0, 2.0, 1.0, 4.0)), "x0 < x1"),
        (lambda: instance(1.5), r"score must lie in \[0, 1\]"),
        (lambda: grounding(replace(instance(), mask=None)), "needs a mask of shape"),
        (lambda: grounding(replace(instance(), box=(1.0, 2.0, 9.0, 4.0))), "inside"),
        (lambda: grounding(replace(instance(), mask=np.ones((5, 8), bool))), "mask of"),
        (lambda: grounding(instance(0.2), instance(0.4)), "best first"),
        (lambda: grounding(instance(), presence=1.5), "presence must lie"),
    ],
)
def test_what_cannot_be_a_result_is_refused(make: Callable[[], object], description: str) -> None:
    with pytest.raises(InputError, match=description):
        make()


def test_maps_of_some_heads() -> None:
    assert HEAD_MAPS.of(HEADS) is HEAD_MAPS
    assert np.array_equal(HEAD_MAPS.of(HEADS[::-1]).maps.values, BOTH.values[::-1])
    with pytest.raises(HeadsError, match="no map of L9H9 was taken"):
        HEAD_MAPS.of([Head(9, 9)])


def test_pictures_are_the_same_by_content() -> None:
    one, other = (Picture(np.full((4, 5, 3), 7, np.uint8), name) for name in "ab")
    assert one.same_as(other)
    assert not one.same_as(replace(other, notes=("turned",)))
    assert not one.same_as(Picture(np.full((5, 4, 3), 7, np.uint8)))
    assert not one.same_as(Picture(np.full((4, 5, 3), 8, np.uint8)))
