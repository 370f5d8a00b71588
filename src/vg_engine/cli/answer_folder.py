"""The folder of a run's answers: those of one command, and no older ones."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError
from vg_engine.plugins.files import JsonLines, prepare_folder, remove, write_whole
from vg_engine.studies.shared.journal import check_alone, differences

RESULTS, RUN = "results.jsonl", "run.json"
_ADVICE = "choose another folder with --out, or remove it"


class AnswerFolder:
    """Writes the files of a run; the first of them replaces those that the same command left.

    Attributes:
        path: of the folder.
        spared: names of files in it that are not the run's to replace.

    Raises:
        InputError: it holds the answers of another command.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], spared: Collection[str]) -> None:
        self.path = path
        self._settings = settings
        self.spared = spared
        self._files: list[str] = []
        self._lines: JsonLines | None = None
        self._earlier = self._left()

    def write(self, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all."""
        self._begin()
        self._files.append(name)
        return write_whole(self.path / name, data)

    def record(self, record: Mapping[str, Any]) -> None:
        """Add a record to the results."""
        self._begin().write(record)

    def close(self) -> None:
        """Let the results appear."""
        if self._lines is not None:
            self._note()
            self._lines.__exit__(None, None, None)

    def _begin(self) -> JsonLines:
        if self._lines is None:
            for name in {RESULTS, *self._earlier} - {*self.spared}:
                remove(self.path / name)
            self._note()
            self._lines = JsonLines(self.path / RESULTS)
        return self._lines

    def _note(self) -> None:
        """Write down whose folder this is."""
        run = {"settings": self._settings, "files": self._files}
        write_whole(self.path / RUN, f"{json.dumps(run, indent=1)}\n".encode())

    def _left(self) -> list[str]:
        """The files of the same command's last run."""
        try:
            run = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            there, files = dict(run["settings"]), [Path(name).name for name in run["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            if (self.path / RESULTS).exists():
                raise InputError(f"{self.path} holds {RESULTS} of another run; {_ADVICE}") from None
            check_alone(self.path / RESULTS)
            return []
        if there != self._settings:
            changes = differences(there, self._settings)
            raise InputError(
                f"{self.path} belongs to a run of other settings ({changes}); {_ADVICE}"
            )
        return files


@contextmanager
def made(out: Path) -> Iterator[None]:
    """Make the folder before any work starts; take it away again if nothing came of it."""
    # Unlike Path's, this does not raise where a folder may not be looked into.
    new = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]  # noqa: PTH110
    try:
        prepare_folder(out)
        yield
    finally:
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()  # only if it is empty
