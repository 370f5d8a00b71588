"""What a discovery hands over: the head set with its provenance, and all numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vg_engine._version import __version__
from vg_engine.core.attention.criteria import elbow
from vg_engine.core.evaluation.intervals import Estimate, spearman
from vg_engine.core.evaluation.samples import Fault
from vg_engine.core.heads import HeadSet
from vg_engine.core.selection.head_statistics import HIT, INSIDE, IOU
from vg_engine.core.selection.ranking import Selection
from vg_engine.measure.discovery import Discovery
from vg_engine.measure.loop import fault_records
from vg_engine.measure.modes import Mode
from vg_engine.plugins.exporters.records import plain

_DIGITS = 6
_SHOWN_FAULTS = 20


def head_set(
    discovery: Discovery, name: str, text: str | None = None, models: Sequence[str] = ()
) -> HeadSet:
    """The head set of one mode.

    Args:
        discovery: what was found.
        name: of the set.
        text: the mode as the user named it; None = the first.
        models: ids and names of the model that it is for; its own name, if empty.
    """
    text = text or discovery.mode.text
    found, mode, kept = discovery.found[text], discovery.modes[text], discovery.settings
    stated = {
        "revision": kept["revision"],
        "model_fingerprint": kept["fingerprint"],
        "adapter": kept["adapter"],
        "dtype": kept["dtype"],
        "data": kept["data"],
        "data_revision": kept["data_revision"],
        "n": discovery.measured,
        "samples": kept["samples"],
        "draws": kept["draws"],
        "seed": kept["seed"],
        "k": found.k,
        "per_sample": mode.options.get("per_sample", getattr(mode.rule, "per_sample", None)),
        "threshold": round(found.threshold, _DIGITS) if found.thresholds else None,
        "cut": kept["criteria"]["cut"],
        "weighting": kept["criteria"]["weighting"],
        "connectivity": kept["criteria"]["connectivity"],
        "neutral": kept["neutral"] if any("contrast" in c for c in mode.rule.needs) else None,
        "faults": len(discovery.faults),
        "prompt": dict(kept["prompt"]),
        "region": kept["region"],
        "tool_version": __version__,
        "date": discovery.remarks.get("date"),
        "source": "vg-engine discover",
        "notes": [*_words(mode), *found.notes, *discovery.statements],
    }
    return HeadSet(
        name=name,
        heads=found.heads,
        mode=mode.name,
        model=tuple(models) or (str(kept["model"]),),
        layers=kept["layers"],
        heads_per_layer=kept["heads_per_layer"],
        frequency=_rounded(found.frequency[: found.k]),
        spread=_rounded(found.frequency_spread[: found.k]),
        score=_rounded(found.scores[: found.k]),
        provenance={key: value for key, value in stated.items() if value not in (None, [], "")},
    )


def _words(mode: Mode) -> list[str]:
    """The options of the mode that a head set has no key for."""
    more = {key: value for key, value in mode.options.items() if key != "per_sample"}
    return [f"mode options: {', '.join(f'{k}={v}' for k, v in more.items())}"] if more else []


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)


def to_json(discovery: Discovery) -> dict[str, Any]:
    """All numbers of a discovery; floats have six decimals, what is unknown is null."""
    return {
        "tool": f"vg-engine {__version__}",
        "date": discovery.remarks.get("date"),
        "settings": plain(discovery.settings),
        "statements": list(discovery.statements),
        "samples": {
            "in_data": discovery.in_data,
            "drawn": discovery.drawn,
            "measured": discovery.measured,
            "per_draw": list(discovery.chosen.samples),
            "resampled": discovery.resampled,
        },
        "faults": shown_faults(discovery.faults),
        "heads": [str(head) for head in discovery.heads],
        "means": {
            name: [_number(value) for value in values] for name, values in discovery.means.items()
        },
        "modes": {
            text: _mode_json(discovery, text, found) for text, found in discovery.found.items()
        },
    }


def shown_faults(faults: Sequence[Fault]) -> dict[str, Any]:
    """Faults for people: how many, and the first of them."""
    return {"count": len(faults), "first": fault_records(faults[:_SHOWN_FAULTS])}


def correlations(discovery: Discovery, found: Selection) -> Mapping[str, Estimate]:
    """Spearman's rho over the candidates between what ranked them and how well each does alone.

    By column (`iou`, `hit`, `inside`); only what was measured.
    """
    where = [discovery.heads.index(head) for head in found.ranked]
    ranks = found.frequency if len(found.frequency) else found.scores
    told = {}
    for name in (IOU, HIT, INSIDE):
        values = discovery.means.get(name)
        if values is None:
            continue
        known = ~np.isnan(values[where])
        if known.any():
            told[name] = spearman(ranks[known], values[where][known])
    return told


def _mode_json(discovery: Discovery, text: str, found: Selection) -> dict[str, Any]:
    mode = discovery.modes[text]
    criterion = found.criterion
    counted = len(found.frequency) > 0
    return {
        "mode": mode.name,
        "options": plain(mode.options),
        "k": found.k,
        "heads": [str(head) for head in found.heads],
        "ranked": [
            {
                "head": str(head),
                "score": _number(found.scores[i]),
                "spread": _number(found.spread[i]),
                **(
                    {
                        "frequency": _number(found.frequency[i]),
                        "frequency_spread": _number(found.frequency_spread[i]),
                    }
                    if counted
                    else {}
                ),
            }
            for i, head in enumerate(found.ranked)
        ],
        "threshold": _number(found.threshold),
        "thresholds": [_number(value) for value in found.thresholds],
        "criterion": [_number(value) for value in criterion],
        "elbow_index": elbow(criterion).index if len(criterion) else None,
        "tops": [[str(head) for head in top] for top in found.tops],
        "stability": _number(found.stability),
        "spearman": {
            name: {"rho": _number(one.value), "low": _number(one.low), "high": _number(one.high)}
            for name, one in correlations(discovery, found).items()
        },
        "notes": list(found.notes),
    }


def _number(value: float) -> float | None:
    number = float(value)
    return round(number, _DIGITS) if np.isfinite(number) else None
