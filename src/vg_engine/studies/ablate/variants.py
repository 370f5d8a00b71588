"""Variants of an ablation: the rows of its tables, and the few readings that they share.

Many rows read the same thing: k = 3, sigma 1.0 and kernel 7 are one reading. Each distinct one is
read once per sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import Region


@dataclass(frozen=True)
class Reading:
    """One way from maps to an answer.

    Attributes:
        heads: whose maps are added up; none: those that the sentence itself chooses (`auto`).
        sigma, kernel: of the smoothing; (0, 1) for none.
        region: name in `VariantPlan.regions`.
        prompt: index in `VariantPlan.prompts`.
    """

    heads: tuple[Head, ...]
    sigma: float
    kernel: int
    region: str
    prompt: int = 0

    @property
    def same(self) -> tuple[Any, ...]:
        """Key by which equal readings are found; the order of heads does not change their sum."""
        return frozenset(self.heads), self.sigma, self.kernel, self.region, self.prompt

    def to_json(self) -> dict[str, Any]:
        """As journals keep it."""
        heads = ",".join(map(str, self.heads)) or "auto"
        return {
            "heads": heads,
            "sigma": self.sigma,
            "kernel": self.kernel,
            "region": self.region,
            "prompt": self.prompt,
        }


@dataclass(frozen=True)
class Variant:
    """A row of a table.

    Attributes:
        label: what it is called there.
        readings: indices in `VariantPlan.readings`; of several (random draws) the mean counts.
        value: where it stands on the table's axis; NaN where that has no numbers.
        heads: what is read, where that is fixed.
        description: a few words on it.
        default: it is the row that all others are compared with.
        control: it only stands there to be beaten.
        labelled: its heads were chosen with true boxes of the calibration data.
    """

    label: str
    readings: tuple[int, ...]
    value: float = math.nan
    heads: tuple[Head, ...] = ()
    description: str = ""
    default: bool = False
    control: bool = False
    labelled: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: what `--tables` calls it.
        title: what a report calls it.
        axis: what varies.
        variants: its rows.
        named: the rows have names, not places on an axis.
    """

    name: str
    title: str
    axis: str
    variants: tuple[Variant, ...]
    named: bool = False


@dataclass(frozen=True, eq=False)
class VariantPlan:
    """All tables, and all that has to be read for them.

    Attributes:
        default: the row that all others are compared with.
        sheets: the tables.
        readings: distinct ones.
        regions: by name.
        prompts: the engine's own, then those of other query rows.
        heads: per prompt, what is captured.
        notes: what was left out, and why.
    """

    default: Variant
    sheets: tuple[Sheet, ...]
    readings: tuple[Reading, ...]
    regions: Mapping[str, Region]
    prompts: tuple[Prompt, ...]
    heads: tuple[tuple[Head, ...], ...]
    notes: tuple[str, ...] = ()
