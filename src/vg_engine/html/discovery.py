"""The report of a discovery: the heads, why these, how sure, and what they look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from vg_engine.core.attention.criteria import elbow
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.heads import Head
from vg_engine.core.selection.head_statistics import ATTENTION, COLUMNS, ENTROPY, HIT, INSIDE, IOU
from vg_engine.core.selection.ranking import Selection
from vg_engine.html import charts, thumbnails
from vg_engine.html.cells import NOT_KNOWN
from vg_engine.html.report_page import ReportPage
from vg_engine.html.thumbnails import Card, Outline, outlines

if TYPE_CHECKING:
    from vg_engine.studies.discover.results import Discovery, Example

_BARS, _STABLE, _TILES = 20, 12, 8
_MOST = 0.6  # of the heads: from here on, an elbow says little
_FEW = 0.2  # of the heads: fewer cut off are hardly a choice
_UNMEASURED = (
    "Whether they beat random heads is not measured here, on the samples that chose them: "
    "vg-engine eval measures it on others."
)
FAULTS = 20  # records that are listed
_TILE = 240  # pixels of a head's map
_OTHERS = 3  # head maps that were not chosen, beside those that were
_COLUMN_NAMES = {
    ATTENTION: "mean S_img",
    ENTROPY: "mean entropy",
    INSIDE: "share inside",
    IOU: "own IoU",
    HIT: "own pointing",
}


def page(discovery: Discovery, *, use: str = "", command: str = "") -> ReportPage:
    """Make the report.

    Args:
        discovery: the result.
        use: the command that makes these heads the model's own.
        command: the command that made the report.
    """
    found, settings = discovery.chosen, discovery.settings
    correlations = discovery.correlations(found)
    context = {
        "discovery": discovery,
        "numbers": list(_numbers(discovery, found)),
        "use": use,
        "elbow_chart": _elbow_chart(found),
        "elbow_words": _elbow_words(discovery, found),
        "ranking_chart": _ranking_chart(found),
        "ranking": _ranking(discovery, found),
        "column_descriptions": {_COLUMN_NAMES[key]: COLUMNS[key] for key in _known(discovery)},
        "heat_maps": list(_heat_maps(discovery, found)),
        "stability_chart": _stability_chart(found),
        "truth_chart": truth_chart(discovery, correlations, found.heads[:_TILES]),
        "boxed": boxed(discovery),
        "correlations": correlation_table(found, correlations, _COLUMN_NAMES),
        "rules": _rules(discovery),
        "others": _OTHERS,
        "cards": [_card(found, example) for example in discovery.examples],
        "listed": FAULTS,
        "provenance": _provenance(discovery),
    }
    return ReportPage(
        "discovery",
        f"Localization heads of {settings['model']}",
        f"rule {discovery.rule.text}, on {settings['data']}",
        context,
        verdict=_verdict(found),
        command=command,
        made=str(discovery.remarks.get("date") or ""),
    )


def _verdict(found: Selection) -> tuple[str, ...]:
    """Say whether the draws agree. Whether the heads score well is measured by `eval`."""
    draws, choices = len(found.tops), len(set(map(frozenset, found.tops)))
    if draws < 2:
        agreed = "There is one draw: how much chance is in the choice is not known."
    elif choices == 1:
        agreed = f"Each of the {draws} draws chooses the same {found.k}."
    else:
        agreed = (
            f"The {draws} draws make {choices} different choices; two of them share "
            f"{100 * found.stability:.0f} % on average."
        )
    return (
        f"The heads are {', '.join(map(str, found.heads))}.",
        f"{agreed} {_UNMEASURED}",
    )


def ranked_by(found: Selection) -> tuple[str, Float64[np.ndarray, " ranked"]]:
    """The name of the value that ranks the heads, and the values, best first."""
    if len(found.frequency):
        return "selection frequency", found.frequency
    return "score", found.scores


def boxed(discovery: Discovery) -> int:
    """The number of sentences on which each head's own box was measured."""
    return min(int(discovery.settings["per_head"]), discovery.measured)


def _known(discovery: Discovery) -> list[str]:
    return [key for key in _COLUMN_NAMES if key in discovery.means]


