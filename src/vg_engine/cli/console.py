"""Where words go: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_FEW = 2  # records from which a progress bar is worth its line


def stderr() -> Console:
    """The console for everything that is no result."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(kind: str, message: str) -> None:
    """One line on stderr: `error: ...` or `note: ...`."""
    style = "bold red" if kind == "error" else "cyan"
    stderr().print(Text.assemble((f"{kind}: ", style), " ".join(message.split())))


def result(line: str) -> None:
    """One line on stdout, as it is: other programs read it.

    What stdout's encoding lacks is written as JSON escapes it, so that JSON stays JSON.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if not _fits(line, encoding):
        line = "".join(c if _fits(c, encoding) else json.dumps(c)[1:-1] for c in line)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Notes(logging.Handler):
    """Shows what the engine logs, each sentence once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log record."""
        self.tell([record.getMessage()])

    def tell(self, sentences: Iterable[str]) -> None:
        """Show sentences that were not shown before."""
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                say("note", sentence)


@contextmanager
def notes() -> Iterator[Notes]:
    """Show on stderr what the engine logs while the block runs."""
    handler = Notes()
    logger = logging.getLogger("vg_engine")
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = before
        logger.removeHandler(handler)


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """A spinner on a terminal, for what may take more than two seconds."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield


@contextmanager
def progress(total: int) -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal and there is more than one thing to do."""
    bar = Progress(
        TextColumn("grounding"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        disable=total < _FEW or not stderr().is_terminal,
        # Lines of results may pass above the bar only where both go to one screen.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    with bar:
        bar.add_task("grounding", total=total)
        yield bar
