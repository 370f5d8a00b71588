"""Heads that are planted in made maps must be found: the statistics as a whole, end to end.

32 layers x 32 heads over a 24 x 24 grid. A picture shows two objects, told by a sentence each; one
more set of maps stands for the neutral prompt. Of every map a tenth of the mass is noise over all
cells. The rest lies, by the kind of the head:

- `pointing`: a blob on the object that is told; every seventh time a second one elsewhere. Under
  the neutral prompt noise. S_img .3 to .6. These are to be found.
- `sink`: three to eight single cells that depend on the picture alone. S_img .5 to .9.
- `bottom`: four to ten single cells of the last row, which depend on the picture. S_img .4 to .8.
- `diffuse`: all over the picture, a little otherwise for each sentence. S_img .3 to .9.
- `dead`: one blob that never moves, but S_img below .01.
- `early`: like `pointing` and never distracted, S_img .4 to .8, but in layers 0 and 1.
- the rest: noise that is new for each sentence, S_img mostly below .05.

Kinds that single tests add, to show what a criterion can and cannot tell:

- `stuck`: one blob that never moves, S_img .95. `strip`: the whole last row, S_img .95.
- `slope`: more and more from the top to the bottom of the picture, S_img .95.
- `haze`: even noise over all cells that depends on the picture, S_img .95.
- `restless`: one blob at a new random place for each sentence and prompt, S_img .95.
- `twin`: two single cells, always the same, S_img .95.
- `whisper`: like `early`, but in any layer, and with S_img below .01.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.evaluation.draws import draw
from vg_engine.core.geometry import Affine, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.selection import rules
from vg_engine.core.selection.head_statistics import measure_heads
from vg_engine.core.selection.ranking import DrawnStatistics, Selection, select

PER_LAYER = 32
GRID = 24
CELL = 14.0
FRAME = Affine((CELL, CELL), (0.0, 0.0))
HEADS = tuple(Head(layer, head) for layer in range(32) for head in range(PER_LAYER))
NOISE = 0.1

# Kind: how many, and the range of S_img.
DECOYS: dict[str, tuple[int, float, float]] = {
    "sink": (24, 0.5, 0.9),
    "bottom": (16, 0.4, 0.8),
    "diffuse": (80, 0.3, 0.9),
    "dead": (60, 0.001, 0.01),
    "early": (10, 0.4, 0.8),
}
POINTING, LOUD, WHISPER = (0.3, 0.6), (0.95, 0.95), (0.001, 0.01)

Place = tuple[float, float, float]  # row and column of a centre, and half the object's side


@dataclass(frozen=True, eq=False)
class Model:
    """Which head is of which kind, and how much it looks at a picture."""

    kinds: dict[str, list[int]]
    attention: np.ndarray

    def heads(self, *kinds: str) -> set[Head]:
        return {HEADS[i] for kind in kinds for i in self.kinds[kind]}


def plant(seed: int, **more: tuple[int, float, float]) -> Model:
    """A model with the decoys and whatever else is asked for."""
    rng = np.random.default_rng(seed)
    attention = 0.2 * rng.random(len(HEADS)) ** 4
    early = list(rng.permutation(2 * PER_LAYER))
    deep = list(2 * PER_LAYER + rng.permutation(len(HEADS) - 2 * PER_LAYER))
    kinds: dict[str, list[int]] = defaultdict(list)
    for kind, (number, low, high) in {**DECOYS, **more}.items():
        pool = early if kind == "early" else deep
        kinds[kind] = [int(pool.pop()) for _ in range(number)]
        attention[kinds[kind]] = rng.uniform(low, high, number)
    return Model(kinds, attention)


def blob(row: float, col: float, half: float) -> np.ndarray:
    """A round hill about as wide as the object, its sum 1."""
    lines, columns = np.ogrid[:GRID, :GRID]
    away = (lines + 0.5 - row) ** 2 + (columns + 0.5 - col) ** 2
    hill = np.exp(-away / (2 * (half / 2) ** 2))
    return hill / hill.sum()


def anywhere(rng: np.random.Generator) -> Place:
    half = float(rng.uniform(2, 4))
    row, col = rng.uniform(half, GRID - half, 2)
    return float(row), float(col), half


def cells(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Equal mass on single cells."""
    spread = np.zeros((GRID, GRID))
    spread[rows, cols] = 1.0
    return spread / spread.sum()


