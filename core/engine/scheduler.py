"""Requests on their way through an engine, and answers that wait for the rest of their picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding
from vg_engine.core.errors import VGError


@dataclass(frozen=True, eq=False)
class Request:
    """A question; with an error it was wrong from the start."""

    picture: Picture | None
    text: str
    error: VGError | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a question."""

    picture: Picture | None
    outcome: Grounding | VGError


def complete(pending: Sequence[Answer], hooks: Hooks) -> int:
    """How many answers can go: all, unless a post-processor waits for a picture's last."""
    if not hooks.postprocessors or not pending:
        return len(pending)
    ready = len(pending)
    while ready and pending[ready - 1].picture is pending[-1].picture:
        ready -= 1
    return ready


def refined(hooks: Hooks, answers: Sequence[Answer]) -> Iterator[Grounding | VGError]:
    """The outcomes in order, after the post-processors."""
    if not hooks.postprocessors:
        yield from (answer.outcome for answer in answers)
        return
    for _, run in groupby(answers, key=lambda answer: id(answer.picture)):
        group = list(run)
        good = [a.outcome for a in group if isinstance(a.outcome, Grounding)]
        picture = group[0].picture
        better = iter(hooks.postprocess(good, picture) if picture and good else ())
        for answer in group:
            yield next(better) if isinstance(answer.outcome, Grounding) else answer.outcome
