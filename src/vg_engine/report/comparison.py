"""The report of a comparison: what two evaluations differ in, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vg_engine.core.contract.picture import Picture
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.measure.apart import Apart, open_pictures
from vg_engine.measure.comparison import Comparison, Side
from vg_engine.report import charts, pictures
from vg_engine.report import page as kit
from vg_engine.report.evaluation import cell_of, corners, estimate_cell, model_name, paired_cells
from vg_engine.report.markup import Markup, join, tag
from vg_engine.report.page import Card, Page, Section, section
from vg_engine.report.pictures import Outline

_WIDE = 720  # CSS pixels of a chart


def page(comparison: Comparison, *, command: str = "") -> Page:
    """The report; the data set is opened again for the pictures.

    Args:
        comparison: what was compared.
        command: what made it.
    """
    parts = [_scores(comparison), *_cases(comparison), _sides(comparison)]
    a, b = comparison.a, comparison.b
    return Page(
        f"{_called(a, b)} against {_called(b, a)}",
        f"{a.kept.settings['data']}, {comparison.n:,} sentences about {comparison.pictures:,} "
        "pictures that both scored",
        tuple(part for part in parts if part is not None),
        command=command,
    )


def _called(side: Side, other: Side) -> str:
    """A side's row, and its model or its folder where the rows are called alike."""
    name = side.contestant.name
    if name != other.contestant.name:
        return name
    models = [model_name(each.kept.settings) for each in (side, other)]
    return f"{name} ({models[0] if models[0] != models[1] else side.kept.path.parent.name})"


def _scores(comparison: Comparison) -> Section:
    rows = []
    for one in comparison.differences:
        difference, p = paired_cells(one.paired)
        counts = one.mcnemar
        rows.append(
            [
                metric(one.name).title,
                estimate_cell(one.a),
                estimate_cell(one.b),
                difference,
                p,
                ""
                if counts is None
                else cell_of(f"{counts.p:.3g}", f"{counts.only_a} A only, {counts.only_b} B only"),
            ]
        )
    table = kit.table(["", "A", "B", "A less B", "p", "McNemar"], rows, align="lrrrrr")
    plot = charts.dots_with_intervals(
        [
            charts.Row(
                metric(one.name).title,
                Estimate(one.paired.difference, one.paired.low, one.paired.high, one.paired.n),
                highlight=one.paired.low > 0 or one.paired.high < 0,
            )
            for one in comparison.differences
        ],
        title="A less B",
        reference=0.0,
        width=_WIDE,
    )
    words = (
        f"A is {_called(comparison.a, comparison.b)}, B is {_called(comparison.b, comparison.a)}. "
        f"In brackets: the middle 95 % of {comparison.resamples:,} resamples of whole pictures. "
        "p: how often a difference as large would come about if the two changed places picture "
        "by picture. "
        "McNemar's test counts the sentences that one side alone got right and takes them for "
        "independent. None is corrected for the number of metrics."
    )
    notes = [kit.note("info", text) for text in comparison.notes]
    return section("Differences", table, kit.figure(plot), words, *notes)


def _cases(comparison: Comparison) -> Sequence[Section | None]:
    shown = (*comparison.a_better, *comparison.b_better)
    if not shown:
        return ()
    settings = comparison.a.kept.settings
    found, missing = open_pictures(
        settings["data"], settings["data_revision"], {one.record["id"] for one in shown}
    )
    parts = [
        _gallery("A does better", comparison.a_better, found, keyed=True),
        _gallery("B does better", comparison.b_better, found, keyed=not comparison.a_better),
    ]
    if missing:
        parts.append(section("Pictures", kit.note("warning", missing)))
    return parts


def _gallery(
    title: str, cases: Sequence[Apart], found: Mapping[str, Picture], *, keyed: bool
) -> Section | None:
    cards = [_card(case, found[case.record["id"]]) for case in cases if case.record["id"] in found]
    if not cards:
        return None
    key = [_key()] if keyed else []
    return section(title, *key, kit.gallery(cards))


def _key() -> Markup:
    return join(
        tag("p", "A's box is turquoise, B's is amber, the true one is white and dashed."),
        pictures.key("answer", "other", "truth", peak=False),
    )


def _card(case: Apart, picture: Picture) -> Card:
    record = case.record
    boxes = [Outline(corners(box), "answer", "A") for box in case.a["boxes"]]
    boxes += [Outline(corners(box), "other", "B") for box in case.b["boxes"]]
    boxes += [Outline(corners(box), "truth") for box in record["boxes"] or ()]
    drawn = pictures.overlay(picture, None, boxes)
    worth = [f"{letter} {_worth(side)}" for letter, side in (("A", case.a), ("B", case.b))]
    more = [text for text in (record["bucket"], *record["groups"].values()) if text]
    return Card(
        pictures.img(drawn, f"{record['text']}: both answers and the truth"),
        record["text"],
        [*worth, *more, record["id"]],
    )


def _worth(answer: Mapping[str, object]) -> str:
    iou, inter, union = answer["iou"], answer["inter"], answer["union"]
    if isinstance(iou, float | int):
        return f"IoU {iou:.2f}"
    if isinstance(inter, int) and isinstance(union, int) and union:
        return f"mask IoU {inter / union:.2f}"
    if answer["hit"] is None:
        return "something found" if answer["found"] else "nothing found"
    return "peak inside" if answer["hit"] else "peak outside"


def _sides(comparison: Comparison) -> Section:
    parts: list[Markup] = []
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        settings, row = side.kept.settings, side.contestant
        prompt = settings["prompts"][row.prompt]
        known = {
            letter: row.name,
            "what it is": row.said or None,
            "heads": [str(head) for head in row.heads] if row.kind == "heads" else None,
            "records": side.kept.path,
            "model": settings["model"],
            "revision": settings["revision"],
            "fingerprint": settings["fingerprint"],
            "prompt": f"{prompt['form']}, {prompt['template']!r}, {prompt['query_row']}",
            "region": settings["region"],
            "post-processors": settings["postprocess"] or None,
            "data": settings["data"],
            "data revision": settings["data_revision"],
            "tool": settings["tool"],
            "made": side.kept.remarks.get("date"),
        }
        parts.append(kit.facts({name: one for name, one in known.items() if one is not None}))
    return section("What was compared", *parts)
