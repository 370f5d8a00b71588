"""From records to columns of numbers: what each sample adds to each metric, per contestant.

The records are gone through twice, a batch at a time; what stays in memory is numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.heads import Head
from vg_engine.core.metrics import generalised_iou
from vg_engine.core.scores import METRICS, Outcome, Parts
from vg_engine.measure.contestants import Contestant
from vg_engine.measure.race import Race
from vg_engine.measure.records import Record, has_target, outcomes

BUCKETS = ("small", "medium", "large")
THRESHOLDS = tuple(step / 20 for step in range(21))  # of the curve of accuracies
BINS = 10  # of the histogram of IoUs
CASES = 12

Records = Callable[[], Iterator[Record]]


@dataclass(frozen=True, eq=False)
class Columns:
    """What the records hold, sample by sample.

    Attributes:
        contestants: as they were planned; the oracle now names its head.
        ids, pictures, buckets: per sample.
        groups: key -> per sample its value, or None.
        parts: contestant -> metric -> what each sample adds.
        mixed: whether some sample has no target or several.
        curves: contestant -> share of one-target samples whose IoU reaches each of `THRESHOLDS`.
        histogram: of the main contestant's IoUs, counts in `BINS` even bins from 0 to 1.
        worst, best: records of samples on which the main contestant does worst and best.
    """

    contestants: tuple[Contestant, ...]
    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    buckets: tuple[str | None, ...]
    groups: Mapping[str, tuple[str | None, ...]]
    parts: Mapping[str, Mapping[str, Parts]]
    mixed: bool
    curves: Mapping[str, Float64[np.ndarray, " thresholds"]]
    histogram: Float64[np.ndarray, " bins"]
    worst: tuple[Record, ...]
    best: tuple[Record, ...]


def read_columns(records: Records, contestants: Sequence[Contestant]) -> Columns:
    """Columns of all samples that were scored.

    Args:
        records: makes a fresh iterator over the journal's records, faults among them.
        contestants: who answered.
    """
    best, said, count = first_pass(records, contestants)
    tables = {c.name: np.zeros((count, len(METRICS), 2)) for c in contestants}
    fits = {c.name: np.zeros((2, len(THRESHOLDS))) for c in contestants}
    seen = _Seen()
    for number, (record, worths) in enumerate(answers(records, contestants, best)):
        for name, several in worths.items():
            tables[name][number] = parts_of(several)
            fits[name] += _reached(several)
        seen.add(number, record, worths[contestants[0].name][0])
    return Columns(
        contestants=tuple(replace(c, said=said.get(c.name, c.said)) for c in contestants),
        ids=tuple(seen.ids),
        pictures=tuple(seen.pictures),
        buckets=tuple(seen.buckets),
        groups=seen.whole_groups(),
        parts={
            name: {
                metric.name: Parts(table[:, i, 0].copy(), table[:, i, 1].copy())
                for i, metric in enumerate(METRICS)
            }
            for name, table in tables.items()
        },
        mixed=seen.mixed,
        curves={
            name: np.divide(right, of, out=np.full(len(of), np.nan), where=of > 0)
            for name, (right, of) in fits.items()
        },
        histogram=seen.histogram,
        worst=tuple(record for _, _, record in seen.worst),
        best=tuple(record for _, _, record in seen.best),
    )


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records by the batch in which they were written."""
    for _, batch in groupby(records, key=lambda record: record["batch"]):
        yield list(batch)


def answers(
    records: Records, contestants: Sequence[Contestant], best: Mapping[str, Head]
) -> Iterator[tuple[Record, dict[str, list[Outcome]]]]:
    """Each scored record with what every contestant's answers to it are worth.

    Args:
        records: makes a fresh iterator over the journal's records.
        contestants: who answered.
        best: the head that stands for each oracle.
    """
    races = {c.name: Race(c.name, c.heads) for c in contestants if c.kind == "single"}
    for batch in batches(records()):
        places = {name: race.heads.index(best[name]) for name, race in races.items()}
        for record in batch:
            if "error" in record:
                continue
            target = has_target(record)
            worths = {
                c.name: outcomes(record["answers"][c.name], target=target) for c in contestants
            }
            yield record, worths | {name: [worths[name][p]] for name, p in places.items()}
        for race in races.values():
            race.add(batch)


