"""Samples as the journal keeps them: the truth, every entry's answer, and its scores.

Tables are made from these records alone, so that work that was stopped and work that was not end
alike. Numbers have 6 decimals, pixels 3; shares are cut rather than rounded, so that no IoU climbs
over a threshold on its way into the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.outcomes import Outcome, size_bucket, true_area
from vg_engine.core.evaluation.samples import Fault
from vg_engine.studies.shared.journal import VERSION
from vg_engine.studies.shared.numbers import cut, pixels, rounded
from vg_engine.studies.shared.open_samples import OpenSample
from vg_engine.studies.shared.predictions import Prediction

RECORDS = "records.jsonl"
WORK = "eval"
_HITS = {"1": True, "0": False, "-": None}
_MARKS = {value: mark for mark, value in _HITS.items()}

Record = dict[str, Any]


def of_sample(opened: OpenSample) -> Record:
    """Make the record of a sample, still without answers."""
    sample, truth = opened.sample, opened.truth
    area = true_area(truth.boxes, truth.mask)
    return {
        "id": sample.id,
        "picture": sample.picture,
        "text": sample.text,
        "groups": dict(sample.groups),
        "size": list(opened.picture.size),
        "boxes": None if truth.boxes is None else [pixels(box) for box in truth.boxes],
        "masked": truth.mask is not None,
        "area": round(area, 1),
        "bucket": size_bucket(area),
        "answers": {},
    }


def of_fault(fault: Fault) -> Record:
    """The record of a sample that could not be used."""
    return {"id": fault.id, "error": fault.error}


def of_answer(given: Prediction, worth: Outcome) -> Record:
    """One answer."""
    return {
        "found": worth.found,
        "boxes": [pixels(box) for box in given.boxes],
        "point": pixels(given.point),
        "score": None if given.score is None else rounded(given.score),
        "iou": cut(worth.iou),
        "hit": worth.hit,
        "inter": worth.inter,
        "union": worth.union,
        "f1": cut(worth.f1),
    }


def of_answers(worths: Sequence[Outcome]) -> Record:
    """Write the outcomes of several draws or heads; a column without values is None."""
    columns: Record = {
        "iou": [cut(one.iou) for one in worths],
        "inter": [one.inter for one in worths],
        "union": [one.union for one in worths],
        "f1": [cut(one.f1) for one in worths],
    }
    told = {name: None if set(values) == {None} else values for name, values in columns.items()}
    return {"hit": "".join(_MARKS[one.hit] for one in worths), **told}


def outcomes(answer: Mapping[str, Any], *, target: bool) -> list[Outcome]:
    """Read the outcome of an answer, or of each of several, from its record."""
    if not isinstance(answer["hit"], str):
        return [
            Outcome(
                target,
                answer["found"],
                _number(answer["iou"]),
                answer["hit"],
                answer["inter"],
                answer["union"],
                _number(answer["f1"]),
            )
        ]
    count = len(answer["hit"])
    ious, inters, unions, f1s = (
        answer[name] or [None] * count for name in ("iou", "inter", "union", "f1")
    )
    return [
        Outcome(target, bool(count), _number(iou), _HITS[mark], inter, union, _number(f1))
        for mark, iou, inter, union, f1 in zip(
            answer["hit"], ious, inters, unions, f1s, strict=True
        )
    ]


def has_target(record: Mapping[str, Any]) -> bool:
    """Check whether the picture holds what the expression means."""
    return bool(record["boxes"]) if record["boxes"] is not None else record["area"] > 0


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True, eq=False)
class SavedRecords:
    """The records of a finished or unfinished evaluation, as its file holds them.

    Attributes:
        path: of the file.
        settings, remarks: of its first line.
        records: makes a fresh iterator over the records of all whole batches, faults among them.
    """

    path: Path
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]
    records: Callable[[], Iterator[Record]]

    def samples(self) -> Iterator[Record]:
        """The records of what was scored."""
        return (record for record in self.records() if "error" not in record)


def open_records(place: Path) -> SavedRecords:
    """The records in a folder of `vg-engine eval --out`, or named themselves.

    Args:
        place: the folder, its `eval.json` or its `records.jsonl`.

    Raises:
        InputError: there are none, or the file is something else.
    """
    path = place.with_name(RECORDS) if place.is_file() else place / RECORDS
    advice = "name a folder that vg-engine eval --out wrote"
    try:
        with path.open("rb") as lines:
            header = json.loads(lines.readline())
        settings = header["settings"]
        ours = header["work"] == WORK and isinstance(settings["entries"], dict)
        ours = ours and header["journal"] == VERSION
    except FileNotFoundError:
        raise InputError(f"{place} holds no {RECORDS}; {advice}") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from error
    except (ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(f"{path} is no evaluation; {advice}")
    return SavedRecords(path, settings, header.get("remarks", {}), lambda: whole_batches(path))


def whole_batches(path: Path) -> Iterator[Record]:
    """The records of a journal's whole batches; what a kill tore at its end is left out."""
    batch: list[Record] = []
    done = 0
    with path.open("rb") as lines:
        next(lines)
        for line in lines:
            try:
                record = json.loads(line)
                batch.append(record)
                last = len(batch) == record["of"]
                if record["batch"] != done:  # twice, or one is missing
                    return
            except (ValueError, KeyError, TypeError):
                return
            if last:
                yield from batch
                batch, done = [], done + 1
