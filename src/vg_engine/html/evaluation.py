"""The report of an evaluation: scores, controls, groups, and the worst and best answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html import charts, thumbnails
from vg_engine.html.cells import Cell, estimate_cell, model_name, paired_cells, stated
from vg_engine.html.report_page import ReportPage
from vg_engine.html.thumbnails import Card, outlines

if TYPE_CHECKING:
    from vg_engine.studies.evaluate.results import Case, Evaluation
    from vg_engine.studies.evaluate.tables import GroupScores, ScoreTable
    from vg_engine.studies.shared.verdict import Verdict

_LARGE = 3  # numbers that stand above the table
_CHARTED = ("acc@0.5", "pointing", "giou_lisa")  # the first two that were measured
_RIGHT = 0.5  # IoU from which an answer is right
_MOST_VALUES = 40  # of a table by group; the rest is in eval.json


def page(evaluation: Evaluation, *, command: str = "") -> ReportPage:
    """The report.

    Args:
        evaluation: the result.
        command: the command that made it.
    """
    settings, table = evaluation.settings, evaluation.table
    headline = table.headline
    worst, best = ([_card(case) for case in part] for part in (evaluation.worst, evaluation.best))
    context = {
        "evaluation": evaluation,
        "numbers": [
            (metric(name).title, table.rows[0].scores[name], metric(name).description)
            for name in headline[:_LARGE]
        ],
        "scores": _score_table(table, headline),
        "all_scores": _score_table(table, table.metrics),
        "control_charts": [_control_chart(table, name) for name in _charted(table)],
        "differences": _differences(evaluation),
        "groups": list(_groups(evaluation)),
        "fit_charts": _fit_charts(evaluation),
        "worst": worst,
        "best": best,
        "provenance": _provenance(evaluation),
    }
    return ReportPage(
        "evaluation",
        f"{table.rows[0].entry.name} on {settings['data']}",
        f"model {model_name(settings)}, {table.n:,} sentences about "
        f"{evaluation.pictures:,} pictures",
        context,
        verdict=verdict_words(evaluation.verdict),
        command=command,
        made=str(evaluation.remarks.get("date") or ""),
    )


def verdict_words(verdict: Verdict | None) -> tuple[str, ...]:
    """A verdict above a report."""
    return (verdict.question, str(verdict), verdict.rule) if verdict else ()


def _charted(table: ScoreTable) -> list[str]:
    return [name for name in _CHARTED if name in table.metrics][:2]


def _score_table(table: ScoreTable, names: Sequence[str]) -> dict[str, object]:
    """A row per entry, controls in grey, and a column per metric."""
    return {
        "columns": ["", *(metric(name).title for name in names)],
        "rows": [
            [
                Cell(row.entry.name, row.entry.description, stacked=True),
                *(estimate_cell(row.scores[name]) for name in names),
            ]
            for row in table.rows
        ],
        "highlight": [0],
        "muted": [i for i, row in enumerate(table.rows) if row.entry.control],
    }


def _control_chart(table: ScoreTable, name: str) -> str:
    rows = [
        charts.ForestRow(
            row.entry.name,
            row.scores[name],
            control=row.entry.control,
            highlight=not i,
            note=row.entry.description,
        )
        for i, row in enumerate(table.rows)
    ]
    return charts.forest(
        rows,
        title=metric(name).title,
        low=0.0,
        high=1.0,
        reference=rows[0].estimate.value,
    )


def _differences(evaluation: Evaluation) -> dict[str, object] | None:
    """The main entry less each other one."""
    others = evaluation.against
    names = list(others[0].differences) if others else []
    if not names:
        return None
    return {
        "columns": ["", *(title for name in names for title in (metric(name).title, "p"))],
        "rows": [
            [
                one.entry.name,
                *(cell for name in names for cell in paired_cells(one.differences[name])),
            ]
            for one in others
        ],
        "caption": f"{evaluation.table.rows[0].entry.name} less each other",
    }


def _groups(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    for key, groups in evaluation.groups.items():
        if len(groups) > 1:
            yield from _group_tables(key, groups)
    if any(group.table.n for group in evaluation.sizes):
        yield from _group_tables("object size", evaluation.sizes)


def _group_tables(key: str, groups: Sequence[GroupScores]) -> Iterator[dict[str, object]]:
    """Per metric a table: a row per value that has samples, a column per entry."""
    entries = [row.entry for row in groups[0].table.rows]
    full = [group for group in groups if group.table.n]
    empty = ", ".join(group.value for group in groups if not group.table.n)
    more = len(full) - _MOST_VALUES
    left_out = f"; {more} more in eval.json" if more > 0 else ""
    left_out += f"; no samples: {empty}" if empty else ""
    for name in _charted(groups[0].table):
        yield {
            "columns": [key, "n", *(one.name for one in entries)],
            "rows": [
                [
                    group.value,
                    group.table.n,
                    *(
                        estimate_cell(row.scores[name], muted=row.entry.control)
                        for row in group.table.rows
                    ),
                ]
                for group in full[:_MOST_VALUES]
            ],
            "caption": f"{metric(name).title} by {key}{left_out}",
        }


def _fit_charts(evaluation: Evaluation) -> list[str]:
    columns = evaluation.columns
    bins = len(columns.histogram)
    if not columns.histogram.sum():
        return []
    # Neighbouring bins without a sentence share a line.
    runs = [[0]]
    for i in range(1, bins):
        if columns.histogram[i - 1] or columns.histogram[i]:
            runs.append([i])
        else:
            runs[-1].append(i)
    histogram = charts.bars(
        [f"{run[0] / bins:.1f} to {(run[-1] + 1) / bins:.1f}" for run in runs],
        [columns.histogram[run].sum() for run in runs],
        title=f"IoU of {columns.entries[0].name}, sentences per bin",
        decimals=0,
    )
    curves = {
        one: columns.curves[one.name]
        for one in columns.entries
        if one.kind not in ("mean", "single")  # they would lie on the others
    }
    accuracy = charts.line(
        [
            charts.Series(
                one.name,
                curve,
                [i / (len(curve) - 1) for i in range(len(curve))],
                muted=one.control,
            )
            for one, curve in curves.items()
        ],
        title="Accuracy by the IoU that is asked for",
        x_label="IoU",
        y_label="share of sentences",
        from_zero=True,
        key=True,
        width=390,
        height=300,
    )
    return [histogram, accuracy]


def _card(case: Case) -> Card:
    record = case.record
    answer = next(iter(record["answers"].values()))
    boxes = [*outlines(answer["boxes"]), *outlines(record["boxes"], "truth")]
    x, y = map(float, answer["point"])
    return Card(
        thumbnails.overlay(case.picture, case.heat, boxes, (x, y), max_side=thumbnails.CARD),
        f"{record['text']}: answer and truth",
        record["text"],
        [*_facts(record, answer), *map(str, record["groups"].values()), record["id"]],
        _is_right(answer),
    )


def fit_of(answer: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the name and the value of the IoU of an answer; None if it has none."""
    if answer["iou"] is not None:
        return "IoU", answer["iou"]
    if answer["union"]:
        return "mask IoU", answer["inter"] / answer["union"]
    return None


