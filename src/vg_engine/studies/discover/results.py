"""The result of a discovery: the heads by every rule, the head set, all numbers and the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine._version import __version__
from vg_engine.core.attention.criteria import elbow
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.evaluation.intervals import Estimate, spearman
from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.selection.head_statistics import HIT, INSIDE, IOU
from vg_engine.core.selection.ranking import Selection
from vg_engine.html import discovery as report
from vg_engine.plugins.exporters.records import plain
from vg_engine.plugins.files import prepare_folder, slug, write_whole
from vg_engine.registry import catalog
from vg_engine.registry.schema import dump_head_set
from vg_engine.studies.discover.rules import NamedRule
from vg_engine.studies.shared.files import REPORT, write_json, write_page
from vg_engine.studies.shared.numbers import DIGITS, rounded
from vg_engine.studies.shared.resumable import faults_json

NUMBERS = "discovery.json"


@dataclass(frozen=True, eq=False)
class Example:
    """A sample that the report shows.

    Attributes:
        sample, picture: what was asked.
        maps: of all heads.
        answer: of the chosen heads together.
    """

    sample: Sample
    picture: Picture
    maps: HeadMaps
    answer: Grounding


@dataclass(frozen=True, eq=False)
class Discovery:
    """The result of a discovery.

    Attributes:
        found: selection per rule, as the user named it; the first is the chosen one.
        rules: each as it was found, by the same texts.
        heads: every head that was looked at.
        means: per column (`COLUMNS` of `vg_engine.core.selection.head_statistics`) its mean over
            all that was drawn, per head; NaN where it was not measured.
        settings: what the observations depend on, as the journal keeps it.
        remarks: when the work began.
        in_data, drawn, measured: sentences in the data set, in any draw, and without a fault.
        faults: what could not be used.
        resampled: the draws are resamples of a small data set.
        statements: what the data set and the model say of themselves.
        examples: the first pictures, for the report.
    """

    found: Mapping[str, Selection]
    rules: Mapping[str, NamedRule]
    heads: tuple[Head, ...]
    means: Mapping[str, Float64[np.ndarray, " heads"]]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]
    in_data: int
    drawn: int
    measured: int
    faults: tuple[Fault, ...]
    resampled: bool
    statements: tuple[str, ...]
    examples: tuple[Example, ...] = ()

    def __repr__(self) -> str:
        heads = ", ".join(map(str, self.chosen.heads))
        return f"Discovery({self.rule.name}: {heads}; {self.measured} samples)"

    @property
    def chosen(self) -> Selection:
        """The selection of the first rule."""
        return next(iter(self.found.values()))

    @property
    def rule(self) -> NamedRule:
        """The first rule."""
        return next(iter(self.rules.values()))

    def save(
        self,
        folder: Path | str,
        *,
        name: str | None = None,
        model: str | None = None,
        command: str = "",
    ) -> Path:
        """Write the head set of the first rule, `discovery.json` and `report.html`.

        Args:
            folder: made if it does not exist.
            name: of the head set; the model's and the rule's without it.
            model: what the user calls the model; its own name without it.
            command: the command that made it, for the foot of the report.

        Returns:
            The head set's YAML file.

        Raises:
            OutputError: a file cannot be written.
        """
        folder = prepare_folder(Path(folder))
        name = name or self.default_name
        if model is None and self.settings["entry"] != catalog.EMBEDDED:
            model = str(self.settings["model"])
        entry = catalog.find_model(model) if model is not None else None
        models = dict.fromkeys((str(self.settings["model"]), *(entry.ids if entry else ())))
        path = folder / f"{name}.yaml"
        write_whole(path, dump_head_set(self.head_set(name, models=tuple(models))).encode())
        write_json(folder / NUMBERS, self.to_json())
        page = report.page(self, use=self.use_command(path, model), command=command)
        write_page(folder / REPORT, page)
        return path

    def use_command(self, head_set: Path, model: str | None = None) -> str:
        """The command that makes a saved head set the model's own."""
        words = ["vg-engine", "heads", "use", str(head_set)]
        return shlex.join([*words, *(["--model", model] if model is not None else [])])

    @property
    def default_name(self) -> str:
        """The head set's name where the user gives none: model and rule, never one that ships."""
        model = str(self.settings["model"]).rpartition("/")[2]
        name = f"{slug(model) or 'model'}-{slug(self.rule.name)}"
        return f"{name}-found" if (catalog.OURS / "heads" / f"{name}.yaml").exists() else name

    def head_set(self, name: str, text: str | None = None, models: Sequence[str] = ()) -> HeadSet:
        """Make the head set of one rule.

        Args:
            name: of the set.
            text: the rule as the user named it; None = the first.
            models: ids and names of the model that it is for; its own name, if empty.
        """
        text = text or self.rule.text
        found, rule, kept = self.found[text], self.rules[text], self.settings
        stated = {
            "revision": kept["revision"],
            "model_fingerprint": kept["fingerprint"],
            "adapter": kept["adapter"],
            "dtype": kept["dtype"],
            "data": kept["data"],
            "data_revision": kept["data_revision"],
            "n": self.measured,
            "samples": kept["samples"],
            "draws": kept["draws"],
            "seed": kept["seed"],
            "k": found.k,
            "per_sample": rule.options.get("per_sample", getattr(rule.rule, "per_sample", None)),
            "threshold": round(found.threshold, DIGITS) if found.thresholds else None,
            "cut": kept["criteria"]["cut"],
            "weighting": kept["criteria"]["weighting"],
            "connectivity": kept["criteria"]["connectivity"],
            "neutral": kept["neutral"] if any("contrast" in c for c in rule.rule.needs) else None,
            "faults": len(self.faults),
            "prompt": dict(kept["prompt"]),
            "region": kept["region"],
            "options": dict(kept["options"]),
            "tool_version": __version__,
            "date": self.remarks.get("date"),
            "source": "vg-engine discover",
            "notes": [*_words(rule), *found.notes, *self.statements],
        }
        return HeadSet(
            name=name,
            heads=found.heads,
            rule=rule.name,
            model=tuple(models) or (str(kept["model"]),),
            layers=kept["layers"],
            heads_per_layer=kept["heads_per_layer"],
            frequency=_rounded(found.frequency[: found.k]),
            spread=_rounded(found.frequency_spread[: found.k]),
            score=_rounded(found.scores[: found.k]),
            provenance={
                key: value for key, value in stated.items() if value not in (None, [], {}, "")
            },
        )

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `discovery.json` holds them: 6 decimals, what is unknown is null."""
        return {
            "tool": f"vg-engine {__version__}",
            "date": self.remarks.get("date"),
            "settings": plain(self.settings),
            "statements": list(self.statements),
            "samples": {
                "in_data": self.in_data,
                "drawn": self.drawn,
                "measured": self.measured,
                "per_draw": list(self.chosen.samples),
                "resampled": self.resampled,
            },
            "faults": faults_json(self.faults),
            "heads": [str(head) for head in self.heads],
            "means": {
                name: [rounded(value) for value in values] for name, values in self.means.items()
            },
            "rules": {text: _rule_json(self, text, found) for text, found in self.found.items()},
        }

    def correlations(self, found: Selection) -> Mapping[str, Estimate]:
        """Take Spearman's rho of the ranking with how well each candidate does alone.

        By column (`iou`, `hit`, `inside`); only what was measured.
        """
        where = [self.heads.index(head) for head in found.ranked]
        ranks = found.frequency if len(found.frequency) else found.scores
        told = {}
        for name in (IOU, HIT, INSIDE):
            values = self.means.get(name)
            if values is None:
                continue
            known = ~np.isnan(values[where])
            if known.any():
                told[name] = spearman(ranks[known], values[where][known])
        return told


def _words(rule: NamedRule) -> list[str]:
    """The options of the rule that a head set has no key for."""
    more = {key: value for key, value in rule.options.items() if key != "per_sample"}
    return [f"rule options: {', '.join(f'{k}={v}' for k, v in more.items())}"] if more else []


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)


def _rule_json(discovery: Discovery, text: str, found: Selection) -> dict[str, Any]:
    rule = discovery.rules[text]
    criterion = found.criterion
    counted = len(found.frequency) > 0
    return {
        "rule": rule.name,
        "options": plain(rule.options),
        "k": found.k,
        "heads": [str(head) for head in found.heads],
        "ranked": [
            {
                "head": str(head),
                "score": rounded(found.scores[i]),
                "spread": rounded(found.spread[i]),
                **(
                    {
                        "frequency": rounded(found.frequency[i]),
                        "frequency_spread": rounded(found.frequency_spread[i]),
                    }
                    if counted
                    else {}
                ),
            }
            for i, head in enumerate(found.ranked)
        ],
        "threshold": rounded(found.threshold),
        "thresholds": [rounded(value) for value in found.thresholds],
        "criterion": [rounded(value) for value in criterion],
        "elbow_index": elbow(criterion).index if len(criterion) else None,
        "tops": [[str(head) for head in top] for top in found.tops],
        "stability": rounded(found.stability),
        "spearman": {
            name: {"rho": rounded(one.value), "low": rounded(one.low), "high": rounded(one.high)}
            for name, one in discovery.correlations(found).items()
        },
        "notes": list(found.notes),
    }
