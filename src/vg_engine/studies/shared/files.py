"""The files of a study: numbers as JSON, and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from vg_engine.html.report_page import ReportPage
from vg_engine.plugins.files import prepare_folder, write_whole

REPORT = "report.html"


class StudyFiles:
    """A result that writes its numbers and its report into a folder."""

    numbers_file: ClassVar[str]
    report_file: ClassVar[str] = REPORT

    def to_json(self) -> dict[str, Any]:
        """All numbers, as the file holds them."""
        raise NotImplementedError

    def report(self, *, command: str = "") -> ReportPage:
        """Make the report.

        Args:
            command: the command that made it, for its foot.
        """
        raise NotImplementedError

    def save(self, folder: Path | str, *, command: str = "") -> None:
        """Write the numbers as JSON and the report as HTML.

        Args:
            folder: made if it does not exist.
            command: the command that made it, for the foot of the report.

        Raises:
            OutputError: a file cannot be written.
        """
        folder = prepare_folder(Path(folder))
        write_json(folder / self.numbers_file, self.to_json())
        write_page(folder / self.report_file, self.report(command=command))


def write_json(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers as indented JSON, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(numbers, ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def write_page(path: Path, page: ReportPage) -> None:
    """Write a report, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(path, page.render().encode())
