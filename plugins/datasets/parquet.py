"""`parquet:/data/RefCOCO?split=val`: referring expressions as stored on the Hugging Face hub.

The path is a `.parquet` file, or a folder (also the whole downloaded repository) whose files are
named after their split, `val-00000-of-00002.parquet`. The columns decide the form:

| `form` | first seen in | a row is | pictures |
| --- | --- | --- | --- |
| `lmms` | lmms-lab/RefCOCO, RefCOCOplus, RefCOCOg | a reference | inside |
| `refcoco` | jxu124/refcoco, refcocoplus, refcocog | a reference | in `images=` |
| `refcoco-benchmark` | jxu124/refcoco-benchmark | a picture | inside |
| `refcoco-m` | moondream/refcoco-m | a picture | inside |

One *expression* is one sample. Pictures are named by their COCO number, as in the reader of REFER's
own files, so that the same picture has one name in all sets.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets import checks, parquet_files, parquet_forms
from vg_engine.plugins.datasets.parquet_files import Files, Head, Pictures
from vg_engine.plugins.datasets.parquet_forms import Form, Source

# Row counts of a `val` that consists of two published validation splits.
_TWO_IN_ONE = {
    8_811: "3,811 references of unc's val and 5,000 of google's",
    7_573: "2,573 references of umd's val and 5,000 of google's",
}
_TEST_A = 1_975  # references of RefCOCO's and RefCOCO+'s testA


def parquet(path: Path | None, *, split: str = "", form: str = "", images: str = "") -> DataSet:
    """Read the expressions of a split, in batches.

    Args:
        path: a file, or a folder of files.
        split: in a folder, the beginning of its files' names; empty = the only split.
        form: `lmms`, `refcoco`, `refcoco-benchmark` or `refcoco-m`; empty = by the columns.
        images: the folder of COCO's train2014, for the form without pictures (`refcoco`).

    Raises:
        InputError: a file, split or picture is missing, a file is broken, its columns are unknown,
            or pyarrow is not installed.
    """
    files = parquet_files.find(path, split)
    heads = [parquet_files.head(file) for file in files.paths]
    shape = parquet_forms.detect(heads[0].columns, form)
    for file, head in zip(files.paths, heads, strict=True):
        if head.columns != heads[0].columns:
            raise InputError(f"{file.name} has other columns than {files.paths[0].name}; remove it")
    folder = _folder(shape, images)
    columns = shape.columns(heads[0].columns)
    return DataSet(
        name=checks.written("parquet", path, split=split, form=form, images=images),
        records=lambda: _records(files, shape, columns, folder),
        revision=_revision(files, heads, shape),
        statements=(
            *files.statements,
            *shape.statements,
            *_of_split(files.split, shape, sum(head.rows for head in heads)),
        ),
    )


def _folder(shape: Form, images: str) -> Path | None:
    if shape.image:
        if images:
            raise InputError(f"form {shape.name} holds its pictures; leave images= out")
        return None
    if not images:
        raise InputError(
            f"form {shape.name} holds no pictures; name the folder of COCO's train2014: "
            "images=/data/train2014"
        )
    return checks.need_folder("images=", Path(images).expanduser(), "images=/data/train2014")


def _revision(files: Files, heads: list[Head], shape: Form) -> str:
    """Digest names, sizes and footers, which describe all data, instead of gigabytes of content."""
    parts: list[str | bytes] = ["parquet", shape.name, files.split]
    for file, head in zip(files.paths, heads, strict=True):
        parts += [file.name, str(file.stat().st_size), head.footer]
    return checks.digest(*parts)


def _of_split(split: str, shape: Form, rows: int) -> Iterator[str]:
    if shape.name == "lmms" and split == "val" and rows in _TWO_IN_ONE:
        yield (
            f"this val of {rows:,} rows is not the published val: by its size it is "
            f"{_TWO_IN_ONE[rows]} together"
        )
    if shape.name == "refcoco" and split == "test" and rows == _TEST_A:
        yield f"this test of {rows:,} rows is, by its size, the published testA"


def _records(
    files: Files, shape: Form, columns: list[str], folder: Path | None
) -> Iterator[Sample | Fault]:
    pictures = Pictures(shape.image)
    for row in parquet_files.rows(files.paths, columns):
        if isinstance(row, Fault):
            yield row
            continue
        source: Source = functools.partial(pictures.read, row.place) if folder is None else folder
        yield from shape.samples(row, source)
