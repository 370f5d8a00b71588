"""Verdicts: whether a row beats its controls, as far as the differences can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vg_engine.core.evaluation.intervals import Paired
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.studies.shared.numbers import paired_json

Side = Literal["better", "not told apart", "worse"]
TELLING = ("acc@0.5", "ciou", "pointing")  # the first that was measured gives the verdict
COUNTS = "A difference counts if its 95 % interval leaves out 0 and p is below 0.05."
_DRAWN = "Random heads are beaten if, besides, at most one in 20 of their draws reaches the score."
_CHANCE = 0.05


def side_of(difference: Paired) -> Side:
    """Tell on which side of 0 a difference lies, if its interval and its p-value both say so."""
    if difference.p < _CHANCE:
        if difference.low > 0:
            return "better"
        if difference.high < 0:
            return "worse"
    return "not told apart"


@dataclass(frozen=True)
class Control:
    """A control, and how far a row lies above it.

    Attributes:
        name: of the control.
        difference: the row less the control (less the mean of its draws).
        reached, draws: how many of its random draws reach the row's score; 0 of 0 without draws.
    """

    name: str
    difference: Paired
    reached: int = 0
    draws: int = 0

    @property
    def side(self) -> Side:
        """Where the row stands; to beat random heads, it must beat nearly all of their draws."""
        found = side_of(self.difference)
        many = self.reached > _CHANCE * self.draws
        return "not told apart" if found == "better" and many else found

    def __str__(self) -> str:
        """Name, difference and draws, for a sentence."""
        less = f"{self.difference.difference:+.3f}".replace("-", "−")
        if not self.draws:
            return f"{self.name} ({less})"
        return f"{self.name} ({less} to the mean of {self.draws} draws; {self.reached} reach it)"


@dataclass(frozen=True)
class Verdict:
    """Whether a row beats its controls in a metric.

    Attributes:
        row: its name.
        metric: name of the metric.
        controls: at least one.
    """

    row: str
    metric: str
    controls: tuple[Control, ...]

    @property
    def answer(self) -> Literal["yes", "no", "not told apart"]:
        """`yes`: better than every control; `no`: worse than one; else not told apart."""
        sides = {one.side for one in self.controls}
        return "no" if "worse" in sides else "yes" if sides == {"better"} else "not told apart"

    def of(self, wanted: Side) -> list[Control]:
        """The controls on one side."""
        return [one for one in self.controls if one.side == wanted]

    @property
    def rule(self) -> str:
        """When a difference counts."""
        drawn = any(one.draws for one in self.controls)
        return f"{COUNTS} {_DRAWN}" if drawn else COUNTS

    @property
    def question(self) -> str:
        """Question and answer."""
        unclear, every = len(self.of("not told apart")), len(self.controls)
        which = f" from {unclear} of {every}" if self.answer == "not told apart" else ""
        return f"Does {self.row} beat its controls? {self.answer.capitalize()}{which}."

    def __str__(self) -> str:
        """The sentence below the question."""
        words: dict[Side, str] = {
            "better": "better than",
            "not told apart": "not told apart from",
            "worse": "worse than",
        }
        parts = [f"{words[s]} {_listed(self.of(s))}" for s in words if self.of(s)]
        return f"In {metric(self.metric).title}, it is {'; '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """As the numbers of a study hold it."""
        return {
            "metric": self.metric,
            "beats_controls": self.answer,
            "controls": [
                {
                    "name": one.name,
                    "is": one.side,
                    **paired_json(one.difference),
                    **({"reached": one.reached, "draws": one.draws} if one.draws else {}),
                }
                for one in self.controls
            ],
            "text": f"{self.question} {self}",
        }


def _listed(controls: Sequence[Control]) -> str:
    *first, last = map(str, controls)
    return f"{', '.join(first)} and {last}" if first else last
