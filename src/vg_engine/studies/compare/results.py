"""The result of a comparison: the differences, all numbers and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vg_engine.core.contract.picture import Picture
from vg_engine.core.evaluation.intervals import Estimate, McNemar, Paired
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html.comparison import page
from vg_engine.html.report_page import ReportPage
from vg_engine.studies.compare.disagreements import Disagreement, open_pictures
from vg_engine.studies.evaluate.entries import TableEntry
from vg_engine.studies.shared.files import StudyFiles
from vg_engine.studies.shared.numbers import estimate_json, paired_json, rounded
from vg_engine.studies.shared.records import SavedRecords
from vg_engine.studies.shared.verdict import COUNTS, TELLING, side_of

WORK = "compare"
NUMBERS, REPORT = "comparison.json", "comparison.html"
# What a reader of a difference wants to know of the two sides, as settings call it.
STATED = ("model", "revision", "fingerprint", "adapter", "dtype", "region", "sigma", "kernel",
         "postprocess", "tool")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two: which row of which evaluation.

    Attributes:
        kept: its records.
        entry: the row.
        alone: samples that only this side scored.
    """

    kept: SavedRecords
    entry: TableEntry
    alone: int


@dataclass(frozen=True)
class Difference:
    """One metric on both sides.

    Attributes:
        name: of the metric.
        a, b: of each side, on what both scored.
        paired: A - B.
        mcnemar: where a sample is right or wrong and neither side is a mean over draws.
    """

    name: str
    a: Estimate
    b: Estimate
    paired: Paired
    mcnemar: McNemar | None = None


@dataclass(frozen=True, eq=False)
class Comparison(StudyFiles):
    """Two evaluations on what both scored.

    Attributes:
        a, b: the sides.
        n, pictures: what both scored.
        differences: per metric that both can tell.
        a_better, b_better: samples on which the two differ most, the largest difference first.
        notes: what a reader of the table should know.
        resamples, seed: of the intervals.
    """

    numbers_file = NUMBERS
    report_file = REPORT

    a: Side
    b: Side
    n: int
    pictures: int
    differences: tuple[Difference, ...]
    a_better: tuple[Disagreement, ...]
    b_better: tuple[Disagreement, ...]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def __repr__(self) -> str:
        sides = f"{self.a.entry.name}, {self.b.entry.name}"
        told = ", ".join(f"{one.name} {one.paired.difference:+.3f}" for one in self.differences)
        return f"Comparison({sides}, n = {self.n}: {told})"

    @property
    def verdict(self) -> tuple[str, str, str] | None:
        """Whether A is better than B in the most telling metric: answer, sentence, rule."""
        if not self.differences:
            return None
        order = [*TELLING, *(one.name for one in self.differences)]
        one = min(self.differences, key=lambda one: order.index(one.name))
        answers = {"better": "Yes", "worse": "No, B is better", "not told apart": "Not told apart"}
        less = str(one.paired).replace("-", "−")
        return (
            f"Is A better than B? {answers[side_of(one.paired)]}.",
            f"In {metric(one.name).title}, A less B is {less}.",
            COUNTS,
        )

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `comparison.json` holds them."""
        return {
            "work": WORK,
            "a": _side_json(self.a),
            "b": _side_json(self.b),
            "n": self.n,
            "pictures": self.pictures,
            "verdict": " ".join(self.verdict[:2]) if self.verdict else None,
            "differences": {
                one.name: {
                    "title": metric(one.name).title,
                    "a": estimate_json(one.a),
                    "b": estimate_json(one.b),
                    "a_less_b": paired_json(one.paired),
                    "mcnemar": None
                    if one.mcnemar is None
                    else {
                        "only_a": one.mcnemar.only_a,
                        "only_b": one.mcnemar.only_b,
                        "p": rounded(one.mcnemar.p),
                    },
                }
                for one in self.differences
            },
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
            "rounding": "numbers are rounded to 6 decimals; n/a is null",
        }

    def report(self, *, command: str = "") -> ReportPage:
        """The report, with pictures where they can be opened."""
        return page(self, *self.pictures_shown(), command=command)

    def pictures_shown(self) -> tuple[dict[str, Picture], str]:
        """Open the pictures of the samples on which both sides differ most.

        Returns:
            Sample id -> picture, and why some are missing (empty if none is).
        """
        settings = self.a.kept.settings
        wanted = {one.record["id"] for one in (*self.a_better, *self.b_better)}
        if not wanted:
            return {}, ""
        return open_pictures(settings["data"], settings["data_revision"], wanted)


def _side_json(side: Side) -> dict[str, Any]:
    settings = side.kept.settings
    return {
        "records": str(side.kept.path),
        "entry": side.entry.name,
        "description": side.entry.description,
        "alone": side.alone,
        "data": settings["data"],
        "data_revision": settings["data_revision"],
        "prompt": settings["prompts"][side.entry.prompt],
        **{name: settings.get(name) for name in STATED},
    }
