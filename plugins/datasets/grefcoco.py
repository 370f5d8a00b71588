"""gRefCOCO: expressions that mean one object of a picture, several, or none.

`grefcoco:/data/refer?split=val`: the folder that holds `grefcoco/`, or that folder itself, with
`grefs(unc).json` and `instances.json`. One expression is one sample, with a box for each of its
objects and the union of their masks; without an object there is no box, and the mask is empty.
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
    checks,
    refer,
    refer_folder,
    refer_records,
    restricted_unpickler,
)
from vg_engine.plugins.datasets.coco_file import CocoFile

_NAME = "grefcoco"
_MEANT = ("none", "one", "many")  # by the number of objects, the last for all above


def grefcoco(
    path: Path | None, *, by: str = "unc", split: str = "val", images: str = ""
) -> DataSet:
    """Read gRefCOCO, with the group `target`: `none`, `one` or `many` objects are meant.

    Args:
        path: the folder that holds `grefcoco/`, or that folder itself.
        by: authors of the split; `unc` is the published one.
        split: train, val, testA or testB, or `test` for both tests.
        images: folder of COCO's train2014; empty = search beside and above `path`.

    Raises:
        InputError: a file or folder is missing or broken, or there is no such split.
    """
    files = refer_folder.find(
        _NAME, path, by=by, stem="grefs", endings=("json", "p"), images=images
    )
    prefix = f"{_NAME}-{by}"
    chosen = refer_records.select(
        _contents(files.references), files.references, split, prefix, several=True
    )
    coco = CocoFile.read(files.instances, annotations=chosen.annotations)
    return DataSet(
        name=checks.written(_NAME, path, by=by, split=split, images=images),
        records=functools.partial(_records, chosen, coco, files.pictures, prefix),
        revision=checks.digest(checks.read_bytes(files.references), coco.revision),
        statements=(
            _mixture(chosen),
            *refer.statements(_NAME, by, split, chosen),
        ),
    )


def _contents(file: Path) -> object:
    """Read the file of references: JSON, or a pickle, which its authors' reader takes as well."""
    if file.suffix == ".p":
        return restricted_unpickler.load(file)
    try:
        contents: object = json.loads(checks.read_bytes(file), object_pairs_hook=checks.once)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file} is not JSON ({' '.join(str(error).split())}); download it again"
        ) from error
    return contents


def _meant(one: refer_records.Reference) -> str:
    return _MEANT[min(len(one.annotations), len(_MEANT) - 1)]


def _mixture(chosen: refer_records.Selection) -> str:
    """Count the expressions by number of objects, as no published count fits all releases."""
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
