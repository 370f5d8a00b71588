"""The scheduler: groups requests by picture, runs them in passes, splits a pass that fails.

Everything that asks a model goes through here: single groundings, streams, discovery, evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from typing import Any, TypeVar

import torch

from vg_engine.core.attention.head_maps import head_maps, token_maps
from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.inputs import AttentionRequest, Expression, Generation, PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.prompt import Prompt, clean_expression
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.engine.kept_picture import KeptPicture
from vg_engine.core.engine.model_use import ModelUse
from vg_engine.core.errors import InputError, ModelError, VGError
from vg_engine.core.heads import Head

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False)
class Request:
    """One expression about one picture.

    Attributes:
        kept: the picture; None where it could not be decoded.
        expression: the cleaned text.
        error: why it cannot be asked at all.
    """

    kept: KeptPicture | None
    expression: str
    error: VGError | None = None

    @property
    def picture(self) -> KeptPicture:
        """The picture of a request without an error."""
        if self.kept is None:
            raise self.error or InputError(f"{self.expression!r}: there is no picture to ask about")
        return self.kept


@dataclass(frozen=True, eq=False)
class Observed:
    """One query's maps, and the seconds per stage that it took of its pass."""

    maps: HeadMaps
    timings: Mapping[str, float]


def requests_of(pairs: Iterable[Any], keep: Callable[[Any], KeptPicture]) -> Iterator[Request]:
    """Decode pictures and clean texts; neighbours that show the same pixels share a picture.

    Args:
        pairs: (picture, text), read lazily.
        keep: turns what the caller calls a picture into a kept one.

    Yields:
        A request per pair, in order; what is wrong with it is its error.
    """
    last: KeptPicture | None = None
    if not isinstance(pairs, Iterable):
        got = type(pairs).__name__
        raise InputError(f"requests are pairs (picture, expression), in a list or so, got {got}")
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = " ".join(f"{pair!r:.80}".split())
            error = InputError(f"a request is a pair (picture, expression), got {got}")
            last = None
            yield Request(None, "", error)
            continue
        image, text = pair
        try:
            kept = keep(image)
        except VGError as error:
            last = None
            yield Request(None, str(text), error)
            continue
        if last is None or not last.shows_same(kept):
            last = kept
        try:
            yield Request(last, clean_expression(text))
        except VGError as error:
            yield Request(last, str(text), error)


class _TooManyTokensError(VGError):
    """A pass is over the token limit."""


