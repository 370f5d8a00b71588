"""Groundings as JSON records and as detections."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from vg_engine.core.contract.results import Grounding
from vg_engine.core.heads import Head
from vg_engine.plugins.exporters.masks import to_rle

_DIGITS = 3  # decimals of pixel coordinates: finer than any region


def to_record(grounding: Grounding, **more: object) -> dict[str, Any]:
    """Convert an answer to a JSON record; boxes are float xyxy in original, upright pixels.

    Args:
        grounding: the answer.
        more: keys to put first (`id`, `image`).
    """
    boxes = [[round(float(v), _DIGITS) for v in box] for box in grounding.boxes]
    return {
        **{key: plain(value) for key, value in more.items()},
        "expression": grounding.expression,
        "found": grounding.found,
        "box": boxes[0] if boxes else None,
        "score": round(grounding.score, 6),
        "point": [round(value, _DIGITS) for value in grounding.point],
        "boxes": boxes,
        "masks": [to_rle(mask) for mask in grounding.masks],
        "size": list(grounding.size),
        "heads": [str(head) for head in grounding.heads],
        "notes": list(grounding.notes),
        "timings": {key: round(value, 6) for key, value in grounding.timings.items()},
        "provenance": plain(grounding.provenance),
    }


def to_detections(groundings: Sequence[Grounding]) -> list[dict[str, Any]]:
    """Convert answers to Hugging Face's form of detections: whole pixels, best first."""
    found = [
        {
            "label": grounding.expression,
            "score": round(grounding.score, 6),
            "box": {
                "xmin": math.floor(box[0]),
                "ymin": math.floor(box[1]),
                "xmax": math.ceil(box[2]),
                "ymax": math.ceil(box[3]),
            },
        }
        for grounding in groundings
        for box in grounding.boxes
    ]
    return sorted(found, key=lambda detection: -float(str(detection["score"])))


def plain(value: Any) -> Any:
    """Convert a value for JSON: heads to names, tuples to lists, numpy's numbers to Python's."""
    match value:
        case float() if not math.isfinite(value):
            answer: Any = None
        case None | bool() | int() | float() | str():
            answer = value
        case Head():
            answer = str(value)
        case Mapping():
            answer = {str(key): plain(inner) for key, inner in value.items()}
        case np.generic() | np.ndarray():
            answer = plain(value.tolist())
        case list() | tuple() | set() | frozenset():
            answer = [plain(inner) for inner in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            answer = plain(asdict(value))
        case _:
            answer = str(value)
    return answer


def to_line(record: Mapping[str, Any]) -> str:
    """Write a record as one line of JSON; broken file names, which are not text, are escaped."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(record, allow_nan=False)
    return line
