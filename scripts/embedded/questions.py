"""Questions about a scene, and about text alone, with their answers in words.

Nothing finer than words is ever told: a colour, a shape, a size, a number, yes or no,
or one of the nine positions (row and column word).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vocabulary import COLUMNS, FILLERS, NAMES, NUMBERS, ROWS

from vg_engine.plugins.datasets.scene_drawing import COLOURS, SHAPES
from vg_engine.plugins.datasets.scenes import (
    SIZES,
    Expression,
    Kind,
    Placed,
    expressions,
    named,
    phrase,
)

# How often an expression of each kind is asked about: shapes are hard on patches of eight pixels.
KIND_WEIGHTS: dict[Kind, float] = {
    "colour": 0.10,
    "shape": 0.24,
    "size+colour": 0.16,
    "colour+shape": 0.26,
    "size+shape": 0.24,
}
_PARTS = ("size", "colour", "shape")


@dataclass(frozen=True)
class Question:
    """A user's words and the answer to be learnt; `task` names it in the log."""

    task: str
    text: str
    answer: str


def position_words(thing: Placed, side: int) -> str:
    """The row and the column of the object's centre, in thirds of the picture."""
    row = int(3 * (thing.top + thing.side / 2) / side)
    column = int(3 * (thing.left + thing.side / 2) / side)
    return f"{ROWS[min(row, 2)]} {COLUMNS[min(column, 2)]}"


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


class SceneQuestions:
    """Draws questions about one layout of objects."""

    def __init__(
        self, objects: Sequence[Placed], side: int, kinds: Sequence[Kind], rng: np.random.Generator
    ):
        self.objects, self.side, self.kinds, self.rng = objects, side, kinds, rng
        self.expressions = [e for e in expressions(objects) if e.kind in kinds]
        weights = np.array([self._weight(e) for e in self.expressions])
        self._odds = weights / weights.sum() if len(weights) else weights
        self.places = [position_words(thing, side) for thing in objects]

    def _weight(self, expression: Expression) -> float:
        """Phrases that need each of their words count double; kinds keep their shares."""
        kind, target = expression.kind, self.objects[expression.target]
        same = sum(e.kind == kind for e in self.expressions)
        parts = kind.split("+")
        needed = len(parts) == 1 or all(
            sum(getattr(o, part) == getattr(target, part) for o in self.objects) > 1
            for part in parts
        )
        return KIND_WEIGHTS[kind] / same * (2.0 if needed else 1.0)

    def expression(self) -> Expression | None:
        """One phrase that fits one object, or None where the scene allows none."""
        if not self.expressions:
            return None
        return self.expressions[int(self.rng.choice(len(self.expressions), p=self._odds))]

    def draw(self) -> Question | None:
        """One question; None when the drawn task does not fit this scene."""
        roll = self.rng.random()
        if roll < 0.70:
            expression = self.expression()
            return self._about(expression) if expression else None
        if roll < 0.82:
            return self._at_place()
        if roll < 0.94:
            return self._is_there()
        return self._how_many()

    def _about(self, expression: Expression) -> Question | None:
        thing, text = self.objects[expression.target], expression.text
        place = self.places[expression.target]
        silent = [p for p in _PARTS if p not in expression.kind.split("+")]
        roll = self.rng.random()
        if roll < 0.55:
            rest = " ".join(getattr(thing, part) for part in silent)
            return Question(f"bare:{expression.kind}", f"{text}.", f"{place} {rest}")
        if roll < 0.75:
            return Question(f"where:{expression.kind}", f"where is {text}.", place)
        part = "shape" if "shape" in silent and self.rng.random() < 0.6 else _pick(self.rng, silent)
        return Question(f"what {part}", f"what {part} is {text}.", getattr(thing, part))

    def _at_place(self) -> Question | None:
        free = [i for i, place in enumerate(self.places) if self.places.count(place) == 1]
        if not free:
            return None
        index = free[int(self.rng.integers(len(free)))]
        thing, place = self.objects[index], self.places[index]
        if self.rng.random() < 0.4:
            return Question("shape at", f"what shape is at the {place}.", thing.shape)
        return Question(
            "what at", f"what is at the {place}.", f"{thing.size} {thing.colour} {thing.shape}"
        )

    def _is_there(self) -> Question:
        """Half of the answers are no: one word then differs from a thing that is present."""
        kind = self.kinds[int(self.rng.integers(len(self.kinds)))]
        thing = self.objects[int(self.rng.integers(len(self.objects)))]
        values = {"colour": thing.colour, "shape": thing.shape, "size": thing.size}
        if self.rng.random() < 0.5:
            part = _pick(self.rng, kind.split("+"))
            values[part] = _pick(
                self.rng, {"colour": COLOURS, "shape": SHAPES, "size": SIZES}[part]
            )
        asked = tuple(values[part] for part in kind.split("+"))
        found = any(named(kind, other) == asked for other in self.objects)
        words = phrase(kind, **values).removeprefix("the ")
        return Question("is there", f"is there a {words}?", "yes" if found else "no")

    def _how_many(self) -> Question:
        part = _pick(self.rng, _PARTS)
        value = getattr(self.objects[int(self.rng.integers(len(self.objects)))], part)
        count = sum(getattr(thing, part) == value for thing in self.objects)
        noun = f"{value} object" if part != "shape" else value
        return Question("how many", f"count the {noun}.", NUMBERS[count])


def text_question(rng: np.random.Generator) -> Question:
    """A question whose answer lies in its own words; the picture does not help."""
    pool = FILLERS + list(COLOURS) + list(SHAPES)
    roll = rng.random()
    if roll < 0.35:
        people = [NAMES[i] for i in rng.permutation(len(NAMES))[:2]]
        things = [(_pick(rng, COLOURS), _pick(rng, SHAPES)) for _ in people]
        facts = ". ".join(f"{n} has a {c} {s}" for n, (c, s) in zip(people, things, strict=True))
        who = int(rng.integers(2))
        part = int(rng.integers(2))
        word = ("colour", "shape")[part]
        return Question(
            "text: story", f"{facts}. what {word} has {people[who]}?", things[who][part]
        )
    words = [_pick(rng, pool) for _ in range(int(rng.integers(2, 7)))]
    listed = " ".join(words)
    if roll < 0.60:
        return Question("text: copy", f"repeat: {listed}.", listed)
    if roll < 0.72:
        return Question("text: first", f"first word of: {listed}.", words[0])
    if roll < 0.84:
        return Question("text: last", f"last word of: {listed}.", words[-1])
    return Question("text: count", f"count the words: {listed}.", NUMBERS[len(words)])
