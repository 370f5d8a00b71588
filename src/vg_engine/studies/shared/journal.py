"""Journals of resumable studies: append-only JSONL files of whole batches.

The first line states the study (its settings, and their digest as the key). Each later line is a
record with the number of its batch and the number of records in that batch. After a kill, an
incomplete end (half a line, a batch without its last record) is cut off when the journal is opened
again, and that batch is repeated. Nothing else is lost, and nothing is counted twice.
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
from typing import IO, Any

import numpy as np

from vg_engine.core.errors import InputError, OutputError
from vg_engine.plugins.exporters.records import plain, to_line

_LOG = logging.getLogger("vg_engine")
VERSION = 1
_START = b'{"journal": '
# What discover, eval, ablate and run write their records into.
FILES = ("observations.jsonl", "records.jsonl", "readings.jsonl", "results.jsonl")
_BATCH, _OF = "batch", "of"
_SHOWN = 3  # differing settings that a message lists


def digest(value: object) -> str:
    """Compute the SHA-256 of a value as JSON with sorted keys."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(values: np.ndarray) -> dict[str, Any]:
    """Encode an array for JSON: its shape, and its little-endian float32 bytes in base64."""
    flat = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(flat.shape), "f4": base64.b64encode(flat.tobytes()).decode("ascii")}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """Decode the float32 array that `pack` encoded.

    >>> unpack(pack(np.array([[0.5, 2.0]], np.float32)))
    array([[0.5, 2. ]], dtype=float32)
    """
    flat = np.frombuffer(base64.b64decode(packed["f4"]), dtype="<f4")
    return flat.reshape(packed["shape"]).astype(np.float32)


def header(path: Path) -> Mapping[str, Any] | None:
    """Read the settings that a journal was started with; None without a readable journal."""
    try:
        with path.open("rb") as lines:
            settings = json.loads(lines.readline())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None


def check_alone(path: Path) -> None:
    """Refuse to begin a file in a folder that another study, or a run, has written into.

    Raises:
        InputError: it holds the file of another.
    """
    others = [name for name in FILES if name != path.name and path.with_name(name).exists()]
    if others and not path.exists():
        raise InputError(
            f"{path.parent} holds {others[0]} of another command, whose report would be replaced; "
            "choose another folder with --out"
        )