def _numbers(discovery: Discovery, found: Selection) -> Iterator[tuple[str, object, str]]:
    yield "heads", found.heads, f"of {len(discovery.heads):,} in the model"
    yield "sentences", discovery.measured, f"in {len(found.samples)} draws"
    if found.thresholds:
        yield (
            "candidates",
            len(found.ranked),
            f"of {len(discovery.heads):,} heads: {_deep(discovery)}",
        )
    if not math.isnan(found.stability):
        yield (
            "stability",
            found.stability,
            "share of the chosen heads that two draws have in common",
        )


def _deep(discovery: Discovery) -> str:
    """Say which heads are candidates of a rule that has an elbow."""
    skipped = getattr(discovery.rule.rule, "skipped_layers", 0)
    deep = f", in layer {skipped} or deeper" if skipped else ""
    return f"they reach the elbow τ in some draw{deep}"


def _elbow_words(discovery: Discovery, found: Selection) -> str:
    """Describe the chart of the elbow, and say which heads are candidates."""
    if not len(found.criterion):
        return ""
    words = [elbow_words(found.criterion)]
    if len(found.thresholds) > 1:
        each = ", ".join(f"{value:.3g}" for value in found.thresholds)
        words.append(f"Each draw has an elbow of its own: τ = {each}.")
    words.append(f"{len(found.ranked):,} heads are candidates: {_deep(discovery)}.")
    return " ".join(words)


def elbow_words(criterion: Float64[np.ndarray, " heads"]) -> str:
    """Say what the curve of a criterion tells of the choice.

    Args:
        criterion: of the heads, in any order.
    """
    curve, point = np.sort(criterion), elbow(criterion)
    if not point.index:
        return "The curve never lies below its chord: it has no elbow, and all heads are kept."
    above = curve > np.linspace(curve[0], curve[-1], len(curve))
    if above.mean() <= _MOST:
        return "The elbow is the point furthest below the chord; the heads that reach it are kept."
    cut = int((curve < point.threshold).sum())
    few = ": here this criterion hardly narrows the choice, and the rest of the rule makes it"
    return (
        "The curve lies above its chord over most of its length: most heads have a high value. "
        "The elbow, the point furthest below the chord, cuts off "
        f"{cut:,} of {len(curve):,} heads{few if cut < _FEW * len(curve) else ''}."
    )


def _elbow_chart(found: Selection) -> str:
    if not len(found.criterion):
        return ""
    point = elbow(found.criterion)
    return charts.elbow(
        found.criterion,
        index=point.index,
        threshold=point.threshold,
        title="Criterion 1: which heads look at the picture",
        y_label="mean over all draws",
    )


def _ranking_chart(found: Selection) -> str:
    word, values = ranked_by(found)
    counted = len(found.frequency) > 0
    errors = found.frequency_spread if counted else found.spread
    shown = min(_BARS, len(found.ranked))
    if not (values[:shown] >= 0).all():
        return ""
    return charts.bars(
        [str(head) for head in found.ranked[:shown]],
        values[:shown],
        errors=errors[:shown] if len(found.thresholds or found.tops) > 1 else None,
        highlight=[str(head) for head in found.heads],
        title=f"The first {shown} heads by {word}",
        x_label=word,
        limit=1.0 if counted else None,
        decimals=2 if counted else 3,
    )


def _ranking(discovery: Discovery, found: Selection) -> dict[str, object]:
    word, values = ranked_by(found)
    known = _known(discovery)
    rows = []
    for rank, head in enumerate(found.ranked[:_BARS]):
        column = discovery.heads.index(head)
        means = [float(discovery.means[key][column]) for key in known]
        rows.append([rank + 1, str(head), float(values[rank]), *means])
    return {
        "columns": ["rank", "head", word, *(_COLUMN_NAMES[key] for key in known)],
        "rows": rows,
        "align": "rlr" + "r" * len(known),
        "highlight": range(found.k),
    }


def _heat_maps(discovery: Discovery, found: Selection) -> Iterator[str]:
    word, values = ranked_by(found)
    marks = [(head.layer, head.head) for head in found.heads]
    shown = [
        (word, word, found.ranked, values),
        ("mean S_img", "mean S_img", found.all_heads, found.mean_attention),
    ]
    if IOU in discovery.means:
        means = discovery.means[IOU]
        shown.append(("IoU of each head's own box", "mean IoU", discovery.heads, means))
    for title, label, heads, by_head in shown:
        matrix = _matrix(discovery, heads, by_head)
        yield charts.heat_map(matrix, title=title, value_label=label, marks=marks)


