"""`vg-engine run`: the work."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vg_engine.cli import console
from vg_engine.cli.answer_folder import RESULTS, AnswerFolder, made
from vg_engine.cli.file_names import FileNames
from vg_engine.cli.questions import Pictures, Question, Questions, repeated_ids
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding
from vg_engine.core.errors import InputError, VGError
from vg_engine.engine_spec import EngineSpec
from vg_engine.plugins.exporters.masks import to_png
from vg_engine.plugins.exporters.records import to_line, to_record
from vg_engine.render import draw, sheet

if TYPE_CHECKING:
    from vg_engine.core.engine.engine import Engine

MISTAKE = 2
_SEVERAL, _ON_A_SHEET = 2, 12  # answers from which a sheet is drawn, and that it has room for


@dataclass(frozen=True)
class Output:
    """The output that the user wants.

    Attributes:
        out: folder for `results.jsonl` and pictures.
        masks: write them as PNG, too.
        as_json: records on stdout instead of lines for people.
    """

    out: Path | None
    masks: bool
    as_json: bool


def ground(asked: Questions, wanted: Output, spec: EngineSpec) -> int:
    """Answer everything that is asked; the exit code.

    Raises:
        VGError: the user's mistake; in a JSONL batch only what stops all of it.
    """
    if wanted.masks and wanted.out is None:
        raise InputError("--mask writes files; say where with --out DIR")
    with console.notes() as notes, contextlib.ExitStack() as stack:
        if wanted.out is not None:
            stack.enter_context(made(wanted.out))
            _spare(asked.queries, wanted.out / RESULTS)
        questions = asked.all()
        folder = _folder(wanted.out, asked, questions, spec)
        notes.tell(repeated_ids(questions))
        from vg_engine.api import load  # noqa: PLC0415 - torch, once the questions are right

        stack.enter_context(console.quiet_libraries())
        with console.spinner("loading the model"):
            engine = stack.enter_context(load(spec))
        notes.tell(engine.model.statements)
        if folder is not None:
            stack.callback(folder.close)
        writer = _Writer(wanted, notes, folder)
        bar = stack.enter_context(console.progress_bar(len(questions)))
        lines = asked.queries is not None
        for question, picture, outcome in _answers(engine, asked, questions):
            if isinstance(outcome, Grounding) and picture is not None:
                writer.answer(question, picture, outcome)
                if not lines:
                    writer.collect(question, picture, outcome)
            elif isinstance(outcome, VGError):
                if not lines and len(questions) == 1:
                    raise outcome
                writer.failure(question, outcome)
            bar.advance(bar.task_ids[0])
        writer.finish_sheet()
    return MISTAKE if writer.failed else 0


def _answers(
    engine: Engine, asked: Questions, questions: Sequence[Question]
) -> Iterator[tuple[Question, Picture | None, Grounding | VGError]]:
    """Each question with its picture and its answer, in order."""
    waiting: deque[tuple[Question, Picture | None, VGError | None]] = deque()

    def requests() -> Iterator[tuple[Picture, str]]:
        pictures = Pictures(asked.max_pixels)
        for question in questions:
            try:
                if question.error is not None:
                    raise question.error
                picture = pictures.of(question)
            except VGError as error:
                waiting.append((question, None, error))
            else:
                waiting.append((question, picture, None))
                yield picture, question.text

    def failed() -> Iterator[tuple[Question, None, VGError]]:
        while waiting and (error := waiting[0][2]) is not None:
            yield waiting.popleft()[0], None, error

    for outcome in engine.ground_many(requests(), errors="yield"):
        yield from failed()
        question, picture, _ = waiting.popleft()
        yield question, picture, outcome
    yield from failed()


class _Writer:
    """Writes answers where they belong."""

    def __init__(self, wanted: Output, notes: console.Notes, folder: AnswerFolder | None) -> None:
        self.failed = 0
        self._wanted = wanted
        self._notes = notes
        self._folder = folder
        self._names = FileNames(folder.spared if folder else ())
        self._group: list[tuple[Question, Picture, Grounding]] = []
        self._asked_of_it = 0

    def answer(self, question: Question, picture: Picture, grounding: Grounding) -> None:
        drawn: Path | None = None
        files: dict[str, Any] = {}
        if self._folder is not None:
            stem = self._names.of(question)
            drawn = self._folder.write(f"{stem}.png", to_png(draw(grounding, picture)))
            files["overlay"] = drawn.name
            if self._wanted.masks:
                files["mask_files"] = [
                    self._folder.write(f"{stem}.mask{f'-{n}' if n else ''}.png", to_png(mask)).name
                    for n, mask in enumerate(grounding.masks)
                ]
        line = to_record(grounding, id=question.id, image=question.image) | files
        self._emit(line, _line(question, grounding, drawn))
        self._notes.tell(grounding.notes)

    def collect(self, question: Question, picture: Picture, grounding: Grounding) -> None:
        """Keep an answer for the sheet of its picture; a new picture finishes the last one's."""
        if self._group and self._group[-1][0].path != question.path:
            self.finish_sheet()
        self._asked_of_it += 1
        # Masks of large pictures are large: no more is kept than a sheet shows.
        if self._folder is not None and len(self._group) < _ON_A_SHEET:
            self._group.append((question, picture, grounding))

    def finish_sheet(self) -> None:
        """Draw all answers about one picture side by side, if there are several."""
        group, self._group = self._group, []
        asked, self._asked_of_it = self._asked_of_it, 0
        if self._folder is None or len(group) < _SEVERAL:
            return
        question, picture, _ = group[0]
        drawn = sheet([grounding for _, _, grounding in group], picture)
        path = self._folder.write(f"{self._names.of_sheet(question)}.png", to_png(drawn))
        which = "all answers" if asked == len(group) else f"the first {len(group)} answers"
        self._notes.tell([f"{which} about {Path(question.image).name} side by side: {path}"])

    def failure(self, question: Question, error: VGError) -> None:
        self.failed += 1
        line = {
            "id": question.id,
            "image": question.image or None,
            "expression": question.text if isinstance(question.text, str) else None,
            "error": " ".join(str(error).split()),
            "error_type": type(error).__name__,
        }
        console.say("error", f"record {question.id}: {error}")
        self._emit(line, None)

    def _emit(self, record: Mapping[str, Any], line: str | None) -> None:
        if self._folder is not None:
            self._folder.record(record)
        if self._wanted.as_json:
            console.result(to_line(record))
        elif line is not None:
            console.result(line)


