"""The tables of an ablation on a terminal."""

from __future__ import annotations

from pathlib import Path

from vg_engine.cli import console, tables
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html.ablation import SPEARMAN
from vg_engine.studies.ablate.results import Ablation, VariantScores


def tell(found: Ablation, out: Path) -> None:
    """Print every table, and where the report lies."""
    default = found.default.variant
    for table in found.tables.values():
        console.result(f"{table.sheet.title} (n = {found.n:,})")
        titles = [metric(name).title for name in found.metrics]
        tables.show(
            [table.sheet.axis, *titles, f"{titles[0]} change"],
            [
                tables.Row(
                    row.variant.label,
                    [*(str(row.scores[name]) for name in found.metrics), _less(row, found)],
                    row.variant.description,
                    "bold" if row.variant.default else "dim" if row.variant.control else "",
                )
                for row in table.distinct
            ],
        )
        if table.finding:
            console.result(table.finding)
        console.result("")
    if found.spearman:
        rhos = {SPEARMAN[name]: rho for name, rho in found.spearman.items() if name in SPEARMAN}
        tables.show(
            ["The ranking and each head alone", "Spearman's rho"],
            [tables.Row(what, [str(rho)]) for what, rho in rhos.items()],
        )
    named = ", ".join(map(str, default.heads))
    console.result(f"{tables.basis(found.n, found.pictures)}; default: {named}")
    console.result(str(out / "report.html"))


def _less(row: VariantScores, found: Ablation) -> str:
    if row.variant.default:
        return "default"
    if not row.against:
        return "the same"
    return str(row.against[found.metrics[0]]).partition(", p = ")[0]
