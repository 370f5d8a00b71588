"""Data sets by name: `refcoco:/data/refer?by=unc&split=testA`.

The part before the colon is the reader, found among the entry points `vg_engine.datasets`; then
follow the path of the files and the reader's options. A reader is a function of a path (None where
none was given) and of options that have defaults; it returns a `DataSet`:

    def birds(path: Path | None, *, split: str = "val") -> DataSet: ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from vg_engine.core.errors import InputError, NotFoundError, PluginError, VGError
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.plugins import entrypoints, options
from vg_engine.plugins.datasets.in_memory import data_set

Data = DataSet | str | Path | Sequence[Sample | Mapping[str, Any]]


class DataName(NamedTuple):
    """The parts of a data set's name."""

    reader: str
    path: Path | None
    options: dict[str, str]


def parse_name(text: str) -> DataName:
    """Split a data set's name into its parts.

     parse_name("refcoco:/data/refer?by=unc&split=testA").options
    {'by': 'unc', 'split': 'testA'}

    Raises:
        InputError: the name has no reader, or an option has no value.
    """
    front, mark, stated = text.rpartition("?")
    if not mark:
        front, stated = text, ""
    reader, _, place = front.partition(":")
    if not reader.strip():
        raise InputError(f"--data {text!r} names no reader; write jsonl:samples.jsonl, for one")
    found = {key: unquote(value) for key, value in options.pairs(stated, "&").items()}
    return DataName(reader.strip(), Path(place).expanduser() if place else None, found)


def open_data(name: Data) -> DataSet:
    """Open a data set by name, or make one of samples in memory.

    Args:
        name: a name, a data set (returned as it is), or a list as `in_memory.data_set` takes it.

    Raises:
        NotFoundError: there is no such reader; the message gives the nearest names.
        InputError: the reader has no such option, or it refuses the files.
        PluginError: the reader fails, or does not return a `DataSet`.
    """
    if isinstance(name, DataSet):
        return name
    if not isinstance(name, str | Path):
        return data_set(name)
    text = str(name)
    parsed = parse_name(text)
    entry = find_reader(text)
    reader = entry.load()
    values = options.parse(f"data set {parsed.reader!r}", reader, parsed.options)
    try:
        found = reader(parsed.path, **values)
    except VGError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(
            f"the reader {parsed.reader!r} of {entry.package} broke on {text!r} ({cause}); "
            "check the files, or tell its authors"
        ) from error
    if not isinstance(found, DataSet):
        raise PluginError(
            f"the reader {parsed.reader!r} of {entry.package} returned "
            f"{type(found).__name__} instead of a DataSet; tell its authors"
        )
    return replace(found, name=text)


def find_reader(text: str) -> entrypoints.Entry:
    """Find the reader that a data set's name names, without importing it.

    Raises:
        NotFoundError: there is no such reader; the message gives the nearest names.
        InputError: the text is no name of a data set.
    """
    try:
        return entrypoints.find(entrypoints.DATASETS, parse_name(text).reader)
    except NotFoundError as error:
        suffix = Path(text.partition("?")[0]).suffix.lstrip(".")
        if suffix in ("jsonl", "parquet"):
            raise NotFoundError(f"{error}; for a file say {suffix}:{text}") from error
        raise
