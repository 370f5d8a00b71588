"""The report of an ablation: a chart and a table per choice of the method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vg_engine.core.evaluation.outcomes import metric
from vg_engine.core.selection.head_statistics import HIT, INSIDE, IOU
from vg_engine.html import charts
from vg_engine.html.cells import Cell, estimate_cell, model_name, paired_cells, stated
from vg_engine.html.discovery import FAULTS, boxed, correlation_table, truth_chart
from vg_engine.html.evaluation import verdict_words
from vg_engine.html.report_page import ReportPage

if TYPE_CHECKING:
    from vg_engine.studies.ablate.results import Ablation, VariantScores, VariantTable

SPEARMAN = {IOU: "IoU of its own box", HIT: "pointing", INSIDE: "share inside the true boxes"}
_NAMED = 5  # heads that a row lists
_METRIC_WORDS = {
    "acc@0.5": "boxes with an IoU of 0.5 or more",
    "miou": "mean IoU of boxes",
    "pointing": "peaks on the target",
    "ciou": "overlap of all masks",
}
_OWN_HEADS = ("k", "criteria", "per_sample", "entropy", "query_row")  # the others share theirs


def page(ablation: Ablation, *, command: str = "") -> ReportPage:
    """The report.

    Args:
        ablation: the result.
        command: the command that made it.
    """
    settings, default = ablation.settings, ablation.default
    discovery = ablation.calibration.discovery
    context = {
        "ablation": ablation,
        "discovery": discovery,
        "numbers": [
            (metric(name).title, default.scores[name], _METRIC_WORDS[name])
            for name in ablation.metrics
        ],
        "tables": [
            {
                "name": table.sheet.name,
                "title": table.sheet.title,
                "chart": (_forest if table.sheet.named else _curves)(ablation, table),
                "finding": table.finding,
                "scores": _scores(ablation, table),
                "differences": _differences(ablation, table),
            }
            for table in ablation.tables.values()
        ],
        "boxed": boxed(discovery),
        "truth_chart": truth_chart(discovery, ablation.spearman, discovery.chosen.heads),
        "correlations": correlation_table(discovery.chosen, ablation.spearman, SPEARMAN)
        if ablation.spearman
        else None,
        "fault_tables": [
            ("calibration", len(discovery.faults), discovery.faults[:FAULTS]),
            ("data", ablation.fault_count, ablation.faults),
        ],
        "provenance": _provenance(ablation),
    }
    return ReportPage(
        "ablation",
        f"Ablations of {model_name(settings)}",
        f"Heads chosen on {discovery.settings['data']}, scored on "
        f"{settings['data']}: {ablation.n:,} sentences about {ablation.pictures:,} pictures",
        context,
        verdict=verdict_words(ablation.verdict),
        command=command,
        made=str(ablation.remarks.get("date") or ""),
    )


def _curves(ablation: Ablation, table: VariantTable) -> str:
    """A line per metric over the values that were tried, the first with its interval."""
    rows = table.rows
    named = table.sheet.name != "sigma"  # the others stand at even steps, or at no place
    across = [float(i) if named else row.variant.value for i, row in enumerate(rows)]
    first = ablation.metrics[0]
    series = []
    for name in ablation.metrics:
        scores = [row.scores[name] for row in rows]
        series.append(
            charts.Series(
                metric(name).title,
                [one.value for one in scores],
                across,
                low=[one.low for one in scores] if name == first else None,
                high=[one.high for one in scores] if name == first else None,
            )
        )
    marks = [
        charts.Mark(x, row.scores[first].value, "default")
        for x, row in zip(across, rows, strict=True)
        if row.variant.default
    ]
    return charts.line(
        series,
        title=f"Scores by {table.sheet.axis}",
        marks=marks,
        x_ticks=[row.variant.label for row in rows] if named else None,
        dots=True,
        key=True,
        height=340,
    )


def _forest(ablation: Ablation, table: VariantTable) -> str:
    first = ablation.metrics[0]
    rows = [
        charts.ForestRow(
            _label(row),
            row.scores[first],
            control=row.variant.control,
            highlight=row.variant.default,
            note=row.variant.description,
        )
        for row in table.rows
    ]
    return charts.forest(
        rows,
        title=f"{metric(first).title} by {table.sheet.axis}",
        reference=ablation.default.scores[first].value,
    )


def _label(row: VariantScores) -> str:
    return f"{row.variant.label} (true boxes)" if row.variant.labelled else row.variant.label


def _scores(ablation: Ablation, table: VariantTable) -> dict[str, object]:
    first, shown = ablation.metrics[0], table.distinct
    titles = [metric(name).title for name in ablation.metrics]
    return {
        "columns": [table.sheet.axis, *titles, f"{titles[0]} less default"],
        "rows": [
            [
                Cell(_label(row), _words(row, table.sheet.name), stacked=True),
                *(
                    estimate_cell(row.scores[name], muted=row.variant.control)
                    for name in ablation.metrics
                ),
                _difference(row, first)[0],
            ]
            for row in shown
        ],
        "highlight": [i for i, row in enumerate(shown) if row.variant.default],
        "muted": [i for i, row in enumerate(shown) if row.variant.control],
        "caption": f"{ablation.n:,} sentences",
    }


def _words(row: VariantScores, table: str) -> str:
    """A row's heads, if the rows of its table have their own, and a few words."""
    variant = row.variant
    heads = ""
    if table in _OWN_HEADS and not variant.control:
        more = [] if len(variant.heads) <= _NAMED else ["..."]
        heads = ", ".join([*map(str, variant.heads[:_NAMED]), *more])
    return "; ".join(filter(None, (heads, variant.description)))


def _differences(ablation: Ablation, table: VariantTable) -> dict[str, object]:
    titles = [title for name in ablation.metrics for title in (metric(name).title, "p")]
    return {
        "columns": [table.sheet.axis, *titles],
        "rows": [
            [_label(row), *(cell for name in ablation.metrics for cell in _difference(row, name))]
            for row in table.distinct
        ],
        "highlight": [i for i, row in enumerate(table.distinct) if row.variant.default],
    }


def _difference(row: VariantScores, name: str) -> tuple[Cell, Cell]:
    """The difference to the default, and its p-value."""
    if row.against:
        return paired_cells(row.against[name])
    return Cell("default" if row.variant.default else "the same", muted=True), Cell("")


def _provenance(ablation: Ablation) -> dict[str, object]:
    settings, calibration = ablation.settings, ablation.calibration.discovery.settings
    prompt = settings["prompt"]
    return {
        "model": settings["model"],
        "revision": settings["revision"] or settings["fingerprint"],
        "adapter": settings["adapter"],
        "shape": f"{settings['layers']} layers x {settings['heads_per_layer']} heads",
        "precision": f"{settings['dtype']} on {settings['device']}",
        "prompt": f"{prompt['form']}, {prompt['template']}, {prompt['query_row']}",
        "calibration": calibration["data"],
        "calibration revision": str(calibration["data_revision"])[:16],
        "draws": f"{calibration['draws']} of {calibration['samples']:,}, "
        f"seed {calibration['seed']}",
        "data": settings["data"],
        "data revision": str(settings["data_revision"])[:16],
        "samples": f"{settings['samples']:,}, of which {ablation.n:,} were scored",
        "limit": settings["limit"],
        "readings of each": ablation.distinct,
        **stated(settings, "seed", "resamples", "tool"),
    }
