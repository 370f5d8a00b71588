"""gRefCOCO: expressions that mean one object of a picture, several, or none.

`grefcoco:/data/refer?split=val`: the folder that holds `grefcoco/`, or that folder itself, with
`grefs(unc).json` and `instances.json`. One expression is one sample, with a box for each of its
objects and the union of their masks; without an object there is no box, and the mask is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vg_engine.core.evaluation.samples import DataSet
from vg_engine.plugins.datasets import checks, refer, refer_records, restricted_unpickler

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
    load = {"json": _json, "p": restricted_unpickler.load}  # its authors' reader takes both
    found, chosen = refer.opened(
        _NAME, path, by=by, split=split, images=images, stem="grefs", load=load, groups=_groups
    )
    return replace(found, statements=(_mixture(chosen), *found.statements))


def _json(file: Path) -> object:
    return checks.parse_json(file, checks.read_bytes(file))


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
