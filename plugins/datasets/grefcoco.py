"""gRefCOCO: sentences that mean one object of a picture, several, or none.

`grefcoco:/data/refer?split=val`: the folder that holds `grefcoco/`, or that folder itself, with
`grefs(unc).json` and `instances.json`. One sentence is one sample, with a box for each object that
is meant and the union of their masks; where none is meant there is no box, and nothing in the mask.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets import (
    reading,
    refer,
    refer_folder,
    refer_records,
    unpickling,
)
from vg_engine.plugins.datasets.coco_file import CocoFile

_NAME = "grefcoco"
_MEANT = ("none", "one", "many")  # by the number of objects, the last for all above


def grefcoco(
    path: Path | None, *, by: str = "unc", split: str = "val", images: str = ""
) -> DataSet:
    """gRefCOCO, with the group `target`: `none`, `one` or `many` objects are meant.

    Args:
        path: the folder that holds `grefcoco/`, or that folder itself.
        by: who split it; `unc` is what is published.
        split: train, val, testA or testB, or `test` for both of these.
        images: folder of COCO's train2014; empty = it is looked for beside and above `path`.

    Raises:
        InputError: a file or folder is missing or broken, or there is no such split.
    """
    files = refer_folder.find(
        _NAME, path, by=by, stem="grefs", endings=("json", "p"), images=images
    )
    prefix = f"{_NAME}-{by}"
    chosen = refer_records.select(
        _held(files.references), files.references, split, prefix, several=True
    )
    coco = CocoFile.read(files.instances, annotations=chosen.annotations)
    return DataSet(
        name=reading.written(_NAME, path, by=by, split=split, images=images),
        records=functools.partial(_records, chosen, coco, files.pictures, prefix),
        revision=reading.digest(reading.read_bytes(files.references), coco.revision),
        statements=(
            _mixture(chosen),
            *refer.statements(_NAME, by, split, chosen),
        ),
    )


def _held(file: Path) -> object:
    """What the file of references holds; its authors' reader takes a pickle as well."""
    if file.suffix == ".p":
        return unpickling.load(file)
    try:
        held: object = json.loads(reading.read_bytes(file))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file} is no JSON ({' '.join(str(error).split())}); download it again"
        ) from error
    return held


def _meant(one: refer_records.Reference) -> str:
    return _MEANT[min(len(one.annotations), len(_MEANT) - 1)]


def _mixture(chosen: refer_records.Selection) -> str:
    """How the sentences mix, for no count is published that all releases agree with."""
    held: Counter[str] = Counter()
    for one in chosen.references:
        held[_meant(one)] += len(one.sentences)
    parts = ", ".join(f"{held[kind]:,} mean {kind}" for kind in _MEANT)
    return (
        f"{chosen.sentences:,} sentences, of which {parts}; releases of gRefCOCO differ: compare "
        "these numbers before scores"
    )


def _groups(one: refer_records.Reference) -> Mapping[str, str]:
    return {"target": _meant(one)}


def _records(
    chosen: refer_records.Selection, coco: CocoFile, pictures: Path, prefix: str
) -> Iterator[Sample | Fault]:
    return refer_records.samples(chosen.records, coco, pictures, prefix, groups=_groups)
