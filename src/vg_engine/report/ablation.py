"""The report of an ablation: a chart and a table per choice of the method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vg_engine.core.evaluation.outcomes import metric
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import HIT, INSIDE, IOU
from vg_engine.measure.ablated import Row, Table
from vg_engine.measure.ablation import Ablation
from vg_engine.measure.findings import shown_faults
from vg_engine.report import charts
from vg_engine.report import page as kit
from vg_engine.report.evaluation import cell_of, estimate_cell, model_name, paired_cells
from vg_engine.report.markup import Markup, tag
from vg_engine.report.page import Page, Section, section

SPEARMAN = {IOU: "IoU of its own box", HIT: "pointing", INSIDE: "share inside the true boxes"}
_WIDE = 720  # CSS pixels of a chart
_NAMED = 5  # heads that a row lists
_WORDS = {
    "acc@0.5": "boxes with an IoU of 0.5 or more",
    "miou": "mean IoU of boxes",
    "pointing": "peaks on the target",
    "ciou": "overlap of all masks",
}
_OWN_HEADS = ("k", "criteria", "per_sample", "entropy", "query_row")  # the others share theirs
# What each table varies, and what the paper varied (its section 4).
_SAID = {
    "k": "The heads of highest rank, their maps added up. The paper compares 1 to 5.",
    "criteria": "One criterion, both, other rules, and no rule at all. The paper compares each "
    "criterion alone, both on each sentence anew, and both with heads that stay fixed.",
    "sigma": "How wide the Gaussian is that smooths the heads' maps; 0 is no smoothing. The paper "
    "varies it from 0 to 1.8.",
    "kernel": "How many cells that Gaussian spans; 1 is no smoothing. The paper varies it from 1 "
    "to 11.",
    "per_sample": "Each calibration sentence votes for its N candidates of lowest entropy, and the "
    "heads with most votes are taken. The paper varies N from 1 to 14.",
    "region": "What stands between the summed map and the answer, with the default heads. The "
    "paper knows one, called paper here.",
    "entropy": "How the entropy of a map is taken before sentences vote. Each row looked at the "
    "calibration data anew.",
    "query_row": "Whose attention is read. Each row chose its own heads and asked anew.",
}
_TOLD = "A region that undoes the smoothing is told what it was."


def page(found: Ablation, *, command: str = "") -> Page:
    """The report.

    Args:
        found: what was measured.
        command: what made it.
    """
    settings = found.settings
    parts = [
        _default(found),
        *(_table(found, table) for table in found.tables.values()),
        _spearman(found),
        _faults(found),
        _provenance(found),
    ]
    return Page(
        f"Ablations of {model_name(settings)}",
        f"Heads chosen on {found.calibration.discovery.settings['data']}, scored on "
        f"{settings['data']}: {found.n:,} sentences about {found.pictures:,} pictures",
        tuple(part for part in parts if part is not None),
        command=command,
        made=str(found.remarks.get("date") or ""),
    )


def _default(found: Ablation) -> Section:
    """The row that all others are compared with."""
    row, settings = found.default, found.settings
    reading = settings["readings"][0]
    large = [(metric(name).title, row.scores[name], _WORDS[name]) for name in found.metrics]
    heads = ", ".join(map(str, row.variant.heads))
    mode = found.calibration.discovery.mode.text
    return section(
        "The default",
        kit.numbers(*large),
        f"Mode {mode} fixes {heads}; their maps are smoothed with sigma {reading['sigma']:g} and "
        f"kernel {reading['kernel']}, added up, and read as region {reading['region']}. Every "
        "other row changes one thing. In brackets and as bands: the middle 95 % of "
        f"{settings['resamples']:,} resamples of whole pictures. Differences are taken sample by "
        "sample; with so many rows some will differ by chance alone.",
        *(kit.note("warning", text) for text in found.warnings),
        *(kit.note("info", text) for text in found.notes),
    )


def _table(found: Ablation, table: Table) -> Section:
    said = [_SAID[table.sheet.name]]
    if table.sheet.name in ("sigma", "kernel"):
        said.append(_TOLD)
    chart = _dots(found, table) if table.sheet.named else _lines(found, table)
    finding = [table.finding] if table.finding else []
    return section(
        table.sheet.title,
        " ".join(said),
        kit.figure(chart),
        *finding,
        _scores(found, table),
        kit.details("All differences to the default", _differences(found, table)),
    )


def _lines(found: Ablation, table: Table) -> Markup:
    """A line per metric over the values that were tried, the first with its interval."""
    rows = table.rows
    named = table.sheet.name != "sigma"  # the others stand at even steps, or at no place
    across = [float(i) if named else row.variant.value for i, row in enumerate(rows)]
    series = []
    for place, name in enumerate(found.metrics):
        scores = [row.scores[name] for row in rows]
        series.append(
            charts.Series(
                metric(name).title,
                [one.value for one in scores],
                across,
                low=None if place else [one.low for one in scores],
                high=None if place else [one.high for one in scores],
            )
        )
    first = found.metrics[0]
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
        width=_WIDE,
        height=340,
    )


def _dots(found: Ablation, table: Table) -> Markup:
    first = found.metrics[0]
    rows = [
        charts.Row(
            _label(row),
            row.scores[first],
            control=row.variant.control,
            highlight=row.variant.default,
            note=row.variant.said,
        )
        for row in table.rows
    ]
    return charts.dots_with_intervals(
        rows,
        title=f"{metric(first).title} by {table.sheet.axis}",
        reference=found.default.scores[first].value,
        width=_WIDE,
    )


def _label(row: Row) -> str:
    return f"{row.variant.label} (true boxes)" if row.variant.labelled else row.variant.label


def _scores(found: Ablation, table: Table) -> Markup:
    first, shown = found.metrics[0], table.distinct
    own = table.sheet.name in _OWN_HEADS
    rows = [
        [
            cell_of(_label(row), _below(row, heads=own)),
            *(estimate_cell(row.scores[name], muted=row.variant.control) for name in found.metrics),
            _less(row, first)[0],
        ]
        for row in shown
    ]
    titles = [metric(name).title for name in found.metrics]
    return kit.table(
        [table.sheet.axis, *titles, f"{titles[0]} less default"],
        rows,
        align="l" + "r" * (1 + len(titles)),
        highlight={i for i, row in enumerate(shown) if row.variant.default},
        caption=f"{found.n:,} sentences",
        muted={i for i, row in enumerate(shown) if row.variant.control},
    )


def _below(row: Row, *, heads: bool) -> str:
    """What stands below a row's name: its heads, where rows have their own, and a few words."""
    variant = row.variant
    named = _listed(variant.heads) if heads and not variant.control else ""
    return "; ".join(filter(None, (named, variant.said)))


