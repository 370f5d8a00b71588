"""Atomic writing of files: under a temporary name, then renamed."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vg_engine.core.errors import OutputError
from vg_engine.plugins.exporters.records import to_line

_LONGEST_SLUG = 40


def prepare_folder(folder: Path) -> Path:
    """Make a folder, and check that files can be written in it.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name and rename it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        part = _part(path)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def remove(path: Path) -> None:
    """Remove a file, if there is one.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


class JsonLines:
    """A JSONL file that appears when its `with` block ends, even by an error, in whole lines only.

    Each line is flushed to a file of a temporary name; without any line, no file appears.

    Raises:
        OutputError: the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; choose another folder with --out")
        self._path = path
        self._part = _part(path)
        self._file: IO[str] | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._part.open("w", encoding="utf-8")
            self._file.write(to_line(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            self._part.replace(self._path)
        except OSError as failed:
            raise _unwritable(self._path, failed) from failed


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _unwritable(path: Path, error: OSError) -> OutputError:
    cause = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({cause}); choose another folder with --out")


def slug(text: str) -> str:
    """Lower-case letters, digits and single hyphens.

    >>> slug("The RED cup, left!")
    'the-red-cup-left'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_SLUG].strip("-")
