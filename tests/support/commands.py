"""Commands as people type them."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from vg_engine.cli.main import app


def call(*arguments: object, code: int = 0, stdin: str | None = None) -> Result:
    """Run a `vg-engine` command, which has to exit with `code`."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin)
    assert done.exit_code == code, done.output
    return done


def refused(*arguments: object, notes: bool = False) -> str:
    """The one line that a mistake gets; there may be notes before it if they are allowed."""
    done = call(*arguments, code=2)
    assert done.stdout == ""
    (error,) = (x for x in done.stderr.splitlines() if not (notes and x.startswith("note: ")))
    assert error.startswith("error: ")
    return error


def whole_at_any_width(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Result]) -> None:
    """All names, numbers and intervals that a pipe gets stand whole on narrow terminals."""
    piped = ask().stdout
    names = [re.split(" {2,}", line)[0] for line in piped.splitlines() if "  " in line.strip()]
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for width in (50, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        shown = Text.from_ansi(ask().stdout).plain
        for pattern in (r"\[[^\]]+\]", r"[+-]?\d+\.\d+"):
            counts = [Counter(re.findall(pattern, text)) for text in (piped, shown)]
            assert not counts[0] - counts[1], f"{width}\n{shown}"
        for name in names:
            assert name in shown, f"{width}\n{shown}"
    monkeypatch.delenv("TTY_COMPATIBLE")