class Scheduler:
    """Runs requests through one model.

    Args:
        hooks: of the engine.
        use: the engine's model.
        batch_size: queries per pass.
        max_tokens: tokens per pass, padding counted; None sets no limit.
    """

    def __init__(
        self, hooks: Hooks, use: ModelUse, *, batch_size: int, max_tokens: int | None = None
    ) -> None:
        self._hooks, self._use = hooks, use
        self._batch_size, self._max_tokens = batch_size, max_tokens

    def run(
        self, requests: Iterable[Request], heads: tuple[Head, ...], prompt: Prompt
    ) -> Generator[tuple[Request, Observed | VGError]]:
        """Take the maps of `heads` for a stream of requests, read lazily, a batch at a time.

        A pass that fails is split until what fails stands alone: that request gets the error.

        Yields:
            Each request with its maps or its error, in order.
        """
        stream = iter(requests)
        last: KeptPicture | None = None
        try:
            while batch := list(islice(stream, self._batch_size)):
                observed = self._observed([r for r in batch if r.error is None], heads, prompt)
                for request in batch:
                    if last is not request.kept:
                        _release(last)
                        last = request.kept
                    yield request, request.error or next(observed)
        finally:
            _release(last)

    def token_maps(
        self, request: Request, heads: tuple[Head, ...], prompt: Prompt
    ) -> tuple[HeadMaps, ...]:
        """Take the maps of each query row of one request apart."""

        def work(alone: Sequence[Request]) -> tuple[HeadMaps, ...]:
            with self._prepared(alone, prompt, _depth(heads), keep=self._keeps(alone)) as ready:
                (views,) = self._hooks.locate_image_tokens(*ready)
                rows = self._hooks.extract_attention(*ready, AttentionRequest(heads))
            inputs = ready[1]
            (query,) = inputs.queries
            unknown = inputs.unknown[0] if inputs.unknown else ()
            size = inputs.sizes[query.scene]
            return token_maps(query, heads, rows.rows[0], views, size, unknown)

        return _alone(work, request)

    def generate(self, request: Request, prompt: Prompt, max_new_tokens: int) -> Generation:
        """Let the model answer one request in words.

        Raises:
            ModelError: the model's adapter does not generate.
        """
        model = self._use.model
        if not model.capabilities.generation:
            raise ModelError(
                f"adapter {self._hooks.adapter!r} does not let {model.name} answer in words; "
                "choose a model whose adapter declares generation"
            )
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1, got {max_new_tokens}")

        def work(alone: Sequence[Request]) -> Generation:
            with self._prepared(alone, prompt, depth=0, keep=False) as ready:
                return self._hooks.generate(*ready, max_new_tokens)[0]

        return _alone(work, request)

    def _observed(
        self, requests: Sequence[Request], heads: tuple[Head, ...], prompt: Prompt
    ) -> Iterator[Observed | VGError]:
        for part in self._parts(requests):
            work = partial(self._pass, heads=heads, prompt=prompt, keep=self._keeps(part))
            for some, found in split_on_error(work, part):
                yield from [found] * len(some) if isinstance(found, VGError) else found

    def _parts(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Cut a batch into passes: one per picture whose encoding is kept, the others together."""
        runs = [list(run) for _, run in groupby(requests, key=lambda request: request.picture)]
        for keep, some in groupby(runs, key=self._keeps):
            parts = list(some)
            yield from parts if keep else [list(chain.from_iterable(parts))]

    def _keeps(self, requests: Sequence[Request]) -> bool:
        """Tell whether these requests are about one picture whose encoding pays."""
        picture, *others = {request.picture for request in requests}
        if others or not self._use.model.capabilities.prefix_reuse:
            return False
        return picture.opened or len(requests) > 1 or picture.nbytes > 0

    def _pass(
        self, requests: Sequence[Request], *, heads: tuple[Head, ...], prompt: Prompt, keep: bool
    ) -> list[Observed]:
        """Run one forward pass."""
        began = time.perf_counter()
        with self._prepared(requests, prompt, _depth(heads), keep=keep) as (model, inputs):
            if self._max_tokens and inputs.tokens > self._max_tokens and len(requests) > 1:
                raise _TooManyTokensError
            located = self._hooks.locate_image_tokens(model, inputs)
            prepared = time.perf_counter()
            rows = self._hooks.extract_attention(model, inputs, AttentionRequest(heads))
        unknown = inputs.unknown or ((),) * len(requests)
        maps = [
            head_maps(query, heads, row, views, inputs.sizes[query.scene], words)
            for query, row, views, words in zip(
                inputs.queries, rows.rows, located, unknown, strict=True
            )
        ]
        done = time.perf_counter()
        timings = {
            "prepare": (prepared - began) / len(requests),
            "attend": (done - prepared) / len(requests),
        }
        return [Observed(one, timings) for one in maps]

    @contextmanager
    def _prepared(
        self, requests: Sequence[Request], prompt: Prompt, depth: int, *, keep: bool
    ) -> Iterator[tuple[LoadedModel, PreparedInputs]]:
        """Hold the model and one prepared pass; requests about one picture share its scene.

        Args:
            requests: about one picture, where its encoding is kept.
            prompt: how they are put.
            depth: layers that are read.
            keep: prepare behind the picture's kept encoding.
        """
        pictures = list(dict.fromkeys(request.picture for request in requests))
        asked = [Expression(pictures.index(r.picture), r.expression) for r in requests]
        with self._use.working() as model:
            if not keep:
                scenes = [picture.scene() for picture in pictures]
                yield model, self._hooks.prepare_inputs(model, scenes, asked, prompt)
                return
            with pictures[0].encoded(self._hooks, model, prompt, depth) as scene:
                yield model, self._hooks.prepare_inputs(model, [scene], asked, prompt)


def split_on_error(
    work: Callable[[Sequence[_Item]], _Found], items: Sequence[_Item]
) -> Iterator[tuple[Sequence[_Item], _Found | VGError]]:
    """Do some work whole; if it fails, in halves, and so on until what fails stands alone.

    Running out of the accelerator's memory counts as a failure.

    Yields:
        The parts in order, each with what came of it.
    """
    try:
        found = work(items)
    except VGError as error:
        failed: VGError = error
    except torch.OutOfMemoryError:
        failed = InputError("out of memory, even alone; use a smaller picture or another device")
    else:
        yield items, found
        return
    if len(items) == 1:
        yield items, failed
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    for part in (items[:middle], items[middle:]):
        yield from split_on_error(work, part)


def _alone(work: Callable[[Sequence[Request]], _Found], request: Request) -> _Found:
    """Do some work for one request; what fails is one of our errors."""
    ((_, found),) = split_on_error(work, [request])
    if isinstance(found, VGError):
        raise found
    return found


def _release(picture: KeptPicture | None) -> None:
    """Release what was kept of a picture for a stream alone."""
    if picture is not None and not picture.opened:
        picture.release()


def _depth(heads: Sequence[Head]) -> int:
    return max(head.layer for head in heads) + 1