def scattered(rng: np.random.Generator) -> np.ndarray:
    """Three to eight cells, of which no two touch."""
    chosen = rng.choice(64, int(rng.integers(3, 9)), replace=False)
    return cells(3 * (chosen // 8) + 1, 3 * (chosen % 8) + 1)


def along_the_bottom(rng: np.random.Generator) -> np.ndarray:
    """Four to ten cells of the last row, of which no two touch."""
    chosen = rng.choice(GRID // 2, int(rng.integers(4, 11)), replace=False)
    return cells(np.full(len(chosen), GRID - 1), 2 * chosen)


def noise(rng: np.random.Generator, *shape: int, power: int) -> np.ndarray:
    values = rng.random((*shape, GRID, GRID), dtype=np.float32) ** power
    return np.asarray(values / values.sum(axis=(-2, -1), keepdims=True))


def maps_of(
    model: Model, rng: np.random.Generator, picture: dict[int, np.ndarray], told: Place | None
) -> HeadMaps:
    """What all heads look at when a sentence tells the object at `told`; None = nothing is told."""
    kinds = model.kinds
    shape = noise(rng, len(HEADS), power=4)
    for i in (*kinds["pointing"], *kinds["early"], *kinds["whisper"]):
        if told is not None:
            shape[i] = blob(*told)
            if i in kinds["pointing"] and rng.random() < 1 / 7:
                shape[i] = (shape[i] + blob(*anywhere(rng))) / 2
    for i, pattern in picture.items():
        shape[i] = 0.9 * pattern + 0.1 * shape[i] if i in kinds["diffuse"] else pattern
    for i in kinds["restless"]:
        shape[i] = blob(*anywhere(rng))
    shape = (1 - NOISE) * shape + NOISE * noise(rng, len(HEADS), power=1)
    attention = np.clip(model.attention * rng.uniform(0.9, 1.1, len(HEADS)), 0, 1)
    values = (shape * attention[:, None, None]).astype(np.float32)
    return HeadMaps("a thing", HEADS, SoftMap(values, FRAME), values.sum(axis=(1, 2)))


def patterns(
    model: Model, rng: np.random.Generator, fixed: np.random.Generator
) -> dict[int, np.ndarray]:
    """What does not depend on the words: of this picture, or (`fixed`) of every picture."""
    slope = np.arange(GRID)
    made = {
        "sink": lambda: scattered(rng),
        "bottom": lambda: along_the_bottom(rng),
        "diffuse": lambda: noise(rng, power=4),
        "dead": lambda: blob(*anywhere(fixed)),
        "stuck": lambda: blob(*anywhere(fixed)),
        "strip": lambda: cells(np.full(GRID, GRID - 1), np.arange(GRID)),
        "slope": lambda: np.repeat(slope / slope.sum(), GRID).reshape(GRID, GRID) / GRID,
        "haze": lambda: noise(rng, power=1),
        "twin": lambda: cells(np.array([2, 20]), np.array([3, 17])),
    }
    return {i: make() for kind, make in made.items() for i in model.kinds[kind]}


def two_objects(rng: np.random.Generator) -> tuple[Place, Place]:
    """Far enough from each other that their boxes do not touch."""
    while True:
        one, other = anywhere(rng), anywhere(rng)
        if max(abs(one[0] - other[0]), abs(one[1] - other[1])) > one[2] + other[2] + 1:
            return one, other


def box_of(place: Place) -> np.ndarray:
    row, col, half = place
    return np.array([[col - half, row - half, col + half, row + half]]) * CELL


def look(
    seed: int,
    pictures: int = 6,
    *,
    everything: bool = False,
    pointing: int,
    **more: tuple[int, float, float],
) -> tuple[Model, DrawnStatistics]:
    """Plant and observe; with `everything`, also what the rules beside `paper` need."""
    model = plant(seed, pointing=(pointing, *POINTING), **more)
    rng = np.random.default_rng([seed, 1])
    observed = []
    for _ in range(pictures):
        places = two_objects(rng)
        picture = patterns(model, rng, np.random.default_rng([seed, 2]))
        maps = [maps_of(model, rng, picture, told) for told in places]
        options: dict[str, Any] = {}
        if everything:
            options = {"boxes": [box_of(place) for place in places], "partners": [1, 0]}
            options["neutral"] = maps_of(model, rng, picture, None)
        observed.append(measure_heads(maps, **options))
    names = [str(i // 2) for i in range(2 * pictures)]
    drawn = draw(names, size=2 * pictures, draws=3, seed=seed)
    at = dict(zip(drawn.index.tolist(), drawn.weights, strict=True))
    weights = np.array([at.get(i, np.zeros(3)) for i in range(len(names))])
    return model, DrawnStatistics.of(observed, weights)


def found_by(rule: Any, seen: DrawnStatistics, k: int) -> Selection:
    return select(rule, seen, name="any", k=k)


RULES = {
    "paper": rules.Paper(),
    "paper+sensitivity": rules.PaperSensitivity(),
    "contrastive": rules.Contrastive(),
    "supervised": rules.Supervised(),
    "sensitivity": rules.Sensitivity(),
    "consensus": rules.Consensus(),
}


@pytest.mark.parametrize(("seed", "number"), [(0, 3), (1, 5), (2, 7), (3, 10), (4, 3)])
def test_the_papers_criteria_find_the_heads_that_point(seed: int, number: int) -> None:
    model, seen = look(seed, 10, pointing=number)
    found = found_by(rules.Paper(), seen, number)
    assert set(found.heads) == model.heads("pointing")
    # Each kind fell to the criterion that is meant for it.
    ranked = set(found.ranked)
    assert model.heads("pointing", "sink", "bottom", "diffuse") <= ranked
    assert not ranked & model.heads("dead"), "they do not reach the elbow"
    assert not ranked & model.heads("early"), "they are never candidates"
    assert 0.01 < found.threshold < 0.3
    assert not found.notes
    # The three that the paper would fix are among them, and in every draw alone, too.
    for top in (found_by(rules.Paper(), seen, 3).heads, *found.tops):
        assert set(top) <= model.heads("pointing")


def test_one_criterion_alone_finds_others() -> None:
    model, seen = look(5, pointing=5)
    much = set(found_by(rules.AttentionOnly(), seen, 5).heads)
    assert not much & model.heads("pointing")
    assert much <= model.heads("sink", "bottom", "diffuse")
    compact = found_by(rules.EntropyOnly(), seen, 5)
    assert model.heads("dead") & set(compact.heads)
    shallow = found_by(rules.Paper(skipped_layers=0), seen, 10)
    assert model.heads("early") & set(shallow.heads)


@pytest.mark.parametrize(
    ("seed", "number", "more", "fooled"),
    [
        (6, 6, {}, None),
        # It looks much at one place, small or large: S_img and entropy tell it from no other.
        (7, 5, {"stuck": (2, *LOUD)}, "paper"),
        (7, 5, {"strip": (2, *LOUD)}, "paper"),
        (7, 5, {"slope": (2, *LOUD)}, "paper"),
        # The share inside says where a head looks, not how much.
        (10, 5, {"whisper": (5, *WHISPER)}, "supervised"),
    ],
)
def test_every_rule_but_one_finds_the_heads_that_point(
    seed: int, number: int, more: dict[str, tuple[int, float, float]], fooled: str | None
) -> None:
    model, seen = look(seed, everything=True, pointing=number, **more)
    for name, rule in RULES.items():
        wanted = model.heads(*more) if name == fooled else model.heads("pointing")
        assert set(found_by(rule, seen, len(wanted)).heads) == wanted, name
    if fooled:
        both = model.heads(*more, "pointing")
        assert set(found_by(RULES[fooled], seen, len(both)).heads) == both, "and those next"


def test_even_noise_hangs_together_and_gets_votes() -> None:
    """Of even noise half the cells lie above the mean, enough to touch: one large component.

    Its entropy lies below that of a few cells far apart. It never is 0, so that a head that points
    goes first, but where that head sees two places, the haze has the vote.
    """
    model, seen = look(12, pointing=3, haze=(20, *LOUD))
    found = found_by(rules.Paper(), seen, 3)
    assert set(found.heads) == model.heads("pointing")
    votes = dict(zip(found.ranked, found.frequency, strict=True))
    assert sum(votes[head] for head in model.heads("haze")) > 6, "nearly all that are left"
    assert sum(votes[head] for head in model.heads("sink", "bottom", "diffuse")) < 1


def test_only_other_heads_and_boxes_tell_a_place_that_moves_at_random() -> None:
    """It follows no words, but it changes with them, and with the neutral prompt, too."""
    model, seen = look(8, 8, everything=True, pointing=5, restless=(1, *LOUD))
    (restless,) = model.heads("restless")
    for name, rule in RULES.items():
        found = found_by(rule, seen, None)
        score = dict(zip(found.ranked, found.scores, strict=True))
        least = min(score[head] for head in model.heads("pointing"))
        if name in ("consensus", "supervised"):
            assert score[restless] < 0.5 * least, name
            assert set(found.heads[:5]) == model.heads("pointing")
        else:
            assert score[restless] > 0.9 * least, name
    assert found_by(rules.Paper(), seen, 5).heads[0] == restless


def test_where_fewer_heads_point_than_a_sample_votes_for_the_steady_next_ones_win() -> None:
    """A sample has ten votes. With three heads that point, seven go to the next lowest entropies.

    Where these are the same each time, their frequency is 1, too, and the larger S_img decides.
    """
    model, seen = look(9, pointing=3, twin=(4, *LOUD))
    full = found_by(rules.Paper(), seen, 7)
    assert full.frequency[:7] == pytest.approx(np.ones(7)), "ties, all of them"
    assert set(full.heads[:3]) <= model.heads("twin")
    few = found_by(rules.Paper(per_sample=3), seen, 3)
    assert set(few.heads) == model.heads("pointing")


def test_where_more_heads_point_than_a_sample_votes_for_the_louder_ones_win() -> None:
    """They tie at an entropy of 0, and the larger S_img of the sample gets the vote."""
    model, seen = look(11, pointing=30)
    found = found_by(rules.Paper(), seen, 10)
    assert set(found.heads) <= model.heads("pointing")
    loud = {head: model.attention[HEADS.index(head)] for head in model.heads("pointing")}
    middle = float(np.median(list(loud.values())))
    assert all(loud[head] > middle for head in found.heads)
    votes = dict(zip(found.ranked, found.frequency, strict=True))
    assert votes[min(loud, key=loud.__getitem__)] < 0.1