class Journal:
    """A file of whole batches, opened to append the next one.

    Args:
        path: the file, made if it does not exist; its folder must exist.
        work: name of the study (`discover`), for messages.
        settings: everything that the records depend on. A journal of other settings is refused.
        remarks: kept in the first line as they were when the study started (the date).

    Attributes:
        done: number of whole batches in the file.
        remarks: those of the first line.

    Raises:
        InputError: the file is a journal of other settings, or not a journal, or its folder
            belongs to another command.
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
        check_alone(path)
        try:
            # Unbuffered: data that failed to be written must not remain to be written later.
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
        """Append the next batch, whole or not at all.

        Raises:
            OutputError: it cannot be written; the earlier batches stay.
        """
        lines = [
            to_line({_BATCH: self.done, _OF: len(records), **plain(dict(record))})
            for record in records
        ]
        self._write("".join(f"{line}\n" for line in lines).encode())
        self.done += 1

    def records(self) -> Iterator[dict[str, Any]]:
        """Read the records of all whole batches from the file, in order."""
        with self.path.open("rb") as lines:
            next(lines)
            while lines.tell() < self._end:
                yield json.loads(lines.readline())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lock(self) -> None:
        with contextlib.suppress(ImportError):  # without it, a second writer goes unnoticed
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
        """Read the file and cut off an incomplete end; returns the offset of the next batch.

        A journal of other settings is begun anew if no sample in it was measured.
        """
        with self.path.open("rb") as lines:
            first = lines.readline()
            if first.endswith(b"\n"):
                there = self._header(first)
                self._end = self._whole_batches(lines)
                same = (there["work"], there["settings"]) == (self._work, self._settings)
                if not same and any(map(_measured, self.records())):
                    raise self._of_others(there)
                lines.seek(self._end)
                self._save(lines.read())
                if same:
                    self._cut(self._end)
                    self.remarks = there.get("remarks", {})
                    return self._end
            elif first and not first.startswith(_START[: len(first)]):
                raise self._not_a_journal()
        self.done = 0
        self._cut(0)
        header = {"journal": VERSION, "work": self._work, "key": digest(self._settings)}
        header |= {"settings": self._settings, "remarks": self.remarks}
        self._end = 0
        self._write(f"{to_line(header)}\n".encode())
        return self._end

    def _save(self, rest: bytes) -> None:
        """Keep a copy of a damaged file: more follows its whole batches than a kill can leave."""
        places = [place for line in rest.splitlines(keepends=True) if (place := _place(line))]
        if all(place[0] == self.done for place in places):
            return
        copy = self.path.with_name(f"{self.path.name}.damaged")
        try:
            shutil.copyfile(self.path, copy)
        except OSError as error:
            raise self._unwritable(error) from error
        _LOG.warning(
            "%s is damaged after batch %d: the rest is done again; a copy of the file is kept as "
            "%s",
            self.path,
            self.done,
            copy.name,
        )

    def _whole_batches(self, lines: IO[bytes]) -> int:
        """Count the whole batches; returns the offset of their end."""
        end = lines.tell()
        seen = 0  # records of the current batch
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

    def _header(self, first: bytes) -> dict[str, Any]:
        try:
            header: dict[str, Any] = json.loads(first)
            header["work"], header["settings"]
        except (ValueError, KeyError, TypeError):
            raise self._not_a_journal() from None
        if header.get("journal") != VERSION:
            raise InputError(
                f"{self.path} was written by another version of this tool; choose another folder "
                "with --out, or remove it"
            )
        return header

    def _of_others(self, header: Mapping[str, Any]) -> InputError:
        work = header["work"]
        other = f"{work} run" if work != self._work else "run of other settings"
        changes = differences(header["settings"], self._settings) or "its work"
        return InputError(
            f"{self.path} belongs to a {other} ({changes}); choose another folder with --out, "
            "or remove it"
        )

    def _not_a_journal(self) -> InputError:
        return InputError(
            f"{self.path} is not a journal of this tool; choose another folder with --out"
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
            # Remove the part that was written; if even that fails, the next opening removes it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise self._unwritable(error) from error
        self._end += len(data)

    def _unwritable(self, error: OSError) -> OutputError:
        cause = error.strerror or str(error)
        return OutputError(
            f"{self.path} cannot be written ({cause}); earlier work is kept: make room or fix the "
            "permission and run the same command again, or choose another folder with --out"
        )


def _place(line: bytes) -> tuple[int, int] | None:
    """Read a record's batch number and the size of that batch; None for an incomplete line."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
        return int(record[_BATCH]), int(record[_OF])
    except (ValueError, KeyError, TypeError):
        return None


def _measured(record: Mapping[str, Any]) -> bool:
    """Tell a record that holds work from one of faults alone."""
    return "error" not in record and record.get("samples") != []


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name the first settings that differ, in words; empty if none does.

    >>> differences({"prompt": {"form": "bare"}}, {"prompt": {"form": "chat"}, "heads": ["L1H2"]})
    'heads: none there, L1H2 now, prompt form: bare there, chat now'
    """
    return ", ".join(_differing(old, new)[:_SHOWN])


def _differing(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, list) and isinstance(new, list) and dict in map(type, [*old, *new]):
        old, new = ({str(n): one for n, one in enumerate(each, 1)} for each in (old, new))
    if isinstance(old, dict | None) and isinstance(new, dict | None) and old != new:
        old, new = old or {}, new or {}
        told = []
        for key in sorted({*old, *new}):
            told += _differing(old.get(key), new.get(key), f"{path} {key}" if path else key)
        return told
    path = path.replace("_", " ")
    return [] if old == new else [f"{path}: {_short(old)} there, {_short(new)} now"]


def _short(value: object) -> str:
    if isinstance(value, list):
        text = ", ".join(map(_short, value)) or "none"
    else:
        text = {"None": "none", "True": "yes", "False": "no"}.get(str(value), str(value))
    return text if len(text) <= 40 else f"{text[:37]}..."
