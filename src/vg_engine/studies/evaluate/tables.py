"""Tables of scores: per entry, per group of samples, and against the first row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from vg_engine.core.evaluation.intervals import Estimate, Paired
from vg_engine.core.evaluation.outcomes import METRICS, difference, metric
from vg_engine.studies.evaluate.columns import BUCKETS, Columns
from vg_engine.studies.evaluate.entries import TableEntry
from vg_engine.studies.shared.numbers import estimate_json

SHORT = (
    "pointing",
    "acc@0.5",
    "miou",
    "ciou",
    "giou_lisa",
    "giou_gres",
    "n_acc",
    "t_acc",
    "grec_f1",
)
_COMPARED = ("pointing", "acc@0.5", "miou", "ciou")
OF_MIXED = ("n_acc", "t_acc", "grec_f1", "giou_gres")  # they say nothing new with one target each
_MOST_VALUES = 100  # of a group; rarer ones are left out


@dataclass(frozen=True)
class EntryScores:
    """An entry and its scores, metric -> estimate."""

    entry: TableEntry
    scores: Mapping[str, Estimate]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several entries on the same samples.

    Attributes:
        metrics: those that the data can tell, in their order.
        rows: the main entry first.
        n: samples.
    """

    metrics: tuple[str, ...]
    rows: tuple[EntryScores, ...]
    n: int

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of a short table, the most telling first."""
        return tuple(name for name in SHORT if name in self.metrics)

    def __str__(self) -> str:
        """In Markdown."""
        titles = [metric(name).title for name in self.metrics]
        lines = [f"| n = {self.n} | {' | '.join(titles)} |", "| --- |" + " --- |" * len(titles)]
        for row in self.rows:
            cells = [str(row.scores[name]) for name in self.metrics]
            lines.append(f"| {row.entry.name} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_json(self) -> list[dict[str, Any]]:
        """A line per entry, with every metric that was asked for."""
        return [
            {
                "name": row.entry.name,
                "kind": row.entry.kind,
                "control": row.entry.control,
                "description": row.entry.description,
                "scores": {name: estimate_json(row.scores[name]) for name in row.scores},
            }
            for row in self.rows
        ]


@dataclass(frozen=True)
class GroupScores:
    """The samples that share a value."""

    value: str
    table: ScoreTable


@dataclass(frozen=True)
class Against:
    """The main entry less another one, metric -> paired difference."""

    entry: TableEntry
    differences: Mapping[str, Paired]


def metrics_of(columns: Columns) -> tuple[str, ...]:
    """The metrics that these samples can tell of anybody."""
    return tuple(
        one.name
        for one in METRICS
        if (columns.mixed or one.name not in OF_MIXED)
        and any(parts[one.name].counted for parts in columns.parts.values())
    )


def make_table(
    columns: Columns,
    rows: Bool[np.ndarray, " samples"] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    **how: int,
) -> ScoreTable:
    """The table of all samples, or of some.

    Args:
        columns: of all samples.
        rows: which of them; None takes all.
        metrics: by name; None takes all.
        how: `resamples` and `seed` of the bootstrap.
    """
    taken = np.ones(len(columns.ids), dtype=np.bool_) if rows is None else rows
    pictures = [p for p, take in zip(columns.pictures, taken.tolist(), strict=True) if take]
    names = [one.name for one in METRICS] if metrics is None else list(metrics)
    made = []
    for entry in columns.entries:
        parts = columns.parts[entry.name]
        scores = {name: parts[name].take(taken).estimate(pictures, **how) for name in names}
        made.append(EntryScores(entry, scores))
    shown = [name for name in metrics_of(columns) if name in names]
    return ScoreTable(tuple(shown), tuple(made), int(taken.sum()))


def make_groups(columns: Columns, **how: int) -> dict[str, list[GroupScores]]:
    """A table per value of every key that samples are grouped by, the most frequent first."""
    names = [name for name in SHORT if name in metrics_of(columns)]
    found = {}
    for key, values in columns.groups.items():
        counted = Counter(value for value in values if value is not None)
        order = sorted(counted, key=lambda value: (-counted[value], value))[:_MOST_VALUES]
        found[key] = _groups(columns, values, order, names, how)
    return found


def make_sizes(columns: Columns, **how: int) -> list[GroupScores]:
    """A table per object size, COCO's: small below 32 x 32 pixels, medium below 96 x 96."""
    names = [name for name in SHORT if name in metrics_of(columns)]
    return _groups(columns, columns.buckets, BUCKETS, names, how)


def _groups(
    columns: Columns,
    values: Sequence[str | None],
    order: Sequence[str],
    names: Sequence[str],
    how: Mapping[str, int],
) -> list[GroupScores]:
    found = []
    for value in order:
        rows = np.array([one == value for one in values], dtype=np.bool_)
        found.append(GroupScores(value, make_table(columns, rows, metrics=names, **how)))
    return found


def against_main(columns: Columns, **how: int) -> list[Against]:
    """Compare the main entry with each other one on the same samples."""
    names = [name for name in _COMPARED if name in metrics_of(columns)]
    main, *others = columns.entries
    found = []
    for other in others:
        a, b = columns.parts[main.name], columns.parts[other.name]
        differences = {
            name: difference(name, a[name], b[name], columns.pictures, **how) for name in names
        }
        found.append(Against(other, differences))
    return found
