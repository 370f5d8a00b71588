"""FileNames of files for answers: readable, safe on any system, each once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vg_engine.cli.questions import Question
from vg_engine.plugins.files import slug


class FileNames:
    """Hands out file stems, the same for the same questions in the same order.

    Args:
        taken: names of files that must stay as they are (the pictures that are asked about).
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used: set[str] = set()
        self._taken = tuple(name.lower() for name in taken)

    def of(self, question: Question) -> str:
        """A stem for a question's files: its id or picture, then its text."""
        first = str(question.id) if question.named else Path(question.image).stem
        return self._once("-".join(filter(None, (slug(first), slug(str(question.text))))))

    def of_sheet(self, question: Question) -> str:
        """A stem for the sheet of a question's picture."""
        return self._once(f"{slug(Path(question.image).stem) or 'picture'}-all")

    def _once(self, wanted: str) -> str:
        stem = wanted or "answer"
        name, number = stem, 1
        while name in self._used or any(t.startswith(f"{name}.") for t in self._taken):
            number += 1
            name = f"{stem}-{number}"
        self._used.add(name)
        return name
