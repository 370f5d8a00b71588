"""The tables of an evaluation and of a comparison on a terminal."""

from __future__ import annotations

from pathlib import Path

from vg_engine.cli import console, studies, tables
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.studies.compare.results import Comparison
from vg_engine.studies.evaluate.results import Evaluation


def tell(found: Evaluation | Comparison, out: Path) -> None:
    """Print the tables of an evaluation or a comparison, and where the report lies."""
    if isinstance(found, Comparison):
        _differences(found, out)
    else:
        _scores(found, out)


def _differences(found: Comparison, out: Path) -> None:
    tables.show(
        ["", "A", "B", "A - B", "p", "McNemar"],
        [
            tables.Row(
                metric(one.name).title,
                [
                    str(one.a),
                    str(one.b),
                    str(one.paired).partition(", p = ")[0],
                    f"{one.paired.p:.3g}",
                    "" if one.mcnemar is None else f"{one.mcnemar.p:.3g}",
                ],
            )
            for one in found.differences
        ],
    )
    for letter, side in (("A", found.a), ("B", found.b)):
        console.result(f"{letter}: {side.entry.name} of {side.kept.path.parent}")
    console.result(tables.basis(found.n, found.pictures))
    for note in found.notes:
        console.say("note", note)
    console.result(str(out / "comparison.html"))


def _scores(found: Evaluation, out: Path) -> None:
    names = found.table.headline
    tables.show(
        ["", *(metric(name).title for name in names)],
        [
            tables.Row(
                row.entry.name,
                [str(row.scores[name]) for name in names],
                row.entry.description,
                "dim" if row.entry.control else "" if place else "bold",
            )
            for place, row in enumerate(found.table.rows)
        ],
    )
    console.result(tables.basis(found.table.n, found.pictures))
    for note in found.notes:
        console.say("note", note)
    studies.tell_faults(found.faults, found.fault_count, f"; see {out / 'eval.json'}")
    console.result(str(out / "report.html"))