def _is_right(answer: Mapping[str, Any]) -> bool | None:
    """Judge an answer by its box, else its masks, else its peak; None without any of them."""
    if fit := fit_of(answer):
        return bool(fit[1] >= _RIGHT)
    return None if answer["hit"] is None else bool(answer["hit"])


def _facts(record: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    """The fit of an answer, in a few words."""
    if fit := fit_of(answer):
        yield f"{fit[0]} {fit[1]:.2f}"
    if answer["hit"] is not None:
        yield "peak inside" if answer["hit"] else "peak outside"
    if not answer["found"]:
        yield "nothing found"
    if record["bucket"] is not None:
        yield record["bucket"]


def _provenance(evaluation: Evaluation) -> dict[str, object]:
    settings = evaluation.settings
    main = evaluation.columns.entries[0]
    return {
        **stated(settings, "model", "revision", "fingerprint", "adapter"),
        "shape": f"{settings['layers']} layers x {settings['heads_per_layer']} heads",
        "precision": f"{settings['dtype']} on {settings['device']}",
        "prompt": [
            f"{p['form']}, {p['template']!r}, {p['query_row']}" for p in settings["prompts"]
        ],
        "region": f"{settings['region']}, sigma {settings['sigma']:g}, kernel {settings['kernel']}",
        "post-processors": settings["postprocess"] or None,
        **stated(
            settings, "data", "data_revision", "samples", "limit", "seed", "resamples", "tool"
        ),
        "heads": main.heads or None,
    }
