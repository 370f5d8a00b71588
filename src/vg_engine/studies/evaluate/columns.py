"""From records to columns of numbers: what each sample adds to each metric, per entry.

The records are gone through twice, a batch at a time; what stays in memory is numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.evaluation.metrics import generalised_iou
from vg_engine.core.evaluation.outcomes import METRICS, Outcome, Parts
from vg_engine.core.evaluation.outcomes import metric as metric_of
from vg_engine.core.heads import Head
from vg_engine.studies.evaluate.best_head import BestHead
from vg_engine.studies.evaluate.entries import TableEntry
from vg_engine.studies.shared.records import Record, has_target, outcomes

BUCKETS = ("small", "medium", "large")
THRESHOLDS = tuple(step / 20 for step in range(21))  # of the curve of accuracies
BINS = 10  # of the histogram of IoUs
CASES = 12
_ROUNDING = 1e-9

Records = Callable[[], Iterator[Record]]


@dataclass(frozen=True, eq=False)
class Columns:
    """The contents of the records, sample by sample.

    Attributes:
        entries: as they were planned; the oracle now names its head.
        ids, pictures, buckets: per sample.
        groups: key -> per sample its value, or None.
        parts: entry -> metric -> what each sample adds.
        mixed: whether some sample has no target or several.
        draws: entry that was drawn -> its value in each draw, by metric.
        curves: entry -> share of one-target samples whose IoU reaches each of `THRESHOLDS`.
        histogram: of the main entry's IoUs, counts in `BINS` even bins from 0 to 1.
        worst, best: records of samples on which the main entry does worst and best.
    """

    entries: tuple[TableEntry, ...]
    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    buckets: tuple[str | None, ...]
    groups: Mapping[str, tuple[str | None, ...]]
    parts: Mapping[str, Mapping[str, Parts]]
    mixed: bool
    draws: Mapping[str, Float64[np.ndarray, "draws metrics"]]
    curves: Mapping[str, Float64[np.ndarray, " thresholds"]]
    histogram: Float64[np.ndarray, " bins"]
    worst: tuple[Record, ...]
    best: tuple[Record, ...]


def read_columns(records: Records, entries: Sequence[TableEntry]) -> Columns:
    """Columns of all samples that were scored.

    Args:
        records: makes a fresh iterator over the journal's records, faults among them.
        entries: who answered.
    """
    best, descriptions, count = first_pass(records, entries)
    tables = {c.name: np.zeros((count, len(METRICS), 2)) for c in entries}
    drawn = {c.name: np.zeros((len(c.draws), len(METRICS), 2)) for c in entries if c.draws}
    fits = {c.name: np.zeros((2, len(THRESHOLDS))) for c in entries}
    seen = _Gathered()
    for number, (record, worths) in enumerate(answers(records, entries, best)):
        for name, several in worths.items():
            parts = parts_of(several)
            tables[name][number] = parts.mean(axis=0)
            if name in drawn:
                drawn[name] += parts
            fits[name] += _reached(several)
        seen.add(number, record, worths[entries[0].name][0])
    draws = {name: _ratio(sums[..., 0], sums[..., 1]) for name, sums in drawn.items()}
    descriptions |= {
        c.name: f"{c.description}{_spread(c, draws[c.name], entries, tables)}"
        for c in entries
        if c.name in draws
    }
    return Columns(
        entries=tuple(
            replace(c, description=descriptions.get(c.name, c.description)) for c in entries
        ),
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
        draws=draws,
        curves={name: _ratio(right, of) for name, (right, of) in fits.items()},
        histogram=seen.histogram,
        worst=tuple(record for _, _, record in seen.worst),
        best=tuple(record for _, _, record in seen.best),
    )


def is_mixed(record: Record) -> bool:
    """Check whether a sample has no target or several."""
    return not has_target(record) or len(record["boxes"] or [0]) > 1


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records by the batch in which they were written."""
    for _, batch in groupby(records, key=lambda record: record["batch"]):
        yield list(batch)


def answers(
    records: Records, entries: Sequence[TableEntry], best: Mapping[str, Head]
) -> Iterator[tuple[Record, dict[str, list[Outcome]]]]:
    """Each scored record with what every entry's answers to it are worth.

    Args:
        records: makes a fresh iterator over the journal's records.
        entries: who answered.
        best: the head that stands for each oracle.
    """
    searches = {c.name: BestHead(c.name, c.heads) for c in entries if c.kind == "single"}
    for batch in batches(records()):
        places = {name: search.heads.index(best[name]) for name, search in searches.items()}
        for record in batch:
            if "error" in record:
                continue
            target = has_target(record)
            worths = {c.name: outcomes(record["answers"][c.name], target=target) for c in entries}
            yield record, worths | {name: [worths[name][p]] for name, p in places.items()}
        for search in searches.values():
            search.add(batch)


def first_pass(
    records: Records, entries: Sequence[TableEntry]
) -> tuple[dict[str, Head], dict[str, str], int]:
    """Per oracle its head and a few words on it; and the number of samples that were scored.

    Args:
        records: makes a fresh iterator over the journal's records.
        entries: who answered.
    """
    searches = {c.name: BestHead(c.name, c.heads) for c in entries if c.kind == "single"}
    count = 0
    for batch in batches(records()):
        count += sum("error" not in record for record in batch)
        for search in searches.values():
            search.add(batch)
    descriptions = {
        name: f"{one.best}; an oracle: best {one.measure} of {one.started} on these samples"
        for name, one in searches.items()
    }
    return {name: search.best for name, search in searches.items()}, descriptions, count


