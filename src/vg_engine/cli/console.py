"""Output: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_FEW = 2  # records from which a progress bar is worth its line
_EVERY = 15.0  # seconds between lines where there is no terminal to draw a bar on


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


def record(value: object) -> None:
    """Print a value as one line of JSON."""
    result(json.dumps(value, ensure_ascii=False))


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
def spinner(words: str) -> Iterator[None]:
    """A spinner on a terminal, for what may take more than two seconds."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield


def live_bar(words: str, *columns: ProgressColumn, disable: bool = False) -> Progress:
    """A bar after its words, with the time that is left; it goes when it is done."""
    return Progress(
        TextColumn(words),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=stderr(),
        disable=disable,
        # Lines of results may pass above the bar only where both go to one screen.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )


@contextmanager
def progress_bar(total: int) -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal and there is more than one thing to do."""
    shown = total >= _FEW and stderr().is_terminal
    with live_bar("grounding", MofNCompleteColumn(), disable=not shown) as bar:
        bar.add_task("grounding", total=total)
        yield bar


class _Rate(ProgressColumn):
    """The column of the progress bar with the records per second."""

    def render(self, task: Task) -> Text:
        """The rate of a task, once it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def study_progress(words: str) -> Iterator[Callable[[int, int], None]]:
    """Progress of long work: a bar with rate and time left, or a line now and then without one.

    Yields:
        to be called with (done, total); what was done before the first call does not count
        for the rate.
    """
    if not stderr().is_terminal:
        yield _lines(words)
        return
    with live_bar(words, MofNCompleteColumn(), _Rate()) as bar:
        task = bar.add_task(words, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield tell


def _lines(words: str) -> Callable[[int, int], None]:
    began = last = time.monotonic()
    first: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal last, first, began
        now = time.monotonic()
        if first is None:
            first, began, last = done, now, now
            if 0 < done < total:
                say("note", f"{words}: goes on after {done:,} of {total:,}")
        elif now - last >= _EVERY and done > first:
            last = now
            rate = (done - first) / (now - began)
            left = (total - done) / rate
            say("note", f"{words}: {done:,} of {total:,}, {rate:.1f}/s, {left / 60:.1f} min left")

    return tell


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the bars and tables of other libraries: this command says it in a line of its own."""
    from transformers.utils import logging as theirs  # noqa: PLC0415 - slow

    others: Any = theirs
    shown = others.is_progress_bar_enabled()
    others.disable_progress_bar()
    spoken = others.get_verbosity()
    others.set_verbosity_error()
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # of retries, the last word is enough
    try:
        yield
    finally:
        hub.setLevel(level)
        others.set_verbosity(spoken)
        if shown and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
            others.enable_progress_bar()
