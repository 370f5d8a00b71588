"""The files of a study: numbers as JSON, and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vg_engine.html.report_page import ReportPage
from vg_engine.plugins.files import write_whole

REPORT = "report.html"


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
