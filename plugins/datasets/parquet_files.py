"""Parquet files of a data set: the files of a split, their rows and pictures.

No file is read whole. Rows come in batches without their pictures. A picture is read from its own
row on demand, and only a few are in memory at once, however many samples are kept.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError, PictureError
from vg_engine.core.evaluation.samples import Fault
from vg_engine.plugins.datasets import checks

_EXAMPLE = "parquet:/data/RefCOCO?split=val"
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")
_BATCH = 64  # rows without pictures in memory at once
_PICTURES = 16  # pictures of one batch; two batches are in memory
_END = 8  # bytes at the end of a file: the footer's length and the magic number
_BUFFER = 1 << 20  # bytes read ahead: without it a whole column of a row group is read at once
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Files:
    """The files of one split, in order, with statements for the user."""

    split: str
    paths: tuple[Path, ...]
    statements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """A file's metadata: names of its columns, number of rows, bytes of its footer."""

    columns: tuple[str, ...]
    rows: int
    footer: bytes


@dataclass(frozen=True)
class Place:
    """The place of a row: its file, its row group and its number in the group."""

    file: Path
    group: int
    row: int


@dataclass(frozen=True)
class Row:
    """A row without its picture.

    Attributes:
        number: counted from 0 through all files of the split.
        values: Python values by column.
        place: its place in the files.
    """

    number: int
    values: dict[str, Any]
    place: Place


def find(path: Path | None, split: str) -> Files:
    """Find the files of a split: a file itself, or those of a folder whose names begin with it.

    Raises:
        InputError: there is no such split, or none is named; the message lists the splits.
    """
    if path is not None and path.is_file():
        own = _shard(path)[0]
        if split and split != own:
            raise InputError(f"{path.name} is of split {own!r}; leave split= out, or name a folder")
        return Files(split=own, paths=(path,), statements=_missing([path]))
    root = checks.need_folder("parquet", path, _EXAMPLE)
    found: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*.parquet")):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            found.setdefault(_shard(file)[0], []).append(file)
    if not found:
        raise InputError(f"no .parquet file lies in {root}; check the path")
    chosen = checks.pick_split(split, found, root)
    folders = sorted({str(file.parent) for file in found[chosen]})
    if len(folders) > 1:
        raise InputError(f"split {chosen} lies in {' and in '.join(folders)}; name one of them")
    paths = found[chosen]
    places = [_shard(file)[1:] for file in paths if not file.stem.isdigit()]
    if len({count for _, count in places}) > 1 or len({*places}) < len(places):
        raise InputError(
            f"split {chosen} lies in {root} in two versions ({', '.join(p.name for p in paths)}); "
            "remove the files of one of them"
        )
    return Files(split=chosen, paths=tuple(paths), statements=_missing(paths))


def _shard(file: Path) -> tuple[str, int, int]:
    """Read a file's split, number and the split's number of files from the file's name."""
    match = _SHARD.fullmatch(file.stem)
    if match:
        return match[1], int(match[2]), int(match[3])
    return (file.parent.name if file.stem.isdigit() else file.stem), 0, 1


def _missing(files: Sequence[Path]) -> tuple[str, ...]:
    split, _, count = _shard(files[0])
    if len(files) >= count:
        return ()
    return (f"{len(files)} of the {count} files of {split} are here: counts are of these alone",)


def library() -> Any:
    """Import `pyarrow.parquet` when the first file is opened.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(
            f"parquet files need pyarrow ({error}); pip install 'vg-engine[data]'"
        ) from error


def head(file: Path) -> Head:
    """Read the columns, number of rows and footer of a file.

    Raises:
        InputError: it is truncated, or not a parquet file.
    """
    opened = library().ParquetFile
    start = b""
    try:
        with file.open("rb") as raw:
            start = raw.read(len(_LFS))
            raw.seek(0)
            table = opened(raw)
            names, count = tuple(table.schema_arrow.names), int(table.metadata.num_rows)
            raw.seek(-_END, 2)
            length = int.from_bytes(raw.read(4), "little")
            raw.seek(-_END - length, 2)
            return Head(names, count, raw.read(length))
    # pyarrow's own errors are OSError, ValueError and many more.
    except Exception as error:
        if start == _LFS:
            raise InputError(
                f"{file} is a placeholder of git-lfs; fetch the file: git lfs pull"
            ) from error
        cause = " ".join(str(error).split())
        raise InputError(
            f"{file} is truncated or not a parquet file ({cause}); download it again"
        ) from error


def rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[Row | Fault]:
    """Iterate over all rows, with these columns only; an unreadable part of a file is a fault.

    Raises:
        InputError: a file is missing, or was truncated meanwhile.
    """
    number = 0
    for file in files:
        table = _opened(file)
        with table:
            for group in range(table.num_row_groups):
                size = table.metadata.row_group(group).num_rows
                done = 0
                try:
                    for values in _values(table, group, columns, _BATCH):
                        yield Row(number + done, values, Place(file, group, done))
                        done += 1
                except Exception as error:  # noqa: BLE001 - pyarrow raises nearly anything for broken pages
                    cause = " ".join(str(error).split())
                    yield Fault(
                        f"rows {number + done} to {number + size - 1}",
                        f"{file.name} is damaged there ({cause}); download it again",
                    )
                number += size


def _opened(file: Path) -> Any:
    try:
        return library().ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can no longer be read; was it moved or cut short?") from error


def _values(table: Any, group: int, columns: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(size, row_groups=[group], columns=list(columns)):
        yield from batch.to_pylist()


class Pictures:
    """A reader of pictures by place that keeps the last few, as their samples are neighbours.

    It reads forward through a row group; going back restarts the group.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._lock = threading.Lock()
        self._at: tuple[Path, int] | None = None
        self._batches: Iterator[Any] = iter(())
        self._next = 0
        self._held: deque[tuple[int, list[Any]]] = deque(maxlen=2)

    def read(self, place: Place) -> bytes:
        """Read the bytes of the picture at a place.

        Raises:
            PictureError: the row has no picture, or its part of the file is damaged.
            InputError: the file is missing.
        """
        with self._lock:
            try:
                value = self._value(place)
            except InputError:
                raise
            except Exception as error:
                self._at = None
                cause = " ".join(str(error).split())
                raise PictureError(
                    f"{place.file.name} is damaged there ({cause}); download it again"
                ) from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise PictureError(
                f"row {place.row} of group {place.group} in {place.file.name} holds no picture; "
                "download it again"
            )
        return data

    def _value(self, place: Place) -> Any:
        here = (place.file, place.group)
        if self._at != here or (self._held and place.row < self._held[0][0]):
            table = _opened(place.file)
            self._at, self._next = here, 0
            self._held.clear()
            self._batches = table.iter_batches(
                _PICTURES, row_groups=[place.group], columns=[self._column]
            )
        while place.row >= self._next:
            batch = next(self._batches).column(0).to_pylist()
            self._held.append((self._next, batch))
            self._next += len(batch)
        first, batch = next(each for each in reversed(self._held) if each[0] <= place.row)
        return batch[place.row - first]
