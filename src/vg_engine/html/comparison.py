"""The report of a comparison: the differences of two evaluations, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vg_engine.core.contract.picture import Picture
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.html import charts, thumbnails
from vg_engine.html.cells import Cell, estimate_cell, model_name, paired_cells, stated
from vg_engine.html.evaluation import fit_of
from vg_engine.html.report_page import ReportPage
from vg_engine.html.thumbnails import Card, outlines

if TYPE_CHECKING:
    from vg_engine.studies.compare.disagreements import Disagreement
    from vg_engine.studies.compare.results import Comparison, Difference, Side


def page(
    comparison: Comparison, pictures: Mapping[str, Picture], missing: str = "", *, command: str = ""
) -> ReportPage:
    """The report.

    Args:
        comparison: the result.
        pictures: of the samples on which the two differ most, by id.
        missing: why some of these pictures are missing; empty if none is.
        command: the command that made it.
    """
    a, b = comparison.a, comparison.b
    names = _name(a, b), _name(b, a)
    *answer, counts = comparison.verdict or ("",)
    context = {
        "comparison": comparison,
        "difference_rows": [_difference(one) for one in comparison.differences],
        "chart": _chart(comparison),
        "a_better": _cards(comparison.a_better, pictures),
        "b_better": _cards(comparison.b_better, pictures),
        "missing": missing,
        "sides": [_provenance("A", a), _provenance("B", b)],
    }
    return ReportPage(
        "comparison",
        f"{names[0]} against {names[1]}",
        f"{a.kept.settings['data']}, {comparison.n:,} sentences about {comparison.pictures:,} "
        "pictures that both scored",
        context,
        verdict=(*answer, f"A is {names[0]}, B is {names[1]}. {counts}"),
        command=command,
    )


def _name(side: Side, other: Side) -> str:
    """A side's row, and its model or its folder if both rows have one name."""
    name = side.entry.name
    if name != other.entry.name:
        return name
    models = [model_name(each.kept.settings) for each in (side, other)]
    return f"{name} ({models[0] if models[0] != models[1] else side.kept.path.parent.name})"


def _difference(one: Difference) -> list[object]:
    test: object = ""
    if one.mcnemar is not None:
        counts = f"{one.mcnemar.only_a} A only, {one.mcnemar.only_b} B only"
        test = Cell(f"{one.mcnemar.p:.3g}", counts, stacked=True)
    sides = estimate_cell(one.a), estimate_cell(one.b)
    return [metric(one.name).title, *sides, *paired_cells(one.paired), test]


def _chart(comparison: Comparison) -> str:
    rows = [
        charts.ForestRow(
            metric(one.name).title,
            Estimate(one.paired.difference, one.paired.low, one.paired.high, one.paired.n),
            highlight=one.paired.low > 0 or one.paired.high < 0,
            text=" ".join(paired_cells(one.paired)[0][:2]),
        )
        for one in comparison.differences
    ]
    return charts.forest(rows, title="A less B", reference=0.0)


def _cards(cases: Sequence[Disagreement], pictures: Mapping[str, Picture]) -> list[Card]:
    return [
        _card(case, pictures[case.record["id"]]) for case in cases if case.record["id"] in pictures
    ]


def _card(case: Disagreement, picture: Picture) -> Card:
    record = case.record
    boxes = outlines(case.a["boxes"], "answer", "A") + outlines(case.b["boxes"], "other", "B")
    boxes += outlines(record["boxes"], "truth")
    more = [text for text in (record["bucket"], *record["groups"].values()) if text]
    return Card(
        thumbnails.overlay(picture, None, boxes, max_side=thumbnails.CARD),
        f"{record['text']}: both answers and the truth",
        record["text"],
        [f"A {_fit(case.a)}", f"B {_fit(case.b)}", *more, record["id"]],
    )


def _fit(answer: Mapping[str, Any]) -> str:
    """The fit of an answer, in a few words."""
    if fit := fit_of(answer):
        return f"{fit[0]} {fit[1]:.2f}"
    if answer["hit"] is None:
        return "something found" if answer["found"] else "nothing found"
    return "peak inside" if answer["hit"] else "peak outside"


def _provenance(letter: str, side: Side) -> dict[str, object]:
    settings, row = side.kept.settings, side.entry
    prompt = settings["prompts"][row.prompt]
    return {
        letter: row.name,
        "what it is": row.description or None,
        "heads": row.heads if row.kind == "heads" else None,
        "records": side.kept.path,
        **stated(settings, "model", "revision", "fingerprint"),
        "prompt": f"{prompt['form']}, {prompt['template']!r}, {prompt['query_row']}",
        "region": settings["region"],
        "post-processors": settings["postprocess"] or None,
        **stated(settings, "data", "data_revision", "tool"),
        "made": side.kept.remarks.get("date"),
    }