def _line(question: Question, grounding: Grounding, drawn: Path | None) -> str:
    """An answer for people."""
    where = "not found"
    if grounding.box is not None:
        where = "box " + ", ".join(f"{value:.1f}" for value in grounding.box)
    parts = [f"{Path(question.image).name}: {grounding.expression}  ->  {where}"]
    parts.append(f"score {grounding.score:.2f}")
    if drawn is not None:
        parts.append(str(drawn))
    return "  ".join(parts)


def _folder(
    out: Path | None, asked: Questions, questions: Sequence[Question], spec: EngineSpec
) -> AnswerFolder | None:
    """The folder for the answers to a command; its pictures there are left as they are."""
    if out is None:
        return None
    settings = {
        "images": list(asked.images),
        "texts": list(asked.texts),
        "input": asked.queries,
        **spec.to_dict(),
    }
    return AnswerFolder(out, settings, {*_inside(out, [question.path for question in questions])})


def _spare(queries: str | None, results: Path) -> None:
    """Refuse to write the answers over the questions."""
    asked = None if queries is None else Path(queries)
    # An input that cannot be found is complained about where it is read.
    with contextlib.suppress(OSError, ValueError):
        if asked is not None and results.samefile(asked):
            raise InputError(f"--out would overwrite {queries}, the input; choose another folder")


def _inside(folder: Path, paths: Sequence[str]) -> Iterator[str]:
    """The names of those files that lie in a folder."""
    here = folder.resolve()
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError, ValueError):  # names that no file has
            found = Path(path).resolve()
            if found.parent == here:
                yield found.name
