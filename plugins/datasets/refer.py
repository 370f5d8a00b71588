"""RefCOCO, RefCOCO+ and RefCOCOg as their authors publish them (REFER's layout).

`refcoco:/data/refer?by=unc&split=testA`: the folder that holds `refcoco/`, or `refcoco/` itself.
One *sentence* is one sample; its id is `refcoco-unc-<ref_id>-<sent_id>`. All pictures are COCO's
train2014, whatever the split: a model that was trained on COCO has seen them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets import counts, reading, refer_folder, refer_records, unpickling
from vg_engine.plugins.datasets.coco_file import CocoFile


def refcoco(path: Path | None, *, by: str = "unc", split: str = "val", images: str = "") -> DataSet:
    """RefCOCO: short sentences, in which places may be named.

    Args:
        path: the folder that holds `refcoco/`, or that folder itself.
        by: who split it: `unc` (train, val, testA of people, testB of other things; the one that
            is published) or `google` (train, val, test).
        split: a reference that states `testAB` is of `testA` and of `testB`; `test` is all that
            begin with it, and the statements say which.
        images: folder of COCO's train2014; empty = it is looked for beside and above `path`.

    Raises:
        InputError: a file or folder is missing or broken, or there is no such split.
    """
    return _open("refcoco", path, by=by, split=split, images=images)


def refcocoplus(
    path: Path | None, *, by: str = "unc", split: str = "val", images: str = ""
) -> DataSet:
    """RefCOCO+: short sentences without words of place. Its folder is `refcoco+/`.

    Args:
        path, by, split, images: as for `refcoco`; `by` is `unc` alone.

    Raises:
        InputError: as for `refcoco`.
    """
    return _open("refcoco+", path, by=by, split=split, images=images)


def refcocog(
    path: Path | None, *, by: str = "umd", split: str = "val", images: str = ""
) -> DataSet:
    """RefCOCOg: long sentences.

    Args:
        path, split, images: as for `refcoco`.
        by: `umd` (train, val, test) or `google` (train, val, which share pictures).

    Raises:
        InputError: as for `refcoco`.
    """
    return _open("refcocog", path, by=by, split=split, images=images)


def _open(name: str, path: Path | None, *, by: str, split: str, images: str) -> DataSet:
    files = refer_folder.find(name, path, by=by, stem="refs", endings=("p",), images=images)
    prefix = f"{name}-{by}"
    chosen = refer_records.select(
        unpickling.load(files.references), files.references, split, prefix
    )
    coco = CocoFile.read(files.instances, annotations=chosen.annotations)
    return DataSet(
        name=reading.written(name, path, by=by, split=split, images=images),
        records=functools.partial(_records, chosen, coco, files.pictures, prefix),
        revision=reading.digest(reading.read_bytes(files.references), coco.revision),
        statements=(
            *statements(name, by, split, chosen),
            *counts.differences(
                name,
                by,
                split,
                sentences=chosen.sentences,
                references=len(chosen.references),
            ),
        ),
    )


def _records(
    chosen: refer_records.Selection, coco: CocoFile, pictures: Path, prefix: str
) -> Iterator[Sample | Fault]:
    return refer_records.samples(chosen.records, coco, pictures, prefix)


def statements(name: str, by: str, split: str, chosen: refer_records.Selection) -> tuple[str, ...]:
    """What the user should know of a split, its counts left aside."""
    said = []
    if len(chosen.taken) > 1:
        said.append(
            f"split {split} is {' and '.join(chosen.taken)} together; papers report them apart"
        )
    if by == "google":
        more = " and there is no test" if name == "refcocog" else ""
        said.append(
            f"the splits of google share pictures{more}: do not choose heads on train and score "
            f"them on val; {'by=umd' if name == 'refcocog' else 'by=unc'} shares none"
        )
    if chosen.silent:
        said.append(f"references without a sentence: {chosen.silent:,}; no sample comes from them")
    return tuple(said)
