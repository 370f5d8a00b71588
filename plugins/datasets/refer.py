"""RefCOCO, RefCOCO+ and RefCOCOg as their authors publish them (REFER's layout).

`refcoco:/data/refer?by=unc&split=testA`: the folder that holds `refcoco/`, or `refcoco/` itself.
One *expression* is one sample; its id is `refcoco-unc-<ref_id>-<sent_id>`. All pictures are from
COCO's train2014, whatever the split: a model that was trained on COCO has seen them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vg_engine.core.evaluation.samples import DataSet
from vg_engine.plugins.datasets import (
    checks,
    counts,
    refer_folder,
    refer_records,
    restricted_unpickler,
)
from vg_engine.plugins.datasets.coco_file import CocoFile

_LOADED = MappingProxyType({"p": restricted_unpickler.load})


def refcoco(path: Path | None, *, by: str = "unc", split: str = "val", images: str = "") -> DataSet:
    """Read RefCOCO: short expressions, which may use words of place.

    Args:
        path: the folder that holds `refcoco/`, or that folder itself.
        by: authors of the split: `unc` (train, val, testA of people, testB of other objects; the
            published one) or `google` (train, val, test).
        split: name of the split. References of `testAB` belong to `testA` and to `testB`; `test`
            takes all splits that begin with it, and the statements list them.
        images: folder of COCO's train2014; empty = search beside and above `path`.

    Raises:
        InputError: a file or folder is missing or broken, or there is no such split.
    """
    return opened("refcoco", path, by=by, split=split, images=images)[0]


def refcocoplus(
    path: Path | None, *, by: str = "unc", split: str = "val", images: str = ""
) -> DataSet:
    """Read RefCOCO+: short expressions without words of place. Its folder is `refcoco+/`.

    Args:
        path, by, split, images: as for `refcoco`; `by` is `unc` alone.

    Raises:
        InputError: as for `refcoco`.
    """
    return opened("refcoco+", path, by=by, split=split, images=images)[0]


def refcocog(
    path: Path | None, *, by: str = "umd", split: str = "val", images: str = ""
) -> DataSet:
    """Read RefCOCOg: long expressions.

    Args:
        path, split, images: as for `refcoco`.
        by: `umd` (train, val, test) or `google` (train, val, which share pictures).

    Raises:
        InputError: as for `refcoco`.
    """
    return opened("refcocog", path, by=by, split=split, images=images)[0]


def opened(
    name: str,
    path: Path | None,
    *,
    by: str,
    split: str,
    images: str,
    stem: str = "refs",
    load: Mapping[str, Callable[[Path], object]] = _LOADED,
    groups: Callable[[refer_records.Reference], Mapping[str, str]] | None = None,
) -> tuple[DataSet, refer_records.Selection]:
    """Open a set in REFER's layout; returns also its references.

    Args:
        name: of the set.
        path, by, split, images: as for `refcoco`.
        stem: beginning of the name of the file of references.
        load: possible endings of that name, in order of preference, and how such a file is read.
        groups: further groups of references that may mean several objects, or none.

    Raises:
        InputError: a file or folder is missing or broken, or there is no such split.
    """
    files = refer_folder.find(name, path, by=by, stem=stem, endings=tuple(load), images=images)
    prefix, file = f"{name}-{by}", files.references
    held = load[file.suffix.removeprefix(".")](file)
    chosen = refer_records.select(held, file, split, prefix, several=groups is not None)
    coco = CocoFile.read(files.instances, annotations=chosen.annotations)
    counted = {"sentences": chosen.sentences, "references": len(chosen.references)}
    found = DataSet(
        name=checks.written(name, path, by=by, split=split, images=images),
        records=functools.partial(
            refer_records.samples, chosen.records, coco, files.pictures, prefix, groups=groups
        ),
        revision=checks.digest(checks.read_bytes(file), coco.revision),
        statements=(
            *_statements(name, by, split, chosen),
            *counts.differences(name, by, split, **counted),
        ),
    )
    return found, chosen


def _statements(name: str, by: str, split: str, chosen: refer_records.Selection) -> tuple[str, ...]:
    """Collect the remarks on a split for the user, without its counts."""
    statements = []
    if len(chosen.taken) > 1:
        statements.append(
            f"split {split} is {' and '.join(chosen.taken)} together; papers report them separately"
        )
    if by == "google":
        more = " and there is no test" if name == "refcocog" else ""
        statements.append(
            f"the splits of google share pictures{more}: do not choose heads on train and score "
            f"them on val; {'by=umd' if name == 'refcocog' else 'by=unc'} shares none"
        )
    if chosen.silent:
        statements.append(
            f"references without a sentence: {chosen.silent:,}; no sample comes from them"
        )
    return tuple(statements)
