"""The result of an evaluation: the table of scores, all numbers and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vg_engine.core.contract.picture import Picture
from vg_engine.core.evaluation.outcomes import METRICS
from vg_engine.core.evaluation.samples import Fault
from vg_engine.core.geometry import SoftMap
from vg_engine.html.evaluation import page
from vg_engine.html.report_page import ReportPage
from vg_engine.plugins.exporters.records import plain
from vg_engine.studies.evaluate.columns import Columns, drawn_for, reached
from vg_engine.studies.evaluate.tables import Against, GroupScores, ScoreTable
from vg_engine.studies.shared.files import StudyFiles
from vg_engine.studies.shared.numbers import paired_json
from vg_engine.studies.shared.records import WORK, Record
from vg_engine.studies.shared.resumable import faults_json
from vg_engine.studies.shared.verdict import TELLING, Control, Verdict

NUMBERS = "eval.json"
_ROUNDING = (
    "numbers are rounded to 6 decimals, pixels to 3, areas to 1; the IoU and F1 of a record are "
    "cut to 6, so that none climbs over a threshold; n/a is null"
)


@dataclass(frozen=True, eq=False)
class Case:
    """A case with its picture, for the report.

    Attributes:
        record: what was answered.
        picture: what it was about.
        heat: the main entry's map.
    """

    record: Record
    picture: Picture
    heat: SoftMap


@dataclass(frozen=True, eq=False)
class Evaluation(StudyFiles):
    """The result of an evaluation.

    Attributes:
        table: all samples, the main entry first.
        sizes: small, medium and large objects.
        groups: per key of the data set's groups, its values.
        against: the main entry less each other one.
        columns: what each sample adds to each metric.
        faults: the first of what could not be used.
        fault_count: how many there are.
        notes: what a reader of the table should know.
        settings, remarks: as the journal keeps them.
        worst, best: cases for the report.
    """

    numbers_file = NUMBERS

    table: ScoreTable
    sizes: tuple[GroupScores, ...]
    groups: Mapping[str, tuple[GroupScores, ...]]
    against: tuple[Against, ...]
    columns: Columns
    faults: tuple[Fault, ...]
    fault_count: int
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]
    worst: tuple[Case, ...] = ()
    best: tuple[Case, ...] = ()

    def __repr__(self) -> str:
        main, *others = self.table.rows
        told = ", ".join(f"{name} {main.scores[name].value:.3f}" for name in self.table.headline)
        n = self.table.n
        return f"Evaluation({main.entry.name}, n = {n}: {told}; {len(others)} other rows)"

    @property
    def verdict(self) -> Verdict | None:
        """Whether the main entry beats its controls; None without any that was measured."""
        main, columns = self.table.rows[0], self.columns
        names = [name for name in TELLING if name in self.table.metrics]
        controls = []
        for one in self.against if names else ():
            entry, difference = one.entry, one.differences[names[0]]
            drawn = entry.kind == "random"
            own = not drawn or not main.entry.heads or drawn_for(entry, main.entry)
            if not entry.control or not own or math.isnan(difference.difference):
                continue
            many = 0
            if drawn:
                place = [metric.name for metric in METRICS].index(names[0])
                values = columns.draws[entry.name][:, place]
                many = reached(values, main.scores[names[0]].value)
            controls.append(Control(entry.name, difference, many, len(entry.draws)))
        return Verdict(main.entry.name, names[0], tuple(controls)) if controls else None

    @property
    def pictures(self) -> int:
        """Number of pictures that the samples are about."""
        return len(set(self.columns.pictures))

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `eval.json` holds them."""
        return {
            "work": WORK,
            "data": self.settings["data"],
            "n": self.table.n,
            "pictures": self.pictures,
            "verdict": self.verdict.to_json() if self.verdict else None,
            "metrics": {m.name: {"title": m.title, "is": m.description} for m in METRICS},
            "table": self.table.to_json(),
            "against_first": [
                {
                    "name": one.entry.name,
                    "differences": {n: paired_json(d) for n, d in one.differences.items()},
                }
                for one in self.against
            ],
            "object_size": {g.value: _group_json(g) for g in self.sizes},
            "groups": {
                key: {group.value: _group_json(group) for group in groups}
                for key, groups in self.groups.items()
            },
            "faults": faults_json(self.faults, self.fault_count),
            "notes": list(self.notes),
            "rounding": _ROUNDING,
            "remarks": dict(self.remarks),
            "settings": plain(dict(self.settings)),
        }

    def report(self, *, command: str = "") -> ReportPage:
        """The report."""
        return page(self, command=command)


def _group_json(group: GroupScores) -> dict[str, Any]:
    return {"n": group.table.n, "table": group.table.to_json()}