def parts_of(worths: Sequence[Outcome]) -> Float64[np.ndarray, "draws metrics 2"]:
    """Collect what each answer to a sample adds to each metric."""
    table = [[metric.part(one) or (0.0, 0.0) for metric in METRICS] for one in worths]
    return np.array(table, dtype=np.float64)


def _spread(
    drawn: TableEntry,
    draws: Float64[np.ndarray, "draws metrics"],
    entries: Sequence[TableEntry],
    tables: Mapping[str, Float64[np.ndarray, "samples metrics 2"]],
) -> str:
    """Describe the single draws, which spread more than their mean: range, and who reaches a set.

    Returns:
        A few words; empty where nothing was measured.
    """
    for name in ("acc@0.5", "giou_lisa", "pointing"):
        place = [metric.name for metric in METRICS].index(name)
        values = draws[:, place]
        if not np.isfinite(values).all():
            continue
        text = f"; {metric_of(name).title} from {values.min():.3f} to {values.max():.3f}"
        for one in entries:
            if one.kind == "heads" and drawn_for(drawn, one):
                above, below = tables[one.name][:, place].sum(axis=0)
                text += f", {reached(values, above / below)} of {len(values)} reach {one.name}"
        return text
    return ""


def drawn_for(drawn: TableEntry, entry: TableEntry) -> bool:
    """Check whether random heads are as many as an entry's, of its layers and its prompt."""
    layers = {head.layer for heads in drawn.draws for head in heads}
    alike = len(entry.heads) == len(drawn.draws[0]) and {h.layer for h in entry.heads} == layers
    return alike and entry.prompt == drawn.prompt


def reached(draws: Float64[np.ndarray, " draws"], value: float) -> int:
    """Count the draws that reach a value."""
    return int((draws >= value - _ROUNDING).sum())


def _ratio(
    above: Float64[np.ndarray, "*any"], below: Float64[np.ndarray, "*any"]
) -> Float64[np.ndarray, "*any"]:
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))


def _reached(worths: Sequence[Outcome]) -> Float64[np.ndarray, "2 thresholds"]:
    """Mark the thresholds that an IoU reaches, and whether there is an IoU; mean over draws."""
    ious = np.array([one.iou for one in worths])
    known = ~np.isnan(ious)
    right = known[:, None] & (np.nan_to_num(ious)[:, None] >= np.array(THRESHOLDS))
    return np.stack([right.mean(axis=0), np.full(len(THRESHOLDS), known.mean())])


@dataclass
class _Gathered:
    """Facts that are collected beside the metrics, record by record."""

    ids: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    buckets: list[str | None] = field(default_factory=list)
    groups: dict[str, list[str | None]] = field(default_factory=dict)
    mixed: bool = False
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    worst: list[tuple[tuple[float, float], int, Record]] = field(default_factory=list)
    best: list[tuple[tuple[float, float], int, Record]] = field(default_factory=list)

    def add(self, number: int, record: Record, worth: Outcome) -> None:
        self.ids.append(record["id"])
        self.pictures.append(record["picture"])
        self.buckets.append(record["bucket"])
        for key, value in record["groups"].items():
            # Keys that only some samples have: those before had none.
            self.groups.setdefault(key, []).extend([None] * (number - len(self.groups[key])))
            self.groups[key].append(value)
        self.mixed = self.mixed or is_mixed(record)
        if not np.isnan(worth.iou):
            self.histogram[min(BINS - 1, int(worth.iou * BINS))] += 1
        fit, apart = fit_of(worth), _apart(record)
        if not np.isnan(fit):
            self.worst = sorted([*self.worst, ((fit, apart), number, record)], key=_place)[:CASES]
            self.best = sorted([*self.best, ((-fit, -apart), number, record)], key=_place)[:CASES]

    def whole_groups(self) -> dict[str, tuple[str | None, ...]]:
        count = len(self.ids)
        return {
            key: (*values, *[None] * (count - len(values)))
            for key, values in sorted(self.groups.items())
        }


def _place(case: tuple[tuple[float, float], int, Any]) -> tuple[tuple[float, float], int]:
    return case[0], case[1]


def fit_of(worth: Outcome) -> float:
    """Rate an answer: by the IoU of boxes, else of masks, else by pointing.

    Without a target, by whether nothing was found.
    """
    if not worth.target:
        return float(not worth.found)
    if not np.isnan(worth.iou):
        return worth.iou
    if worth.union is not None and worth.inter is not None:
        return worth.inter / worth.union if worth.union else 1.0
    return float("nan") if worth.hit is None else float(worth.hit)


def _apart(record: Record) -> float:
    """Order answers of one IoU: the generalised IoU tells a near miss from a far one."""
    true, given = record["boxes"], next(iter(record["answers"].values()))["boxes"]
    if true is None or len(true) != 1 or not given:
        return 0.0
    return float(generalised_iou(np.array(given[0], float), np.array(true[0], float)))
