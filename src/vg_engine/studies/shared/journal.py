"""Work that can be stopped at any moment: an append-only JSONL file of whole batches.

The first line says what the work is (its settings, and their digest as the key). Each later line is
a record that says to which batch it belongs and how many records that batch has. What a kill tore
(a half line, a batch without its last record) is cut off when the journal is opened again, and that
batch is done again whole; nothing is lost but that, and nothing is counted twice.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from vg_engine.core.errors import InputError, OutputError
from vg_engine.plugins.exporters.records import plain, to_line

_LOG = logging.getLogger("vg_engine")
_VERSION = 1
_START = b'{"journal": '
_BATCH, _OF = "batch", "of"
_SHOWN = 3  # settings that differ, named in a message


def digest(value: object) -> str:
    """SHA-256 of what JSON makes of a value, keys sorted."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(values: np.ndarray) -> dict[str, Any]:
    """An array as JSON takes it: shape, and the bytes of its little-endian float32 in base64."""
    flat = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(flat.shape), "f4": base64.b64encode(flat.tobytes()).decode("ascii")}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """The float32 array of `pack`.

    >>> unpack(pack(np.array([[0.5, 2.0]], np.float32)))
    array([[0.5, 2. ]], dtype=float32)
    """
    flat = np.frombuffer(base64.b64decode(packed["f4"]), dtype="<f4")
    return flat.reshape(packed["shape"]).astype(np.float32)


def header(path: Path) -> Mapping[str, Any] | None:
    """The settings that a journal was begun with; None where there is none to be read."""
    try:
        with path.open("rb") as lines:
            settings = json.loads(lines.readline())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None


class Journal:
    """A file of whole batches, opened to go on where it ends.

    Args:
        path: made if it does not exist; its folder must exist.
        work: what is done (`discover`), for messages.
        settings: what the records depend on. A journal of other settings is refused.
        remarks: kept with the first line as they were when the work began (the date).

    Attributes:
        done: number of whole batches that it holds.
        remarks: those of the first line.

    Raises:
        InputError: it is a journal of other settings, or no journal.
        OutputError: it cannot be written, or another process is writing it.
    """

    def __init__(
        self,
        path: Path,
        work: str,
        settings: Mapping[str, Any],
        *,
        remarks: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.done = 0
        self.remarks: Mapping[str, Any] = plain(dict(remarks or {}))
        self._work = work
        self._settings = plain(dict(settings))
        try:
            # Unbuffered: what could not be written must not stay behind to be written later.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._end = self._resume()
        except BaseException:
            self._file.close()
            raise

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the next batch; it is there whole or not at all.

        Raises:
            OutputError: it cannot be written; what was there before stays.
        """
        lines = [
            to_line({_BATCH: self.done, _OF: len(records), **plain(dict(record))})
            for record in records
        ]
        self._write("".join(f"{line}\n" for line in lines).encode())
        self.done += 1

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of all whole batches, in order, read from the file."""
        with self.path.open("rb") as lines:
            next(lines)
            while lines.tell() < self._end:
                yield json.loads(lines.readline())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _lock(self) -> None:
        with contextlib.suppress(ImportError):  # where there is none, two writers are not told
            import fcntl  # noqa: PLC0415 - not on every system

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{self.path} is being written by another process; wait for it, or choose "
                    "another folder with --out"
                ) from None
            except OSError:
                return  # a file system without locks

    def _resume(self) -> int:
        """Read what is there, cut off what is torn; returns where the next batch goes."""
        with self.path.open("rb") as lines:
            first = lines.readline()
            if first.endswith(b"\n"):
                self._check(first)
                end = self._whole_batches(lines)
                lines.seek(end)
                self._save(lines.read())
                self._cut(end)
                return end
        if first and not first.startswith(_START[: len(first)]):
            raise self._no_journal()
        self._cut(0)
        header = {"journal": _VERSION, "work": self._work, "key": digest(self._settings)}
        header |= {"settings": self._settings, "remarks": self.remarks}
        self._end = 0
        self._write(f"{to_line(header)}\n".encode())
        return self._end

    def _save(self, rest: bytes) -> None:
        """Keep what no kill can have left: more than one batch's records behind the whole ones."""
        places = [place for line in rest.splitlines(keepends=True) if (place := _place(line))]
        if all(place[0] == self.done for place in places):
            return
        copy = self.path.with_name(f"{self.path.name}.damaged")
        try:
            shutil.copyfile(self.path, copy)
        except OSError as error:
            raise self._unwritable(error) from error
        _LOG.warning(
            "%s is damaged after batch %d: what follows is done again; the file as it was is kept "
            "as %s",
            self.path,
            self.done,
            copy.name,
        )

    def _whole_batches(self, lines: IO[bytes]) -> int:
        """Count them; returns where the last one ends."""
        end = lines.tell()
        seen = 0  # records of the batch that is being read
        while line := lines.readline():
            place = _place(line)
            if place is None or place[0] != self.done:
                break
            seen += 1
            if seen == place[1]:
                seen = 0
                self.done += 1
                end = lines.tell()
        return end

    def _check(self, first: bytes) -> None:
        try:
            header = json.loads(first)
            work, settings = header["work"], header["settings"]
        except (ValueError, KeyError, TypeError):
            raise self._no_journal() from None
        if header.get("journal") != _VERSION:
            raise InputError(
                f"{self.path} was written by another version of this tool; choose another folder "
                "with --out, or remove it"
            )
        if work != self._work or settings != self._settings:
            other = f"{work} run" if work != self._work else "run of other settings"
            told = ", ".join(_differences(settings, self._settings)[:_SHOWN]) or "its work"
            raise InputError(
                f"{self.path} belongs to a {other} ({told}); choose another folder with --out, or "
                "remove it"
            )
        self.remarks = header.get("remarks", {})

    def _no_journal(self) -> InputError:
        return InputError(
            f"{self.path} is not a file of ours to go on with; choose another folder with --out"
        )

    def _cut(self, end: int) -> None:
        try:
            self._file.truncate(end)
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # The part that went through is taken back; if even that fails, opening it again does.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise self._unwritable(error) from error
        self._end += len(data)

    def _unwritable(self, error: OSError) -> OutputError:
        cause = error.strerror or str(error)
        return OutputError(
            f"{self.path} cannot be written ({cause}); what was done stays: make room or mend the "
            "permission and run the same command again, or choose another folder with --out"
        )


def _place(line: bytes) -> tuple[int, int] | None:
    """To which batch a record belongs, and how many that batch has; None for a torn line."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
        return int(record[_BATCH]), int(record[_OF])
    except (ValueError, KeyError, TypeError):
        return None


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two settings, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        told = []
        for key in sorted({*old, *new}):
            told += _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return told
    return [] if old == new else [f"{path}: {_short(old)} there, {_short(new)} now"]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
