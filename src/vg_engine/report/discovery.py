"""The report of a discovery: which heads, why these, how sure, and what they look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vg_engine.core.attention.criteria import elbow
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.evaluation.samples import Sample
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import ATTENTION, COLUMNS, ENTROPY, HIT, INSIDE, IOU
from vg_engine.core.selection.ranking import Selection
from vg_engine.measure.discovery import Discovery
from vg_engine.measure.findings import correlations, shown_faults
from vg_engine.report import charts, pictures
from vg_engine.report.page import (
    Card,
    Page,
    Section,
    columns,
    details,
    facts,
    figure,
    gallery,
    note,
    numbers,
    section,
    strip,
    table,
)
from vg_engine.report.pictures import Outline

_BARS, _STABLE, _TILES = 20, 12, 8
_OTHERS = 3  # head maps that were not chosen, beside those that were
_ON_PAPER = {
    ATTENTION: "mean S_img",
    ENTROPY: "mean entropy",
    INSIDE: "share inside",
    IOU: "own IoU",
    HIT: "own pointing",
}


@dataclass(frozen=True, eq=False)
class Example:
    """A sample that is shown: what all heads saw, and what the chosen ones answer together."""

    sample: Sample
    picture: Picture
    maps: HeadMaps
    answer: Grounding


def page(
    discovery: Discovery, examples: Sequence[Example] = (), *, use: str = "", command: str = ""
) -> Page:
    """The report, to be rendered.

    Args:
        discovery: what was found.
        examples: pictures to show.
        use: the command that makes these heads the model's own.
        command: what made it.
    """
    found, kept = discovery.chosen, discovery.settings
    sections = [
        _summary(discovery, found, use),
        _elbow(found),
        _ranking(discovery, found),
        _layers(discovery, found),
        _stability(found),
        _labels(discovery, found),
        _modes(discovery),
        _examples(found, examples),
        _faults(discovery),
        section("Provenance", facts(_provenance(discovery))),
    ]
    return Page(
        f"Localization heads of {kept['model']}",
        f"mode {discovery.mode.text}, on {kept['data']}",
        tuple(part for part in sections if part is not None),
        command=command,
        made=str(discovery.remarks.get("date") or ""),
    )


def _summary(discovery: Discovery, found: Selection, use: str) -> Section:
    remarks = [note("info", sentence) for sentence in (*found.notes, *discovery.statements)]
    if discovery.resampled:
        remarks.append(
            note(
                "info",
                f"The data set holds no more than {discovery.settings['samples']} sentences, so "
                "the draws are resamples of all of it, picture by picture.",
            )
        )
    figures: list[tuple[str, object, str]] = [
        ("heads", ", ".join(map(str, found.heads)), f"of {len(discovery.heads):,} in the model"),
        ("sentences", discovery.measured, f"in {len(found.samples)} draws"),
    ]
    if found.thresholds:
        figures.append(("τ", found.threshold, f"{len(found.ranked):,} heads are candidates"))
    if not math.isnan(found.stability):
        figures.append(("stability", found.stability, "of the chosen are shared by two draws"))
    after = f"Use them from now on: {use}" if use else ""
    return section("Found", numbers(*figures), *filter(None, [after]), *remarks)


def _elbow(found: Selection) -> Section | None:
    if not len(found.criterion):
        return None
    point = elbow(found.criterion)
    chart = charts.elbow(
        found.criterion,
        index=point.index,
        threshold=point.threshold,
        title="Criterion 1: who looks at the picture",
        y_label="mean over all draws",
    )
    spread = ""
    if len(found.thresholds) > 1:
        spread = ", ".join(f"{value:.3g}" for value in found.thresholds)
        spread = f" Each draw has its own elbow: {spread}."
    return section(
        "Elbow",
        figure(
            chart,
            "The criterion of every head, sorted. The elbow is the point furthest below the chord; "
            f"what reaches it is kept.{spread}",
        ),
    )


def _ranking(discovery: Discovery, found: Selection) -> Section:
    counted = len(found.frequency) > 0
    values, errors = (
        (found.frequency, found.frequency_spread) if counted else (found.scores, found.spread)
    )
    shown = min(_BARS, len(found.ranked))
    word = "selection frequency" if counted else "score"
    names = [str(head) for head in found.ranked[:shown]]
    parts: list[str] = []
    if (values[:shown] >= 0).all():
        chart = charts.bars(
            names,
            values[:shown],
            errors=errors[:shown] if len(found.thresholds or found.tops) > 1 else None,
            highlight=[str(head) for head in found.heads],
            title=f"The first {shown} heads by {word}",
            x_label=word,
            limit=1.0 if counted else None,
            decimals=2 if counted else 3,
        )
        parts.append(figure(chart, "The chosen heads in colour; whiskers: spread over the draws."))
    known = [key for key in _ON_PAPER if key in discovery.means]
    rows = []
    for rank, head in enumerate(found.ranked[:shown]):
        column = discovery.heads.index(head)
        means = [_known(discovery.means[key][column]) for key in known]
        rows.append([rank + 1, str(head), float(values[rank]), *means])
    listed = table(
        ["rank", "head", word, *(_ON_PAPER[key] for key in known)],
        rows,
        highlight=range(found.k),
        align="rl" + "r" * (1 + len(known)),
    )
    legend = {_ON_PAPER[key]: COLUMNS[key] for key in known}
    return section("Ranking", *parts, listed, details("What the columns say", facts(legend)))


def _layers(discovery: Discovery, found: Selection) -> Section:
    counted = len(found.frequency) > 0
    values = found.frequency if counted else found.scores
    ranked = dict(zip(found.ranked, values, strict=True))
    attention = dict(zip(found.all_heads, found.mean_attention, strict=True))
    marks = [(head.layer, head.head) for head in found.heads]
    told = {"selection frequency" if counted else "score": ranked, "mean S_img": attention}
    maps = [
        figure(charts.heat(_matrix(discovery, by_head), title=word, value_label=word, marks=marks))
        for word, by_head in told.items()
    ]
    own = discovery.means.get(IOU)
    if own is not None:
        by_head = dict(zip(discovery.heads, own, strict=True))
        maps.append(
            figure(
                charts.heat(
                    _matrix(discovery, by_head),
                    title="IoU of each head's own box",
                    value_label="mean IoU",
                    marks=marks,
                )
            )
        )
    return section(
        "Layers and heads",
        "Layer 0 is the top row; crossed-out heads were no candidates or not looked at.",
        columns(*maps),
    )


def _matrix(discovery: Discovery, values: Mapping[Head, float]) -> np.ndarray:
    shape = (int(discovery.settings["layers"]), int(discovery.settings["heads_per_layer"]))
    matrix = np.full(shape, np.nan)
    for head, value in values.items():
        matrix[head.layer, head.head] = value
    return matrix


def _stability(found: Selection) -> Section | None:
    if len(found.tops) < 2:
        return None
    chart = charts.stability(
        [[str(head) for head in top[:_STABLE]] for top in found.tops],
        highlight=[str(head) for head in found.heads],
        title=f"The best {min(found.k, _STABLE)} of each draw",
    )
    size = min(found.samples)
    return section(
        "Stability",
        figure(chart, f"A dot with its rank per draw of {size:,} sentences."),
    )


def _labels(discovery: Discovery, found: Selection) -> Section | None:
    told = correlations(discovery, found)
    own = discovery.means.get(IOU)
    if own is None or IOU not in told:
        return None
    where = [discovery.heads.index(head) for head in found.ranked]
    counted = len(found.frequency) > 0
    word = "selection frequency" if counted else "score"
    rho = told[IOU]
    chart = charts.scatter(
        found.frequency if counted else found.scores,
        own[where],
        labels=[str(head) for head in found.ranked],
        highlight=[str(head) for head in found.heads[:_TILES]],
        title=f"{word.capitalize()} against IoU",
        note=f"Spearman's ρ = {rho.value:.2f}" if not math.isnan(rho.value) else "",
        x_label=word,
        y_label="mean IoU of the head's own box",
    )
    rows = [[_ON_PAPER[key], one, one.n] for key, one in told.items()]
    return section(
        "Does the ranking follow the truth?",
        columns(
            figure(chart, f"One dot per candidate, on {_boxed(discovery)} sentences."),
            table([f"{word} against", "Spearman's ρ", "heads"], rows),
        ),
    )


def _boxed(discovery: Discovery) -> int:
    return min(int(discovery.settings["singles"]), discovery.measured)


def _modes(discovery: Discovery) -> Section | None:
    if len(discovery.found) < 2:
        return None
    first = set(discovery.chosen.heads)
    rows = [
        [
            text,
            ", ".join(map(str, found.heads)),
            len(first & set(found.heads)),
            None if math.isnan(found.stability) else found.stability,
        ]
        for text, found in discovery.found.items()
    ]
    return section(
        "Other modes on the same observations",
        table(["mode", "heads", "shared", "stability"], rows, highlight=(0,), align="llrr"),
    )


def _examples(found: Selection, examples: Sequence[Example]) -> Section | None:
    if not examples:
        return None
    key = pictures.key("answer", "truth")
    return section(
        "What they look at",
        "The chosen heads together; below each picture the heads one by one, then "
        f"{_OTHERS} that were not chosen.",
        key,
        gallery([_card(found, example) for example in examples]),
    )


def _card(found: Selection, example: Example) -> Card:
    sample, answer = example.sample, example.answer
    true_boxes = [] if sample.boxes is None else sample.boxes.tolist()
    truth = [Outline((a, b, c, d), "truth") for a, b, c, d in true_boxes]
    own = [Outline(answer.box)] if answer.box is not None else []
    drawn = pictures.overlay(example.picture, answer.soft_map, [*own, *truth], answer.point)
    others = [head for head in found.ranked if head not in found.heads][-_OTHERS:]
    shown = [*found.heads[:_TILES], *others]
    tiles = pictures.head_tiles(example.picture, example.maps, shown, boxes=truth, max_side=120)
    return Card(
        pictures.img(drawn, f"{sample.text}: what the chosen heads look at"),
        sample.text,
        facts=[f"score {answer.score:.2f}"],
        more=details(
            "head by head",
            strip([(pictures.img(tile.image, tile.caption), tile.caption) for tile in tiles]),
        ),
    )


def _faults(discovery: Discovery) -> Section | None:
    told = shown_faults(discovery.faults)
    if not told["count"]:
        return None
    rows = [[one["id"], one["error"]] for one in told["first"]]
    more = told["count"] - len(rows)
    return section(
        "What could not be used",
        note("warning", f"{told['count']:,} records could not be used."),
        table(["record", "why"], rows, align="ll"),
        *([f"and {more:,} more; discovery.json counts them."] if more else []),
    )


def _provenance(discovery: Discovery) -> dict[str, object]:
    kept = discovery.settings
    prompt = kept["prompt"]
    return {
        "model": kept["model"],
        "revision": kept["revision"] or kept["fingerprint"],
        "adapter": kept["adapter"],
        "precision": f"{kept['dtype']} on {kept['device']}",
        "prompt": f"{prompt['form']}, {prompt['template']}",
        "query row": prompt["query_row"],
        "data": kept["data"],
        "data revision": str(kept["data_revision"])[:16],
        "sentences": f"{discovery.in_data:,} in the data, {discovery.drawn:,} drawn, "
        f"{discovery.measured:,} measured",
        "draws": f"{kept['draws']} of {kept['samples']:,}, seed {kept['seed']}",
        "entropy": "cut {cut} x mean, {connectivity}-connected, by {weighting}".format(
            **kept["criteria"]
        ),
        "region of own boxes": kept["region"],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
