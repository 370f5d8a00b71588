"""The best single head, found while samples go by: many heads start, few go on to the end.

Reading each head's own box on every sample is slow where a model has a thousand heads. So all of
them are read on the first samples, and after that only the best. With few heads all go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.heads import Head
from vg_engine.studies.shared.records import has_target, outcomes

FEW = 64  # up to so many heads, all go on
FIRST = 200  # samples that all are read on
LEFT = 32  # heads that go on


class BestHead:
    """The heads that are still read, and the best of them; the records alone decide.

    Args:
        name: of the entry.
        heads: those that start, by layer, then head.
    """

    def __init__(self, name: str, heads: tuple[Head, ...]) -> None:
        self.name = name
        self.heads = heads
        self.started = len(heads)
        self._fit = np.zeros((2, len(heads)))  # sum of IoUs, how many
        self._hits = np.zeros((2, len(heads)))
        self._seen = 0

    @property
    def halved(self) -> bool:
        """True where some heads were dropped."""
        return len(self.heads) < self.started

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """A batch goes by; only between batches heads are left behind."""
        for record in records:
            if "error" in record:
                continue
            self._seen += 1
            worths = outcomes(record["answers"][self.name], target=has_target(record))
            ious = np.array([worth.iou for worth in worths])
            hits = np.array([np.nan if worth.hit is None else worth.hit for worth in worths])
            self._fit += _counted(ious)
            self._hits += _counted(hits.astype(np.float64))
        if self.started > FEW and not self.halved and self._seen >= FIRST:
            left = sorted(self._order()[:LEFT])
            self.heads = tuple(self.heads[i] for i in left)
            self._fit, self._hits = self._fit[:, left], self._hits[:, left]

    @property
    def best(self) -> Head:
        """By mean IoU where true boxes are known, else by pointing."""
        return self.heads[self._order()[0]]

    @property
    def measure(self) -> str:
        """The metric by which the best head is chosen."""
        return "mean IoU" if self._fit[1].any() else "pointing"

    def _order(self) -> list[int]:
        """Best first; ties go by layer, then head."""
        sums = self._fit if self._fit[1].any() else self._hits
        means: Float64[np.ndarray, " heads"] = sums[0] / np.maximum(sums[1], 1.0)
        return [int(i) for i in np.argsort(-means, kind="stable")]


def _counted(values: Float64[np.ndarray, " heads"]) -> Float64[np.ndarray, "2 heads"]:
    """The values, 0 where there is none, and where there is one."""
    return np.stack([np.nan_to_num(values), ~np.isnan(values)])