def _matrix(
    discovery: Discovery, heads: Sequence[Head], values: Float64[np.ndarray, " heads"]
) -> Float64[np.ndarray, "layers heads_per_layer"]:
    settings = discovery.settings
    matrix = np.full((int(settings["layers"]), int(settings["heads_per_layer"])), np.nan)
    for head, value in zip(heads, values, strict=True):
        matrix[head.layer, head.head] = value
    return matrix


def _stability_chart(found: Selection) -> str:
    if len(found.tops) < 2:
        return ""
    return charts.stability(
        [[str(head) for head in top[:_STABLE]] for top in found.tops],
        highlight=[str(head) for head in found.heads],
        title=f"The best {min(found.k, _STABLE)} of each draw",
    )


def truth_chart(
    discovery: Discovery, correlations: Mapping[str, Estimate], named: Sequence[Head]
) -> str:
    """The candidates: their rank value against the IoU of their own box; empty without IoUs.

    Args:
        discovery: the result.
        correlations: Spearman's rho by column.
        named: heads that are written.
    """
    if IOU not in correlations:
        return ""
    found, rho = discovery.chosen, correlations[IOU].value
    word, values = ranked_by(found)
    return charts.scatter(
        values,
        discovery.means[IOU][[discovery.heads.index(head) for head in found.ranked]],
        [str(head) for head in found.ranked],
        highlight=[str(head) for head in named],
        title=f"{word.capitalize()} against IoU",
        note="" if math.isnan(rho) else f"Spearman's ρ = {rho:.2f}",
        x_label=word,
        y_label="mean IoU of the head's own box",
    )


def correlation_table(
    found: Selection, correlations: Mapping[str, Estimate], names: Mapping[str, str]
) -> dict[str, object]:
    """The rank correlations of the ranking with what each head found alone, by their names."""
    return {
        "columns": [f"{ranked_by(found)[0]} against", "Spearman's ρ", "heads"],
        "rows": [[names[key], rho, rho.n] for key, rho in correlations.items()],
    }


def _rules(discovery: Discovery) -> list[tuple[object, ...]]:
    if len(discovery.found) < 2:
        return []
    first = set(discovery.chosen.heads)
    return [
        (text, found.heads, len(first & set(found.heads)), found.stability)
        for text, found in discovery.found.items()
    ]


def _card(found: Selection, example: Example) -> Card:
    sample, answer = example.sample, example.answer
    truth = outlines(None if sample.boxes is None else sample.boxes.tolist(), "truth")
    own = [Outline(answer.box)] if answer.box is not None else []
    others = [head for head in found.ranked if head not in found.heads][-_OTHERS:]
    shown = [*found.heads[:_TILES], *others]
    return Card(
        thumbnails.overlay(
            example.picture,
            answer.soft_map,
            [*own, *truth],
            answer.point,
            max_side=thumbnails.CARD,
        ),
        f"{sample.text}: what the chosen heads look at",
        sample.text,
        [f"score {answer.score:.2f}"],
        tiles=thumbnails.head_tiles(
            example.picture, example.maps, shown, boxes=truth, max_side=_TILE
        ),
    )


def _provenance(discovery: Discovery) -> dict[str, object]:
    settings = discovery.settings
    prompt, criteria = settings["prompt"], settings["criteria"]
    return {
        "model": settings["model"],
        "revision": settings["revision"] or settings["fingerprint"] or NOT_KNOWN,
        "adapter": settings["adapter"],
        "precision": f"{settings['dtype']} on {settings['device']}",
        "prompt": f"{prompt['form']}, {prompt['template']}",
        "query row": prompt["query_row"],
        "data": settings["data"],
        "data revision": str(settings["data_revision"])[:16],
        "sentences": f"{discovery.in_data:,} in the data, {discovery.drawn:,} drawn, "
        f"{discovery.measured:,} measured",
        "draws": f"{settings['draws']} of {settings['samples']:,}, seed {settings['seed']}",
        "entropy": f"cut {criteria['cut']} x mean, {criteria['connectivity']}-connected, "
        f"by {criteria['weighting']}",
        "region of own boxes": settings["region"],
    }
