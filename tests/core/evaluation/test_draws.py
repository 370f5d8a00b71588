"""Draws, units and batches: properties that hold for any list of samples."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.draws import Unit, batches, draw, units
from vg_engine.core.evaluation.samples import Sample

PLAIN = settings(derandomize=True, deadline=None, max_examples=100, database=None)

pictures = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40)


@PLAIN
@given(pictures, st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_what_is_drawn(names: list[str], size: int, number: int, seed: int) -> None:
    drawn = draw(names, size=size, draws=number, seed=seed)
    again = draw(names, size=size, draws=number, seed=seed)
    assert again.index.tolist() == drawn.index.tolist()
    assert again.weights.tolist() == drawn.weights.tolist()
    assert drawn.weights.shape == (len(drawn.index), number)
    assert drawn.index.tolist() == sorted(set(drawn.index.tolist()))
    assert set(drawn.index.tolist()) <= set(range(len(names)))
    assert drawn.weights.any(axis=1).all(), "only samples that stand in a draw are looked at"
    assert drawn.resampled == (len(names) <= size and number > 1)
    if len(names) > size:
        assert set(drawn.weights.ravel().tolist()) <= {0.0, 1.0}, "none twice in a draw"
        assert drawn.weights.sum(axis=0).tolist() == [size] * number
    elif number == 1:
        assert drawn.index.tolist() == list(range(len(names)))
        assert (drawn.weights == 1).all()
    else:
        full = np.zeros((len(names), number))
        full[drawn.index] = drawn.weights
        for column in full.T:
            times = [{w for w, n in zip(column, names, strict=True) if n == p} for p in set(names)]
            assert all(len(weights) == 1 for weights in times), "pictures stay whole"
            assert sum(map(min, times)) == len(times)


def test_draws_differ_from_each_other_and_between_seeds() -> None:
    names = [str(i) for i in range(500)]
    first, second = (draw(names, size=50, draws=3, seed=seed) for seed in (0, 1))
    assert first.weights.tolist() != second.weights.tolist()
    assert len({tuple(column) for column in first.weights.T.tolist()}) == 3
    resampled = draw(names, size=500, draws=3, seed=0)
    assert len({tuple(column) for column in resampled.weights.T.tolist()}) == 3
    assert resampled.weights.max() > 1


@pytest.mark.parametrize("size", [8, 20])
def test_every_sample_is_as_likely_as_any_other(size: int) -> None:
    names = [str(i) for i in range(20)]
    drawn = draw(names, size=size, draws=4000, seed=0)
    assert drawn.weights.mean(axis=1) == pytest.approx(np.full(20, min(size, 20) / 20), abs=0.06)


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(InputError, match="no sample"):
        draw([], size=5, draws=1)
    for size, number in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(InputError, match="at least 1"):
            draw(["a"], size=size, draws=number)


def box(number: int | None) -> np.ndarray | None:
    return None if number is None else np.array([[0.0, 0.0, 1.0, 1.0 + number]])


@st.composite
def data_sets(draw_: st.DrawFn) -> tuple[list[Sample], list[int]]:
    """Samples whose meaning is told by a target, by boxes or by their text, and some of them."""
    few = st.one_of(st.none(), st.integers(0, 2))
    row = st.tuples(st.sampled_from("pqr"), few, few, st.sampled_from("abc"))
    kind = draw_(st.sampled_from(["targets", "boxes", "texts", "all"]))
    samples = [
        Sample(
            str(i),
            picture,
            None,
            text,
            boxes=box(boxes if kind == "all" else int(boxes or 0) if kind == "boxes" else None),
            target=None if target is None or kind in ("boxes", "texts") else f"t{target}",
        )
        for i, (picture, target, boxes, text) in enumerate(
            draw_(st.lists(row, min_size=1, max_size=30))
        )
    ]
    return samples, [i for i in range(len(samples)) if draw_(st.booleans())]


def alike(one: Sample, other: Sample) -> bool:
    """By target where both have one, else by boxes where both have them, else by text."""
    if one.target is not None and other.target is not None:
        return one.target == other.target
    if one.boxes is not None and other.boxes is not None:
        return bool(one.boxes.tolist() == other.boxes.tolist())
    return one.text == other.text


@PLAIN
@given(data_sets(), st.integers(1, 6), st.booleans())
def test_units_measure_every_chosen_sample_once(
    data: tuple[list[Sample], list[int]], most: int, pairs: bool
) -> None:
    samples, chosen = data
    made = units(samples, chosen, most=most, pairs=pairs)
    assert made == units(list(samples), tuple(chosen), most=most, pairs=pairs)
    assert pairs or made == units(samples, chosen, most=most)
    assert sorted(place for unit in made for place in unit.samples[: unit.counted]) == chosen
    about = [{samples[place].picture for place in unit.samples} for unit in made]
    assert all(len(names) == 1 for names in about)
    firsts = list(dict.fromkeys(samples[place].picture for place in chosen))
    assert about == sorted(about, key=lambda names: firsts.index(*names))
    for unit in made:
        assert len(set(unit.samples)) == len(unit.samples)
        assert 1 <= unit.counted <= len(unit.samples)
        assert len(unit.samples) <= (max(most, 2) if pairs else most)
        assert len(unit.partners) == unit.counted
        assert list(unit.samples[: unit.counted]) == sorted(unit.samples[: unit.counted])
        assert pairs or unit.counted == len(unit.samples), "only chosen samples are looked at"


@PLAIN
@given(data_sets(), st.integers(1, 6))
def test_partners_are_about_something_else(data: tuple[list[Sample], list[int]], most: int) -> None:
    samples, chosen = data
    for unit in units(samples, chosen, most=most, pairs=True):
        measured = [samples[place] for place in unit.samples[: unit.counted]]
        # Nobody is looked at in vain, and nobody from outside where one of the unit would do.
        companions = set(range(unit.counted, len(unit.samples)))
        assert companions <= set(unit.partners)
        for sample, partner in zip(measured, unit.partners, strict=True):
            if partner is None:
                every = [other for other in samples if other.picture == sample.picture]
                assert all(alike(sample, other) for other in every)
            else:
                assert not alike(sample, samples[unit.samples[partner]])
            if partner in companions:
                assert all(alike(sample, other) for other in measured)


@pytest.mark.parametrize(
    ("targets", "chosen", "most", "expected"),
    [
        ("abc", [0, 1, 2], 3, [Unit((0, 1, 2), 3, (1, 2, 0))]),  # compared round about
        ("aaba", [0, 1, 3], 4, [Unit((0, 1, 3, 2), 3, (3, 3, 3))]),  # they share a companion
        ("aaba", [0, 1, 3], 3, [Unit((0, 1, 2), 2, (2, 2)), Unit((3, 2), 1, (1,))]),
        ("abcd", range(4), 4, [Unit((0, 1, 2, 3), 4, (1, 2, 3, 0))]),  # no room for a companion
        ("aa", [0, 1], 9, [Unit((0, 1), 2, (None, None))]),  # about one thing alone
    ],
)
def test_units_with_partners(
    targets: str, chosen: Sequence[int], most: int, expected: list[Unit]
) -> None:
    samples = [Sample(str(i), "p", None, f"text {i}", target=t) for i, t in enumerate(targets)]
    assert list(units(samples, chosen, most=most, pairs=True)) == expected


@PLAIN
@given(st.lists(st.integers(1, 7), max_size=30), st.integers(1, 8))
def test_batches_hold_every_unit_once_and_in_order(sizes: list[int], most: int) -> None:
    made = [Unit(tuple(range(size)), size, (None,) * size) for size in sizes]
    grouped = batches(made, most)
    assert grouped == batches(tuple(made), most)
    assert [unit for batch in grouped for unit in batch] == made
    held = [sum(len(unit.samples) for unit in batch) for batch in grouped]
    assert all(n <= most or len(batch) == 1 for batch, n in zip(grouped, held, strict=True))
    for number, after in zip(held, grouped[1:], strict=False):
        assert number + len(after[0].samples) > most, "no batch ends early"