def first_pass(
    records: Records, contestants: Sequence[Contestant]
) -> tuple[dict[str, Head], dict[str, str], int]:
    """Per oracle its head and a few words on it; and the number of samples that were scored.

    Args:
        records: makes a fresh iterator over the journal's records.
        contestants: who answered.
    """
    races = {c.name: Race(c.name, c.heads) for c in contestants if c.kind == "single"}
    count = 0
    for batch in batches(records()):
        count += sum("error" not in record for record in batch)
        for race in races.values():
            race.add(batch)
    said = {
        name: f"{race.best}; an oracle: best {race.measure} of {race.started} on these samples"
        for name, race in races.items()
    }
    return {name: race.best for name, race in races.items()}, said, count


def parts_of(worths: Sequence[Outcome]) -> Float64[np.ndarray, "metrics 2"]:
    """What a sample adds to each metric; the mean over draws."""
    table = [[metric.part(one) or (0.0, 0.0) for metric in METRICS] for one in worths]
    return np.asarray(np.mean(np.array(table, dtype=np.float64), axis=0))


def _reached(worths: Sequence[Outcome]) -> Float64[np.ndarray, "2 thresholds"]:
    """Which thresholds an IoU reaches, and whether there is one; the mean over draws."""
    ious = np.array([one.iou for one in worths])
    known = ~np.isnan(ious)
    right = known[:, None] & (np.nan_to_num(ious)[:, None] >= np.array(THRESHOLDS))
    return np.stack([right.mean(axis=0), np.full(len(THRESHOLDS), known.mean())])


@dataclass
class _Seen:
    """What is gathered beside the metrics as records go by."""

    ids: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    buckets: list[str | None] = field(default_factory=list)
    groups: dict[str, list[str | None]] = field(default_factory=dict)
    mixed: bool = False
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    worst: list[tuple[float, int, Record]] = field(default_factory=list)
    best: list[tuple[float, int, Record]] = field(default_factory=list)

    def add(self, number: int, record: Record, worth: Outcome) -> None:
        self.ids.append(record["id"])
        self.pictures.append(record["picture"])
        self.buckets.append(record["bucket"])
        for key, value in record["groups"].items():
            # Keys that only some samples have: those before had none.
            self.groups.setdefault(key, []).extend([None] * (number - len(self.groups[key])))
            self.groups[key].append(value)
        self.mixed = self.mixed or not worth.target or len(record["boxes"] or [0]) > 1
        if not np.isnan(worth.iou):
            self.histogram[min(BINS - 1, int(worth.iou * BINS))] += 1
        fit = _fit(record, worth)
        if not np.isnan(fit):
            self.worst = sorted([*self.worst, (fit, number, record)], key=_place)[:CASES]
            self.best = sorted([*self.best, (-fit, number, record)], key=_place)[:CASES]

    def whole_groups(self) -> dict[str, tuple[str | None, ...]]:
        count = len(self.ids)
        return {
            key: (*values, *[None] * (count - len(values)))
            for key, values in sorted(self.groups.items())
        }


def _place(case: tuple[float, int, Any]) -> tuple[float, int]:
    return case[0], case[1]


def _fit(record: Record, worth: Outcome) -> float:
    """How well an answer fits, for the best and worst cases.

    The generalised IoU tells apart boxes that miss by little and by much. Without one true box the
    masks' IoU counts, then whether the peak is right; without a target, whether nothing was found.
    """
    true, given = record["boxes"], next(iter(record["answers"].values()))["boxes"]
    if not worth.target:
        return float(not worth.found)
    if true is not None and len(true) == 1 and given:
        return float(generalised_iou(np.array(given[0], float), np.array(true[0], float)))
    if worth.union is not None and worth.inter is not None:
        return worth.inter / worth.union if worth.union else 1.0
    return float("nan") if worth.hit is None else float(worth.hit)
