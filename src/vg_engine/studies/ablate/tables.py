"""The tables of an ablation and their rows (paper, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import PluginError
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import Region
from vg_engine.core.selection.random_heads import random_heads
from vg_engine.core.selection.ranking import Selection
from vg_engine.plugins import entrypoints
from vg_engine.studies.ablate.calibration import (
    ENTROPY_ALONE,
    IMAGE_ALONE,
    PAPER,
    Calibration,
    labelled,
)
from vg_engine.studies.ablate.variants import Reading, Sheet, Variant, VariantPlan

COUNTS = (1, 2, 3, 4, 5, 8, 16)
SIGMAS = (0.0, 0.4, 0.8, 1.0, 1.4, 1.8)
KERNELS = (1, 3, 5, 7, 9, 11)
_RULES = {
    IMAGE_ALONE: "S_img alone",
    ENTROPY_ALONE: "entropy alone",
    PAPER: "both, fixed heads",
}


def make_plan(
    engine: Engine, found: Calibration, tables: Sequence[str], *, draws: int = 20, seed: int = 0
) -> VariantPlan:
    """The tables that were asked for.

    Args:
        engine: its region and smoothing are the default row's.
        found: the heads, by every way of choosing them.
        tables: their names.
        draws, seed: of random heads.
    """
    return _Planner(engine, found, draws, seed).plan(tables)


@dataclass
class _Planner:
    """Makes the sheets, and gathers their readings on the way."""

    engine: Engine
    found: Calibration
    draws: int
    seed: int
    readings: list[Reading] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    regions: dict[str, Region] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plan(self, tables: Sequence[str]) -> VariantPlan:
        how = self.engine.settings
        self.prompts.append(how.prompt)
        self.regions[how.region_name] = how.region
        self.default = Variant("default", (self._index(),), heads=self._base.heads, default=True)
        makers = {
            "k": self._counts,
            "criteria": self._criteria,
            "sigma": self._sigmas,
            "kernel": self._kernels,
            "per_sample": self._votes,
            "region": self._regions,
            "entropy": self._entropies,
            "query_row": self._rows,
        }
        sheets = [make() for name, make in makers.items() if name in tables]
        return VariantPlan(
            default=self.default,
            sheets=tuple(sheet for sheet in sheets if sheet.variants),
            readings=tuple(self.readings),
            regions=self.regions,
            prompts=tuple(self.prompts),
            heads=tuple(self._captured(prompt) for prompt in range(len(self.prompts))),
            notes=tuple(self.notes),
        )

    @property
    def _chosen(self) -> Selection:
        return self.found.discovery.chosen

    @property
    def _base(self) -> Reading:
        how = self.engine.settings
        return Reading(self._chosen.heads, *_smoothing(how.sigma, how.kernel), how.region_name)

    def _index(self, **changes: Any) -> int:
        """The place of a reading, which is the default one but for the changes."""
        wanted = replace(self._base, **changes)
        for place, one in enumerate(self.readings):
            if one.same == wanted.same:
                return place
        self.readings.append(wanted)
        return len(self.readings) - 1

    def _variant(
        self, label: str, value: float = math.nan, *, description: str = "", **changes: Any
    ) -> Variant:
        place = self._index(**changes)
        heads = changes.get("heads", self._base.heads)
        return Variant(label, (place,), value, heads, description, default=not place)

    def _varied(self, label: str, *, default: bool, **more: Any) -> Variant:
        """A row that may read the same as the default one without being it."""
        return replace(self._variant(label, **more), default=default)

    def _counts(self) -> Sheet:
        ranked = self._chosen.ranked
        counts = [count for count in COUNTS if count < len(ranked)]
        rows = [self._variant(str(k), float(k), heads=ranked[:k]) for k in counts]
        rows.append(self._variant(f"all {len(ranked)}", float(len(ranked)), heads=ranked))
        return Sheet("k", "How many heads", "number of heads", tuple(rows))

    def _criteria(self) -> Sheet:
        rules = self.found.discovery.rules
        first, *_ = rules
        order = [
            text for text in (IMAGE_ALONE, ENTROPY_ALONE) if text in (first, *self.found.rules)
        ]
        rest = [text for text in (first, *self.found.rules) if text not in order]
        rows = [self._rule(text) for text in order]
        rows.append(
            self._varied(
                "both, per sentence",
                default=False,
                description="auto: chosen on each sentence alone",
                heads=(),
            )
        )
        rest.sort(key=lambda text: (text not in (first, PAPER), labelled(rules[text])))
        rows += [self._rule(text) for text in rest]
        return Sheet(
            "criteria",
            "How heads are chosen",
            "rule",
            (*rows, *self._random(), self._mean()),
            named=True,
        )

    def _rule(self, text: str) -> Variant:
        found, rule = self.found.discovery.found[text], self.found.discovery.rules[text]
        label = _RULES.get(text, text)
        description = [f"rule {text}"] if label != text else []
        if labelled(rule):
            description.append("looks at true boxes of the calibration data")
        made = self._variant(label, description="; ".join(description), heads=found.heads)
        return replace(
            made, labelled=labelled(rule), default=text == self.found.discovery.rule.text
        )

    def _random(self) -> Iterator[Variant]:
        """Random heads of the same layers, each draw once and never the default heads."""
        own = self._base.heads
        layers = {head.layer for head in own}
        pool = tuple(head for head in self.engine.model.all_heads if head.layer in layers)
        drawn = random_heads(pool, len(own), draws=self.draws, seed=self.seed, without=own)
        if not drawn:
            self.notes.append("no random heads: the default heads are all heads of their layers")
            return
        places = tuple(self._index(heads=heads) for heads in drawn)
        description = (
            f"{len(own)} heads of the same layers, mean of {len(places)} draws, seed {self.seed}"
        )
        yield Variant("random heads", places, description=description, control=True)

    def _mean(self) -> Variant:
        every = self.engine.model.candidate_heads
        description = f"{len(every)} heads of layers {every[0].layer} to {every[-1].layer}"
        made = self._varied(
            "mean of all heads", default=False, description=description, heads=every
        )
        return replace(made, control=True)

    def _sigmas(self) -> Sheet:
        kernel = self.engine.settings.kernel
        rows = [
            self._variant(f"{sigma:g}", sigma, **_smoothed(sigma, kernel))
            for sigma in sorted({*SIGMAS, self.engine.settings.sigma})
        ]
        return Sheet("sigma", "Smoothing: sigma", "sigma, in cells", tuple(rows))

    def _kernels(self) -> Sheet:
        sigma = self.engine.settings.sigma
        rows = [
            self._variant(str(kernel), float(kernel), **_smoothed(sigma, kernel))
            for kernel in sorted({*KERNELS, self.engine.settings.kernel})
        ]
        return Sheet("kernel", "Smoothing: kernel", "side of the kernel, in cells", tuple(rows))

    def _votes(self) -> Sheet:
        own = set(self._base.heads)
        usual = getattr(self.found.discovery.rule.rule, "per_sample", None)
        rows = []
        for number, text in self.found.votes.items():
            heads = self.found.discovery.found[text].heads
            shared = len(own & set(heads))
            description = (
                "the same heads" if shared == len(own) else f"{shared} of {len(own)} the same"
            )
            rows.append(
                self._varied(
                    str(number),
                    default=number == usual,
                    value=float(number),
                    description=description,
                    heads=heads,
                )
            )
        return Sheet("per_sample", "Votes per sentence", "votes per sentence", tuple(rows))

    def _regions(self) -> Sheet:
        own = self.engine.settings.region_name
        rows = [self._variant(own)]
        for entry in entrypoints.installed(entrypoints.REGIONS):
            if entry.name == own:
                continue
            try:
                region = entrypoints.find(entrypoints.REGIONS, entry.name).load()
            except PluginError as error:
                self.notes.append(f"region {entry.name} left out: {error}")
                continue
            self.regions[entry.name] = region
            rows.append(self._variant(entry.name, region=entry.name))
        rows.sort(key=lambda row: row.label)
        return Sheet("region", "How a map becomes a region", "region", tuple(rows), named=True)

    def _entropies(self) -> Sheet:
        rows = [self._variant("cut 1 x mean", description="by area, 8-connected")]
        for name, selection in self.found.entropies.items():
            rows.append(self._varied(name, default=False, heads=selection.heads))
        return Sheet("entropy", "How the entropy is taken", "entropy", tuple(rows), named=True)

    def _rows(self) -> Sheet:
        rows = []
        for name, (prompt, selection) in self.found.rows.items():
            if prompt not in self.prompts:
                self.prompts.append(prompt)
            place = self.prompts.index(prompt)
            rows.append(self._varied(name, default=not place, heads=selection.heads, prompt=place))
        return Sheet("query_row", "Which row is read", "query row", tuple(rows), named=True)

    def _captured(self, prompt: int) -> tuple[Head, ...]:
        wanted: set[Head] = set()
        for reading in self.readings:
            if reading.prompt == prompt:
                wanted.update(reading.heads or self.engine.model.candidate_heads)
        return tuple(sorted(wanted))


def _smoothing(sigma: float, kernel: int) -> tuple[float, int]:
    """A sigma of 0 and a kernel of 1 change nothing, so they are one thing."""
    return (0.0, 1) if not sigma or kernel == 1 else (sigma, kernel)


def _smoothed(sigma: float, kernel: int) -> dict[str, Any]:
    return dict(zip(("sigma", "kernel"), _smoothing(sigma, kernel), strict=True))
