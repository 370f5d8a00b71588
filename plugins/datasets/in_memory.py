"""A data set of samples in memory: a list of `Sample`, or of records in the form of `jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, as_fault
from vg_engine.plugins.datasets import checks
from vg_engine.plugins.datasets.jsonl import sample_of


def data_set(samples: Sequence[Sample | Mapping[str, Any]], name: str = "samples") -> DataSet:
    """Make a data set of samples in memory; unusable records become faults with their number.

    Args:
        samples: `Sample` objects, or mappings with the keys of a line of `jsonl`; their `image`
            may also be anything else that the engine takes as a picture. Paths are relative to the
            current folder.
        name: for tables and reports.

    Example:
        >>> cup = {"image": "photos/a.png", "text": "the cup", "box": [10, 20, 110, 90]}
        >>> [sample.text for sample in data_set([cup])]
        ['the cup']
    """
    if isinstance(samples, str | Mapping | Sample):
        raise InputError("samples come as a list, even a single one")
    held = tuple(_records(samples))
    told = [
        f"{one.id} {one.picture} {one.text} {None if one.boxes is None else one.boxes.tolist()}"
        if isinstance(one, Sample)
        else f"{one.id} {one.error}"
        for one in held
    ]
    return DataSet(name, lambda: iter(held), checks.digest("samples", *told))


def _records(samples: Sequence[Sample | Mapping[str, Any]]) -> Iterator[Sample | Fault]:
    for number, given in enumerate(samples, start=1):
        try:
            yield _with_array(given) if isinstance(given, Sample) else _sample(number, given)
        except VGError as error:
            yield as_fault(f"record {number}", InputError(f"record {number}: {error}"))


def _with_array(sample: Sample) -> Sample:
    """Take boxes that came as lists, too."""
    if sample.boxes is None or isinstance(sample.boxes, np.ndarray):
        return sample
    try:
        return replace(sample, boxes=np.array(sample.boxes, np.float64).reshape(-1, 4))
    except (TypeError, ValueError) as error:
        raise InputError(f"its boxes are no n x 4 numbers: {sample.boxes!r:.80}") from error


def _sample(number: int, record: object) -> Sample:
    if not isinstance(record, Mapping):
        raise InputError(
            f"{type(record).__name__} is no sample; give a vg_engine.Sample or "
            '{"image": ..., "text": ...}'
        )
    image = record.get("image")
    if image is None or isinstance(image, str | Path):
        return sample_of(number, {**record, "image": str(image or "")}, Path(), "xyxy")
    named = {**record, "image": f"image {number}"}
    return replace(sample_of(number, named, Path(), "xyxy"), image=image)
