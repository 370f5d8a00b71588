"""The result of an ablation: the scores of every variant, all numbers and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine._version import __version__
from vg_engine.core.evaluation.intervals import Estimate, Paired
from vg_engine.core.evaluation.outcomes import Parts, difference, metric
from vg_engine.core.evaluation.samples import Fault
from vg_engine.html.ablation import page
from vg_engine.html.report_page import ReportPage
from vg_engine.plugins.exporters.records import plain
from vg_engine.studies.ablate.calibration import Calibration
from vg_engine.studies.ablate.variants import Sheet, Variant
from vg_engine.studies.evaluate.columns import reached
from vg_engine.studies.shared import records
from vg_engine.studies.shared.files import StudyFiles
from vg_engine.studies.shared.numbers import estimate_json, paired_json
from vg_engine.studies.shared.records import Record
from vg_engine.studies.shared.resumable import faults_json
from vg_engine.studies.shared.verdict import TELLING, Control, Verdict

WORK, NUMBERS = "ablate", "ablation.json"
METRICS = ("acc@0.5", "miou", "pointing", "ciou")


@dataclass(frozen=True, eq=False)
class VariantScores:
    """A variant and its scores.

    Attributes:
        variant: what was read.
        scores: metric -> estimate.
        against: metric -> this row less the default one, sample by sample; empty where both are
            the same reading.
        draws: metric -> the score of each reading, where the row is a mean over several.
    """

    variant: Variant
    scores: Mapping[str, Estimate]
    against: Mapping[str, Paired]
    draws: Mapping[str, Float64[np.ndarray, " draws"]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class VariantTable:
    """A sheet with its scores."""

    sheet: Sheet
    rows: tuple[VariantScores, ...]

    @property
    def default(self) -> VariantScores | None:
        """The row that the others are compared with, where it stands in this table."""
        return next((row for row in self.rows if row.variant.default), None)

    @property
    def distinct(self) -> tuple[VariantScores, ...]:
        """The rows, with neighbours of one reading joined."""
        joined: list[list[VariantScores]] = []
        for row in self.rows:
            if joined and joined[-1][0].variant.readings == row.variant.readings:
                joined[-1].append(row)
            else:
                joined.append([row])
        return tuple(map(_joined, joined)) if not self.sheet.named else self.rows

    @property
    def finding(self) -> str:
        """The sentence under a table of head choices, on how much they differ; empty for others."""
        if self.sheet.name != "per_sample":
            return ""
        choices = [frozenset(row.variant.heads) for row in self.rows]
        same = [row.variant.label for row in self.rows if not row.against]
        heads = f"{len(self.rows[0].variant.heads)} heads"
        if len(set(choices)) == 1:
            return f"All {len(choices)} numbers of votes choose the same {heads}."
        return (
            f"{len(same)} of {len(choices)} numbers of votes choose the default {heads}; there "
            f"are {len(set(choices))} different choices."
        )


def _joined(rows: Sequence[VariantScores]) -> VariantScores:
    """Rows of one reading as one, called by its ends."""
    first, last = rows[0].variant, rows[-1].variant
    if first is last:
        return rows[0]
    shown = next((row for row in rows if row.variant.default), rows[0])
    return replace(shown, variant=replace(shown.variant, label=f"{first.label} to {last.label}"))


def row_json(row: VariantScores, n: int) -> dict[str, Any]:
    """A row as `ablation.json` holds it; `n` samples were scored."""
    variant = row.variant
    return {
        "label": variant.label,
        "value": None if math.isnan(variant.value) else variant.value,
        "heads": [str(head) for head in variant.heads],
        "description": variant.description,
        "default": variant.default,
        "control": variant.control,
        "labelled": variant.labelled,
        "n": n,
        "scores": {name: estimate_json(row.scores[name]) for name in row.scores},
        "same_as_default": not row.against,
        "less_default": {name: paired_json(found) for name, found in row.against.items()},
    }


class Scored:
    """Outcomes of the journal's records, reading by reading; only numbers stay in memory.

    Args:
        made: makes a fresh iterator over the records, faults among them.
        default: the row that all others are compared with.
        resamples, seed: of the bootstrap.
    """

    def __init__(
        self, made: Callable[[], Iterator[Record]], default: Variant, *, resamples: int, seed: int
    ) -> None:
        self._default, self._how = default, {"resamples": resamples, "seed": seed}
        self._known: dict[tuple[int, ...], VariantScores] = {}
        self.pictures: list[str] = []
        tables: list[Float64[np.ndarray, "readings metrics 2"]] = []
        measured = [metric(name) for name in METRICS]
        for record in made():
            if "error" in record:
                continue
            self.pictures.append(record["picture"])
            worths = records.outcomes(record["worth"], target=record["target"])
            parts = [[one.part(worth) or (0.0, 0.0) for one in measured] for worth in worths]
            tables.append(np.array(parts, dtype=np.float64))
        self._parts = np.stack(tables) if tables else np.zeros((0, 1, len(METRICS), 2))
        counted = self._parts[:, 0, :, 1] > 0
        self.metrics = tuple(name for i, name in enumerate(METRICS) if counted[:, i].any())

    def row(self, variant: Variant) -> VariantScores:
        """A variant's scores; those that read the same are reckoned once."""
        if variant.readings not in self._known:
            self._known[variant.readings] = VariantScores(
                variant, self._scores(variant), self._against(variant), self._draws(variant)
            )
        return replace(self._known[variant.readings], variant=variant)

    def _scores(self, variant: Variant) -> dict[str, Estimate]:
        return {
            name: parts.estimate(self.pictures, **self._how)
            for name, parts in self._of(variant).items()
        }

    def _against(self, variant: Variant) -> dict[str, Paired]:
        if variant.readings == self._default.readings:
            return {}
        default = self._of(self._default)
        return {
            name: difference(name, parts, default[name], self.pictures, **self._how)
            for name, parts in self._of(variant).items()
        }

    def _draws(self, variant: Variant) -> dict[str, Float64[np.ndarray, " draws"]]:
        if len(variant.readings) < 2:
            return {}
        sums = self._parts[:, list(variant.readings)].sum(axis=0)
        return {
            name: sums[:, place, 0] / sums[:, place, 1]
            for name in self.metrics
            for place in [METRICS.index(name)]
        }

    def _of(self, variant: Variant) -> dict[str, Parts]:
        mean = self._parts[:, list(variant.readings)].mean(axis=1)
        return {name: Parts(*mean[:, METRICS.index(name)].T.copy()) for name in self.metrics}