def _listed(heads: Sequence[Head]) -> str:
    shown = ", ".join(map(str, heads[:_NAMED]))
    return shown if len(heads) <= _NAMED else f"{shown}, ..."


def _differences(found: Ablation, table: Table) -> Markup:
    rows = []
    for row in table.distinct:
        cells = [cell for name in found.metrics for cell in _less(row, name)]
        rows.append([_label(row), *cells])
    titles = [title for name in found.metrics for title in (metric(name).title, "p")]
    return kit.table(
        [table.sheet.axis, *titles],
        rows,
        align="l" + "r" * len(titles),
        highlight={i for i, row in enumerate(table.distinct) if row.variant.default},
    )


def _less(row: Row, name: str) -> tuple[Markup, Markup]:
    """The difference to the default, and its p-value."""
    if row.against:
        return paired_cells(row.against[name])
    said = "default" if row.variant.default else "the same"
    return tag("span", said, class_="interval"), tag("span", "", class_="interval")


def _spearman(found: Ablation) -> Section | None:
    if not found.spearman:
        return None
    discovery = found.calibration.discovery
    chosen = discovery.chosen
    counted = len(chosen.frequency) > 0
    word = "selection frequency" if counted else "score"
    values = chosen.frequency if counted else chosen.scores
    where = [discovery.heads.index(head) for head in chosen.ranked]
    rows = [[SPEARMAN[name], rho, rho.n] for name, rho in found.spearman.items()]
    parts = [kit.table([f"{word} against", "Spearman's ρ", "heads"], rows)]
    if IOU in found.spearman:
        rho = found.spearman[IOU].value
        chart = charts.scatter(
            values,
            discovery.means[IOU][where],
            labels=[str(head) for head in chosen.ranked],
            highlight=[str(head) for head in chosen.heads],
            title=f"{word.capitalize()} against IoU",
            note="" if math.isnan(rho) else f"Spearman's ρ = {rho:.2f}",
            x_label=word,
            y_label="mean IoU of the head's own box",
        )
        parts.insert(0, kit.figure(chart))
    boxed = min(int(discovery.settings["singles"]), discovery.measured)
    return section(
        "Does the ranking follow the truth?",
        f"Each candidate alone, on {boxed:,} sentences of the calibration data. The paper compares "
        "the same two.",
        kit.columns(*parts),
    )


def _faults(found: Ablation) -> Section | None:
    calibration = shown_faults(found.calibration.discovery.faults)
    told = [
        *_fault_table("calibration", calibration["count"], calibration["first"]),
        *_fault_table(
            "data", found.fault_count, [{"id": f.id, "error": f.error} for f in found.faults]
        ),
    ]
    return section("What could not be used", *told) if told else None


def _fault_table(where: str, count: int, first: Sequence[dict[str, str]]) -> Iterator[Markup]:
    if count:
        records = "1 record" if count == 1 else f"{count:,} records"
        yield kit.note("warning", f"{records} of the {where} could not be used.")
        yield kit.table(["record", "why"], [[f["id"], f["error"]] for f in first], align="ll")


def _provenance(found: Ablation) -> Section:
    settings, kept = found.settings, found.calibration.discovery.settings
    prompt = settings["prompt"]
    known = {
        "model": settings["model"],
        "revision": settings["revision"] or settings["fingerprint"],
        "adapter": settings["adapter"],
        "shape": f"{settings['layers']} layers x {settings['heads_per_layer']} heads",
        "precision": f"{settings['dtype']} on {settings['device']}",
        "prompt": f"{prompt['form']}, {prompt['template']}, {prompt['query_row']}",
        "calibration": kept["data"],
        "calibration revision": str(kept["data_revision"])[:16],
        "draws": f"{kept['draws']} of {kept['samples']:,}, seed {kept['seed']}",
        "data": settings["data"],
        "data revision": str(settings["data_revision"])[:16],
        "samples": f"{settings['samples']:,}, of which {found.n:,} were scored",
        "limit": settings["limit"],
        "readings of each": found.distinct,
        "seed": settings["seed"],
        "resamples": settings["resamples"],
        "tool": settings["tool"],
    }
    told = {metric(name).title: metric(name).description for name in found.metrics}
    return section(
        "How it was measured",
        kit.facts({name: thing for name, thing in known.items() if thing is not None}),
        kit.details("What the metrics mean", kit.facts(told)),
    )
