"""The samples on which two evaluations differ most, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import VGError
from vg_engine.core.evaluation.samples import Sample
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.pictures import decode
from vg_engine.studies.evaluate.entries import TableEntry
from vg_engine.studies.shared.records import Record, SavedRecords

CASES = 12


@dataclass(frozen=True, eq=False)
class Disagreement:
    """A sample on which A and B differ.

    Attributes:
        record: A's.
        a, b: each side's answer, as its records hold it.
        gain: how much better A does, in IoU (or in hits, where there is none).
    """

    record: Record
    a: Mapping[str, Any]
    b: Mapping[str, Any]
    gain: float


def find_disagreements(
    kept: tuple[SavedRecords, SavedRecords],
    rows: tuple[TableEntry, TableEntry],
    ids: Sequence[str],
    gains: Float64[np.ndarray, " n"],
) -> tuple[tuple[Disagreement, ...], tuple[Disagreement, ...]]:
    """Find the samples where A does much better, and where B does, largest difference first.

    Args:
        kept: the records of both sides.
        rows: which row of each; a mean over draws has no one answer that could be shown.
        ids: of the samples that both scored.
        gains: how much better A does on each; NaN where it is not known.
    """
    if any(row.several for row in rows):
        return (), ()
    chosen = []
    for sign in (1.0, -1.0):
        better = sign * np.nan_to_num(gains)
        order = np.argsort(-better, kind="stable")[:CASES]
        chosen.append([(ids[i], float(gains[i])) for i in order.tolist() if better[i] > 0])
    wanted = {name for part in chosen for name, _ in part}
    first, second = (
        {record["id"]: record for record in side.samples() if record["id"] in wanted}
        for side in kept
    )
    made = [
        tuple(
            Disagreement(
                first[name],
                first[name]["answers"][rows[0].name],
                second[name]["answers"][rows[1].name],
                gain,
            )
            for name, gain in part
        )
        for part in chosen
    ]
    return made[0], made[1]


def open_pictures(data: str, revision: str, wanted: set[str]) -> tuple[dict[str, Picture], str]:
    """The pictures of some samples, from the data set that they were scored on.

    Args:
        data: its name.
        revision: which it must be.
        wanted: ids of samples.

    Returns:
        Sample -> picture, and why some are missing (empty if none is).
    """
    found: dict[str, Picture] = {}
    try:
        opened = open_data(data)
        if opened.revision != revision:
            return {}, f"{data} has changed since, so no pictures are shown"
        for record in opened:
            if len(found) == len(wanted):
                break
            if isinstance(record, Sample) and record.id in wanted:
                found[record.id] = decode(record.open())
    except VGError as error:
        return found, f"not all pictures are shown: {error}"
    missing = len(wanted) - len(found)
    return (
        found,
        f"{missing} pictures are not shown: {data} no longer holds them" if missing else "",
    )