@dataclass(frozen=True, eq=False)
class Ablation(StudyFiles):
    """The result of an ablation.

    Attributes:
        calibration: the heads, by every way of choosing them.
        default: the row that all others are compared with.
        tables: by name.
        spearman: over the candidates, their frequency against how well each does alone, on the
            calibration data; by column.
        metrics: those that the data can tell, the first is the one that charts show.
        n, pictures: samples that were scored, and the pictures that they are about.
        distinct: readings per sample.
        faults, fault_count: the first of what could not be used, and how many there are.
        warnings: what makes the numbers worth less than they look.
        notes: what was left out, what the data and the model say of themselves.
        settings, remarks: as the journal keeps them.
    """

    numbers_file = NUMBERS

    calibration: Calibration
    default: VariantScores
    tables: Mapping[str, VariantTable]
    spearman: Mapping[str, Estimate]
    metrics: tuple[str, ...]
    n: int
    pictures: int
    distinct: int
    faults: tuple[Fault, ...]
    fault_count: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Ablation({', '.join(self.tables)}; {self.n} samples)"

    @property
    def verdict(self) -> Verdict | None:
        """Tell whether the default heads beat their controls; None where no table has controls."""
        names = [name for name in TELLING if name in self.metrics]
        rows = [row for table in self.tables.values() for row in table.rows if row.variant.control]
        if not names:
            return None
        value, controls = self.default.scores[names[0]].value, []
        for row in rows:
            if (found := row.against.get(names[0])) and not math.isnan(found.difference):
                draws = row.draws.get(names[0], np.zeros(0))
                many = reached(draws, value)
                controls.append(Control(row.variant.label, found.reversed, many, len(draws)))
        name = "the default row"
        return Verdict(name, names[0], tuple(controls)) if controls else None

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `ablation.json` holds them; floats have six decimals."""
        found = self.calibration.discovery
        return {
            "work": WORK,
            "tool": f"vg-engine {__version__}",
            "date": self.remarks.get("date"),
            "model": self.settings["model"],
            "calibration": {
                "data": found.settings["data"],
                "rule": found.rule.text,
                "samples": found.settings["samples"],
                "draws": found.settings["draws"],
                "drawn": found.drawn,
                "measured": found.measured,
                "resampled": found.resampled,
                "faults": faults_json(found.faults),
            },
            "data": self.settings["data"],
            "n": self.n,
            "pictures": self.pictures,
            "readings_per_sample": self.distinct,
            "verdict": self.verdict.to_json() if self.verdict else None,
            "metrics": {name: metric(name).description for name in self.metrics},
            "default": row_json(self.default, self.n),
            "tables": {
                name: {
                    "title": table.sheet.title,
                    "axis": table.sheet.axis,
                    "rows": [row_json(row, self.n) for row in table.rows],
                }
                for name, table in self.tables.items()
            },
            "spearman": {name: estimate_json(rho) for name, rho in self.spearman.items()},
            "faults": faults_json(self.faults, self.fault_count),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "settings": plain(dict(self.settings)),
        }

    def report(self, *, command: str = "") -> ReportPage:
        """The report."""
        return page(self, command=command)
