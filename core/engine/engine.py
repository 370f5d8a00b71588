"""The engine: pictures and sentences in, groundings out, through the hooks of one adapter.

It owns its plugin manager and its model and nothing else: two engines live side by side, and one
engine may be used from several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, overload

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt, clean_expression
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.scheduler import Answer, Request, complete, refined
from vg_engine.core.engine.settings import Settings
from vg_engine.core.errors import ModelError, VGError
from vg_engine.core.heads import Head, HeadSet, check_heads
from vg_engine.core.readout import instances
from vg_engine.core.selection.per_picture import per_picture_heads

__all__ = ["Engine", "Settings"]

# The paper never takes heads from the first two layers (section 2).
FIRST_LAYER = 2
AUTO_NOTE = "heads were selected on this picture alone (auto)"


class Engine:
    """Grounds expressions in pictures with one loaded model.

    Use `vg_engine.load` to make one. It is a context manager.

    Args:
        hooks: the façade over the engine's own plugin manager.
        spec: what to load.
        settings: how to ask and read.
        head_set: fixed heads; None selects per picture, which every answer then says.
        decode: turns what the caller calls a picture into a `Picture`.
        prompt_of: the prompt for a head set that is found only when the model is there: heads
            answer to the prompt that they were found with.
        provenance: what the composing side knows (tool version, registry entry).
        notes: said with every answer (the embedded model knows only its shapes).
    """

    def __init__(
        self,
        hooks: Hooks,
        spec: ModelSpec,
        *,
        settings: Settings,
        head_set: HeadSet | Callable[[LoadedModel], HeadSet | None] | None = None,
        decode: Callable[[Any], Picture],
        prompt_of: Callable[[HeadSet], Prompt] | None = None,
        provenance: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self._hooks = hooks
        self._decode = decode
        self._provenance = dict(provenance or {})
        self._notes = tuple(notes)
        self._closing = threading.Lock()
        self._closed = False
        self._at_work = 0
        self._model = hooks.load_model(spec)
        try:
            self.head_set = head_set(self._model) if callable(head_set) else head_set
            if self.head_set is not None and callable(head_set) and prompt_of is not None:
                self.settings = replace(settings, prompt=prompt_of(self.head_set))
            if self.head_set is not None:
                self.head_set.check_fits(**_shape(self._model))
        except BaseException:
            self.close()
            raise

    @property
    def model(self) -> LoadedModel:
        """The loaded model.

        Raises:
            ModelError: the engine was closed.
        """
        if self._closed:
            raise ModelError("this engine was closed; load another with vg_engine.load")
        return self._model

    @overload
    def ground(self, image: Any, expression: str) -> Grounding: ...
    @overload
    def ground(self, image: Any, expression: Sequence[str]) -> tuple[Grounding, ...]: ...
    def ground(
        self, image: Any, expression: str | Sequence[str]
    ) -> Grounding | tuple[Grounding, ...]:
        """Say where a picture shows what an expression says, or what each of several says.

        Args:
            image: a path, bytes, a PIL image, a uint8 RGB array or a `Picture`.
            expression: one text, or a sequence of texts.

        Raises:
            PictureError: the picture cannot be used.
            ExpressionError: an expression is empty.
        """
        texts = [expression] if isinstance(expression, str) else list(expression)
        picture = self.picture(image)
        answers = tuple(self.ground_many((picture, text) for text in texts))
        return answers[0] if isinstance(expression, str) else answers

    @overload
    def ground_many(
        self, requests: Iterable[tuple[Any, str]], *, errors: Literal["raise"] = "raise"
    ) -> Iterator[Grounding]: ...
    @overload
    def ground_many(
        self, requests: Iterable[tuple[Any, str]], *, errors: Literal["yield"]
    ) -> Iterator[Grounding | VGError]: ...
    def ground_many(
        self,
        requests: Iterable[tuple[Any, str]],
        *,
        errors: Literal["raise", "yield"] = "raise",
    ) -> Iterator[Grounding | VGError]:
        """Ground a stream of (picture, expression) in batches; answers keep its order.

        Requests about one picture should stand together and name the *same object*: it is then
        decoded once, and post-processors see its answers together.

        Args:
            requests: read lazily, a batch at a time.
            errors: `yield` puts a `VGError` in the place of an answer instead of raising it.
        """
        keep = errors == "yield"
        pending: list[Answer] = []
        for batch in self._batches(requests, keep=keep):
            pending.extend(self._answer(batch, keep=keep))
            ready = complete(pending, self._hooks)
            yield from refined(self._hooks, pending[:ready])
            del pending[:ready]
        yield from refined(self._hooks, pending)

    def maps(
        self,
        image: Any,
        expressions: str | Sequence[str],
        heads: Sequence[Head] | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> tuple[HeadMaps, ...]:
        """The maps of chosen heads (all that can point at the picture, if None), per expression.

        Args:
            prompt: instead of the engine's own.

        Raises:
            HeadsError: a head out of range.
        """
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        picture = self.picture(image)
        observed: list[HeadMaps] = []
        for start in range(0, len(texts), self.settings.batch_size):
            batch = [(picture, text) for text in texts[start : start + self.settings.batch_size]]
            observed.extend(self.maps_many(batch, heads, prompt=prompt))
        return tuple(observed)

    def maps_many(
        self,
        requests: Sequence[tuple[Any, str]],
        heads: Sequence[Head] | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> tuple[HeadMaps, ...]:
        """The maps of chosen heads for several (picture, text), in one forward pass.

        Args:
            requests: those about one picture should stand together and name the same `Picture`.
            heads: all that can point at the picture, if None.
            prompt: instead of the engine's own.

        Raises:
            HeadsError: a head out of range.
        """
        chosen = self._checked(heads)
        asked = [(self.picture(image), text) for image, text in requests]
        if not asked:
            return ()
        return tuple(self._observe(asked, chosen, prompt or self.settings.prompt)[0])

    def read(self, maps: HeadMaps, image: Any, heads: Sequence[Head] | None = None) -> Grounding:
        """The answer that maps give, as `ground` would read it; nothing is run anew.

        Args:
            maps: of `maps` or `maps_many`.
            image: the same picture.
            heads: which of the maps to combine; all of them, if None.
        """
        chosen = maps if heads is None else instances.pick(maps, heads)
        stamp = self.stamp()
        if self.head_set is None or chosen.heads != self.head_set.heads:
            stamp |= {"head_set": "given", "head_mode": "given"}
        return self._read(chosen, self.picture(image), stamp)

    def _read(self, maps: HeadMaps, picture: Picture, stamp: Mapping[str, Any]) -> Grounding:
        settings = self.settings
        return instances.locate(
            maps,
            picture.size,
            settings.region,
            sigma=settings.sigma,
            kernel=settings.kernel,
            notes=(*picture.notes, *self._notes),
            provenance=stamp,
        )

    def refine(self, groundings: Sequence[Grounding], image: Any) -> tuple[Grounding, ...]:
        """Answers about one picture after the post-processors."""
        picture = self.picture(image)
        if not (self._hooks.postprocessors and groundings):
            return tuple(groundings)
        return tuple(self._hooks.postprocess(list(groundings), picture))

    def close(self) -> None:
        """Release the model; a model that was handed in is left as it was found. Idempotent.

        What other threads are reading just now is read to its end first: the last of them gives
        the model back.
        """
        with self._closing:
            last = not self._closed and not self._at_work
            self._closed = True
        if last:
            self._model.close()

    @contextmanager
    def _working(self) -> Iterator[LoadedModel]:
        """The model, which stays ready until the block is left."""
        with self._closing:
            model = self.model
            self._at_work += 1
        try:
            yield model
        finally:
            with self._closing:
                self._at_work -= 1
                last = self._closed and not self._at_work
            if last:
                model.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def picture(self, image: Any) -> Picture:
        """What the caller calls a picture, decoded as this engine decodes it.

        Raises:
            PictureError: it cannot be used.
        """
        return image if isinstance(image, Picture) else self._decode(image)

    def _checked(self, heads: Sequence[Head] | None) -> tuple[Head, ...]:
        model = self.model
        if heads is None:
            return model.all_heads
        return check_heads(heads, **_shape(model))

    def _candidates(self) -> tuple[Head, ...]:
        deep = tuple(head for head in self.model.all_heads if head.layer >= FIRST_LAYER)
        return deep or self.model.all_heads

    def _batches(
        self, requests: Iterable[tuple[Any, str]], *, keep: bool
    ) -> Iterator[list[Request]]:
        batch: list[Request] = []
        last: tuple[Any, Picture] | None = None
        for image, text in requests:
            try:
                if last is None or last[0] is not image:
                    last = None
                    last = (image, self.picture(image))
                batch.append(Request(last[1], clean_expression(text)))
            except VGError as error:
                if not keep:
                    raise
                batch.append(Request(last[1] if last else None, str(text), error))
            if len(batch) >= self.settings.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _answer(self, batch: Sequence[Request], *, keep: bool) -> list[Answer]:
        """Answer a batch; with `keep`, a batch that fails is tried again one by one."""
        good = [request for request in batch if request.error is None]
        asked = [(request.picture, request.text) for request in good if request.picture]
        try:
            answered: Iterator[Grounding | VGError] = iter(self._ground(asked) if asked else [])
        except VGError as error:
            if not keep:
                raise
            if len(good) == 1:
                answered = iter([error])
            else:
                return [a for request in batch for a in self._answer([request], keep=True)]
        return [
            Answer(request.picture, next(answered) if request.error is None else request.error)
            for request in batch
        ]

    def _ground(self, asked: Sequence[tuple[Picture, str]]) -> list[Grounding]:
        settings = self.settings
        fixed = self.head_set.heads if self.head_set is not None else None
        observed, spent = self._observe(asked, fixed or self._candidates(), settings.prompt)
        answers = []
        for (picture, _), seen in zip(asked, observed, strict=True):
            began = time.perf_counter()
            if fixed is not None:
                grounding = self._read(seen, picture, self.stamp())
            else:
                chosen = instances.pick(seen, per_picture_heads(seen, k=settings.k))
                grounding = self._read(chosen, picture, self.stamp())
                grounding = replace(grounding, notes=(*grounding.notes, AUTO_NOTE))
            read = time.perf_counter() - began
            answers.append(replace(grounding, timings={**spent, "read": read}))
        return answers

    def _observe(
        self, asked: Sequence[tuple[Picture, str]], heads: tuple[Head, ...], prompt: Prompt
    ) -> tuple[list[HeadMaps], dict[str, float]]:
        """Maps per query, and the seconds that each query took of its batch."""
        began = time.perf_counter()
        pictures: list[Picture] = []
        expressions = []
        for picture, text in asked:
            if not pictures or pictures[-1] is not picture:
                pictures.append(picture)
            expressions.append(Expression(len(pictures) - 1, clean_expression(text)))
        with self._working() as model:
            inputs = self._hooks.prepare_inputs(model, pictures, expressions, prompt)
            located = self._hooks.locate_image_tokens(model, inputs)
            prepared = time.perf_counter()
            rows = self._hooks.extract_attention(model, inputs, AttentionRequest(heads))
        unknown = inputs.unknown or ((),) * len(asked)
        observed = [
            instances.head_maps(
                query.expression, heads, row, views, inputs.images[query.image], words
            )
            for query, row, views, words in zip(
                inputs.queries, rows.rows, located, unknown, strict=True
            )
        ]
        done = time.perf_counter()
        return observed, {
            "prepare": (prepared - began) / len(asked),
            "attend": (done - prepared) / len(asked),
        }

    def stamp(self) -> dict[str, Any]:
        """What every answer's provenance says: model, adapter, heads, prompt, region, tool."""
        model, settings, chosen = self._model, self.settings, self.head_set
        return {
            **self._provenance,
            "model": model.name,
            "revision": model.revision,
            "adapter": self._hooks.adapter,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
            "head_set": chosen.name if chosen else "auto",
            "head_mode": chosen.mode if chosen else "auto",
            "prompt": settings.prompt.form,
            "template": settings.prompt.template,
            "query_row": settings.prompt.query_row,
            "region": settings.region_name,
            "sigma": settings.sigma,
            "kernel": settings.kernel,
            "postprocess": list(self._hooks.postprocessors),
        }


def _shape(model: LoadedModel) -> dict[str, Any]:
    return {"layers": model.layers, "per_layer": model.heads, "map_layers": model.map_layers}
