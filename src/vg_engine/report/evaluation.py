"""The report of an evaluation: the table first, then where the answers are right and wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vg_engine.core.evaluation.intervals import Estimate, Paired
from vg_engine.core.evaluation.outcomes import metric
from vg_engine.core.geometry import Box
from vg_engine.measure.columns import BINS, THRESHOLDS
from vg_engine.measure.evaluation import Evaluation, Shown
from vg_engine.measure.tables import SHORT, Group, Table
from vg_engine.report import charts, pictures
from vg_engine.report import page as kit
from vg_engine.report.markup import Markup, join, tag
from vg_engine.report.page import Card, Page, Section, section
from vg_engine.report.pictures import Outline

_LARGE = 3  # numbers that stand above the table
_PLOTTED = ("acc@0.5", "pointing", "giou_lisa")  # the first two that were measured
_BY_GROUP = ("acc@0.5", "pointing", "giou_lisa")
_RIGHT = 0.5  # IoU from which an answer is called right
_MOST_VALUES = 40  # of a table by group; the rest is in eval.json
_HALF, _WHOLE = 500, 720  # CSS pixels of a chart


def page(
    evaluation: Evaluation,
    cases: tuple[Sequence[Shown], Sequence[Shown]],
    *,
    command: str = "",
) -> Page:
    """The report.

    Args:
        evaluation: what was measured.
        cases: the worst and the best, with pictures.
        command: what made it.
    """
    settings, main = evaluation.settings, evaluation.columns.contestants[0]
    worst, best = cases
    parts = [
        _scores(evaluation),
        _controls(evaluation),
        _groups(evaluation),
        _fit(evaluation),
        _cases("Worst answers", worst, keyed=True),
        _cases("Best answers", best, keyed=not worst),
        _faults(evaluation),
        _provenance(evaluation),
    ]
    return Page(
        f"{main.name} on {settings['data']}",
        f"model {model_name(settings)}, {evaluation.table.n:,} sentences about "
        f"{evaluation.pictures:,} pictures",
        tuple(part for part in parts if part is not None),
        command=command,
        made=str(evaluation.remarks.get("date") or ""),
    )


def model_name(settings: Mapping[str, Any]) -> str:
    """How a model is called in a title: its known name, else the last part of its own."""
    return str(settings.get("entry") or str(settings["model"]).rstrip("/").rpartition("/")[2])


def cell_of(value: str, below: str = "") -> Markup:
    """Two lines of a cell: what counts, and what stands back."""
    small = join(tag("br"), tag("span", below, class_="interval")) if below else None
    return join(value, small)


def estimate_cell(estimate: Estimate, *, muted: bool = False) -> Markup:
    """A number above its interval, for tables of many columns."""
    if math.isnan(estimate.value):
        return tag("span", "n/a", class_="interval")
    value, _, interval = str(estimate).partition(" ")
    return cell_of(tag("span", value, class_="interval") if muted else value, interval)


def paired_cells(difference: Paired) -> tuple[Markup, Markup]:
    """A difference above its interval, and its p-value."""
    if math.isnan(difference.difference):
        nothing = tag("span", "n/a", class_="interval")
        return nothing, nothing
    value, _, p = str(difference).replace("-", "−").partition(", p = ")
    value, _, interval = value.partition(" ")
    return cell_of(value, interval), join(f"{difference.p:.3f}" if difference.p >= 5e-4 else p)


def score_table(table: Table, names: Sequence[str], *, caption: str = "") -> Markup:
    """A row per contestant, controls in grey, and a column per metric."""
    return kit.table(
        ["", *(metric(name).title for name in names)],
        [
            [
                cell_of(row.contestant.name, row.contestant.said),
                *(estimate_cell(row.scores[name]) for name in names),
            ]
            for row in table.rows
        ],
        align="l" + "r" * len(names),
        highlight={0},
        muted={i for i, row in enumerate(table.rows) if row.contestant.control},
        caption=caption,
    )


def _scores(evaluation: Evaluation) -> Section:
    table = evaluation.table
    names = [name for name in SHORT if name in table.metrics]
    scores = table.rows[0].scores
    large = [(metric(n).title, scores[n], metric(n).description) for n in names[:_LARGE]]
    resamples = evaluation.settings["resamples"]
    intervals = (
        f"In brackets: the middle 95 % of {resamples:,} resamples of whole pictures, because "
        "sentences about one picture are not independent. Grey rows are controls: what is reached "
        "without knowing the localization heads."
    )
    parts = [kit.numbers(*large), score_table(table, names), intervals]
    if set(table.metrics) - set(names):
        parts.append(kit.details("All metrics", score_table(table, table.metrics)))
    return section("Scores", *parts, *(kit.note("info", text) for text in evaluation.notes))


def _controls(evaluation: Evaluation) -> Section | None:
    table = evaluation.table
    if len(table.rows) == 1:
        return None
    plotted = [name for name in _PLOTTED if name in table.metrics][:2]
    plots = [
        kit.figure(
            charts.dots_with_intervals(
                [
                    charts.Row(
                        row.contestant.name,
                        row.scores[name],
                        control=row.contestant.control,
                        highlight=not i,
                        note=row.contestant.said,
                    )
                    for i, row in enumerate(table.rows)
                ],
                title=metric(name).title,
                low=0.0,
                high=1.0,
                reference=table.rows[0].scores[name].value,
                width=_WHOLE,
            )
        )
        for name in plotted
    ]
    return section("Beside the controls", *plots, *_against(evaluation))


def _against(evaluation: Evaluation) -> Iterator[Markup | str]:
    main = evaluation.columns.contestants[0]
    names = list(evaluation.against[0].differences)
    if not names:
        return
    rows = []
    for one in evaluation.against:
        cells: list[Markup] = []
        for name in names:
            cells += paired_cells(one.differences[name])
        rows.append([one.contestant.name, *cells])
    titles = [title for name in names for title in (metric(name).title, "p")]
    yield kit.table(
        ["", *titles], rows, align="l" + "r" * len(titles), caption=f"{main.name} less each other"
    )
    yield (
        "Differences on the same samples, with their 95 % intervals. p: how often a difference as "
        "large would come about if the two changed places picture by picture. It is not corrected "
        "for the number of comparisons."
    )


def _groups(evaluation: Evaluation) -> Section | None:
    parts: list[Markup] = []
    for key, groups in evaluation.groups.items():
        if len(groups) > 1:
            parts += _by_group(key, groups)
    if any(group.table.n for group in evaluation.sizes):
        parts += _by_group("object size", evaluation.sizes)
    if not parts:
        return None
    sizes = (
        "Object size is COCO's: small below 32 x 32 pixels of the original picture, medium below "
        "96 x 96, large from there on."
    )
    return section("By group", *parts, sizes)


def _by_group(key: str, groups: Sequence[Group]) -> Iterator[Markup]:
    """Per metric a table: a row per value, a column per contestant."""
    shown = groups[:_MOST_VALUES]
    for name in [n for n in _BY_GROUP if n in groups[0].table.metrics][:2]:
        contestants = [row.contestant for row in groups[0].table.rows]
        rows = [
            [
                group.value,
                group.table.n,
                *(
                    estimate_cell(row.scores[name], muted=row.contestant.control)
                    for row in group.table.rows
                ),
            ]
            for group in shown
        ]
        more = len(groups) - len(shown)
        left_out = f"; {more} more in eval.json" if more else ""
        yield kit.table(
            [key, "n", *(c.name for c in contestants)],
            rows,
            align="l" + "r" * (1 + len(contestants)),
            caption=f"{metric(name).title} by {key}{left_out}",
        )


def _fit(evaluation: Evaluation) -> Section | None:
    columns = evaluation.columns
    main = columns.contestants[0]
    if not columns.histogram.sum():
        return None
    edges = [f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}" for i in range(BINS)]
    histogram = charts.bars(
        edges,
        columns.histogram,
        title=f"IoU of {main.name}, sentences per bin",
        decimals=0,
        width=_HALF,
    )
    curves = [
        charts.Series(c.name, columns.curves[c.name], THRESHOLDS, muted=c.control)
        for c in columns.contestants
        if c.kind not in ("mean", "single")  # they would lie on the others
    ]
    accuracy = charts.line(
        curves,
        title="Accuracy by the IoU that is asked for",
        x_label="IoU",
        y_label="share of sentences",
        from_zero=True,
        width=_HALF,
        height=340,
    )
    return section("How boxes fit", kit.columns(kit.figure(histogram), kit.figure(accuracy)))


def _cases(title: str, cases: Sequence[Shown], *, keyed: bool) -> Section | None:
    if not cases:
        return None
    cards = [_card(case) for case in cases]
    return section(title, *([pictures.key("answer", "truth")] if keyed else []), kit.gallery(cards))


def _card(case: Shown) -> Card:
    record = case.record
    answer = next(iter(record["answers"].values()))
    boxes = [Outline(corners(box)) for box in answer["boxes"]]
    boxes += [Outline(corners(box), "truth") for box in record["boxes"] or ()]
    x, y = map(float, answer["point"])
    drawn = pictures.overlay(case.picture, case.heat, boxes, (x, y))
    right = is_right(answer)
    return Card(
        pictures.img(drawn, f"{record['text']}: answer and truth"),
        record["text"],
        [*facts_of(record, answer), *map(str, record["groups"].values()), record["id"]],
        "" if right is None else "good" if right else "bad",
    )


def corners(box: Sequence[float | int]) -> Box:
    """A box of a record."""
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom


def is_right(answer: Mapping[str, Any]) -> bool | None:
    """Whether an answer counts as right: by its box, else its masks, else its peak."""
    if answer["iou"] is not None:
        return bool(answer["iou"] >= _RIGHT)
    if answer["union"]:
        return bool(answer["inter"] / answer["union"] >= _RIGHT)
    return None if answer["hit"] is None else bool(answer["hit"])


def facts_of(record: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """What an answer is worth, in a few words."""
    told = []
    if answer["iou"] is not None:
        told.append(f"IoU {answer['iou']:.2f}")
    elif answer["union"]:
        told.append(f"mask IoU {answer['inter'] / answer['union']:.2f}")
    if answer["hit"] is not None:
        told.append("peak inside" if answer["hit"] else "peak outside")
    if not answer["found"]:
        told.append("nothing found")
    if record["bucket"] is not None:
        told.append(record["bucket"])
    return told


def _faults(evaluation: Evaluation) -> Section | None:
    count = evaluation.fault_count
    if not count:
        return None
    said = "1 record" if count == 1 else f"{count:,} records"
    more = f" The first {len(evaluation.faults)}:" if count > len(evaluation.faults) else ""
    rows = [[fault.id, fault.error] for fault in evaluation.faults]
    return section(
        "Faults",
        f"{said} could not be used and {'is' if count == 1 else 'are'} not in the scores.{more}",
        kit.table(["record", "why"], rows),
    )


def _provenance(evaluation: Evaluation) -> Section:
    settings = evaluation.settings
    prompts = [f"{p['form']}, {p['template']!r}, {p['query_row']}" for p in settings["prompts"]]
    known = {
        "model": settings["model"],
        "revision": settings["revision"],
        "fingerprint": settings["fingerprint"],
        "adapter": settings["adapter"],
        "shape": f"{settings['layers']} layers x {settings['heads_per_layer']} heads",
        "precision": f"{settings['dtype']} on {settings['device']}",
        "prompt": prompts,
        "region": f"{settings['region']}, sigma {settings['sigma']:g}, kernel {settings['kernel']}",
        "post-processors": settings["postprocess"] or None,
        "data": settings["data"],
        "data revision": settings["data_revision"],
        "samples": settings["samples"],
        "limit": settings["limit"],
        "seed": settings["seed"],
        "resamples": settings["resamples"],
        "tool": settings["tool"],
    }
    main = evaluation.columns.contestants[0]
    if main.heads:
        known["heads"] = [str(head) for head in main.heads]
    told = {metric(n).title: metric(n).description for n in evaluation.table.metrics}
    return section(
        "How it was measured",
        kit.facts({name: thing for name, thing in known.items() if thing is not None}),
        kit.details("What the metrics mean", kit.facts(told)),
    )
