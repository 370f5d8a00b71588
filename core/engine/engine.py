"""The engine: pictures and expressions in, groundings out, through the hooks of one adapter.

Two engines live side by side, and one engine may be used from several threads.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any, Literal, NoReturn, overload

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.inputs import Generation
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.kept_picture import KeptPicture
from vg_engine.core.engine.model_use import ModelUse
from vg_engine.core.engine.reader import Reader, provenance
from vg_engine.core.engine.scene import OpenScene
from vg_engine.core.engine.scheduler import Request, Scheduler, requests_of
from vg_engine.core.engine.settings import Settings
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.heads import Head, HeadSet, check_heads, check_set

__all__ = ["Engine", "OpenScene", "Settings"]


class Engine:
    """Grounds expressions in pictures with one loaded model.

    Use `vg_engine.load` to make one. It is a context manager.

    Args:
        hooks: the façade over the engine's own plugin manager.
        model: loaded; the engine closes it.
        settings: how to ask and read. They are final: `variant` makes an engine with others.
        head_set: fixed heads; None selects heads on each picture, which every answer then says.
        decode: turns what the caller calls a picture into a `Picture`.
        origin: what the composing side adds to provenance (tool version, registry entry).
        notes: added to every answer (the embedded model knows only its shapes).
        vary: looks up what the changes of `variant` name; None takes them as they are.

    Raises:
        HeadsError: the head set does not fit the model.

    Example:
        >>> import vg_engine
        >>> with vg_engine.load() as engine:
        ...     answer = engine.ground("examples/scene.png", "the red circle")
        >>> answer.found
        True
    """

    def __init__(
        self,
        hooks: Hooks,
        model: LoadedModel,
        settings: Settings,
        *,
        head_set: HeadSet | None = None,
        decode: Callable[[Any], Picture],
        origin: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        vary: Callable[[Engine, Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        check_set(head_set, **model.shape)
        self._hooks = hooks
        self._settings = settings
        self._head_set = head_set
        self._decode = decode
        self._provenance = dict(origin or {})
        self._notes = tuple(notes)
        self._vary = vary
        self._origin: Engine | None = None
        self._use = ModelUse(model, hooks.close, model.close)
        # An engine that is dropped gives its model back as one that is closed.
        self._dropped = weakref.finalize(self, self._use.close)
        self._dropped.atexit = False

    def __repr__(self) -> str:
        heads = self._head_set.name if self._head_set else "auto"
        return f"Engine({self._use.name}, heads {heads}, region {self._settings.region_name})"

    @property
    def settings(self) -> Settings:
        """The final settings of this engine."""
        return self._settings

    @property
    def head_set(self) -> HeadSet | None:
        """The fixed heads; None where heads are selected on each picture."""
        return self._head_set

    @property
    def model(self) -> LoadedModel:
        """The loaded model.

        Raises:
            ModelError: the engine was closed.
        """
        return self._use.model

    def variant(self, **changes: Any) -> Engine:
        """Make an engine with other settings or heads on the same model.

        It is used like any engine; the model stays with the one that it was made from.

        Args:
            changes: `heads`, `region` and `prompt`, each as `vg_engine.load` takes it, and the
                other fields of `Settings`. Heads bring the prompt and the region that they were
                found with.

        Raises:
            InputError: an engine has no such setting, or the setting no such value.
            HeadsError: the heads do not fit the model.
        """
        changed = dict(self._vary(self, changes) if self._vary else changes)
        made = object.__new__(Engine)
        vars(made).update(vars(self))
        made._head_set = changed.pop("heads", self._head_set)
        made._notes = changed.pop("notes", self._notes)
        check_set(made._head_set, **self.model.shape)
        made._settings = self._settings.changed(changed)
        made._origin = self._origin or self
        return made

    def open(self, image: Any) -> OpenScene:
        """Open a picture for several expressions; what can be kept of it is computed once.

        Args:
            image: as in `ground`, but an open scene.

        Returns:
            A context manager that answers like the engine.

        Raises:
            PictureError: the picture cannot be used.
        """
        return OpenScene(self, self._use, KeptPicture(self.picture(image), opened=True))

    def ground(self, image: Any, expression: str, **changes: Any) -> Grounding:
        """Find where a picture shows what an expression says.

        Args:
            image: a path, bytes, a file open for reading, a PIL image, a uint8 RGB array, a
                `Picture`, or an open scene.
            expression: one text; `ground_all` takes several.
            changes: settings for this call alone, as `variant` takes them (`heads="L4H4"`).

        Raises:
            PictureError: the picture cannot be used.
            ExpressionError: the expression is empty or no text.
        """
        (answer,) = self.ground_all(image, (expression,), **changes)
        return answer

    def ground_all(
        self, image: Any, expressions: Iterable[str], **changes: Any
    ) -> tuple[Grounding, ...]:
        """Find where a picture shows what each of several expressions says.

        Args:
            image, changes: as in `ground`.
            expressions: texts.

        Raises:
            PictureError: the picture cannot be used.
            ExpressionError: an expression is empty or no text.
        """
        if isinstance(expressions, str) or not isinstance(expressions, Iterable):
            raise InputError("ground_all takes a list of expressions; for one there is ground")
        scene = image if isinstance(image, OpenScene | Picture) else self.picture(image)
        asked = self.variant(**changes) if changes else self
        return tuple(asked.ground_many((scene, text) for text in expressions))

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

        Requests about one picture should stand together: neighbours that show the same pixels
        count as one picture, which post-processors then see with all its answers.

        Args:
            requests: read lazily, a batch at a time.
            errors: `yield` puts a `VGError` in the place of an answer instead of raising it.
        """
        reader = self._reader()
        asked = self._requests(requests), reader.heads, self._settings.prompt
        with closing(self._scheduler().run(*asked)) as observed:
            for kept, group in groupby(observed, key=lambda one: one[0].kept):
                answers = (reader.answer(request, outcome) for request, outcome in group)
                for answer in reader.refined(kept, answers):
                    if isinstance(answer, VGError) and errors != "yield":
                        raise answer
                    yield answer

    def maps(
        self,
        image: Any,
        expressions: str | Sequence[str],
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> tuple[HeadMaps, ...]:
        """Take the maps of chosen heads, per expression.

        Args:
            image: as in `ground`.
            expressions: one or several.
            heads: all that can point at the picture, if None.
            prompt: instead of the engine's own.

        Raises:
            HeadsError: a head out of range.
        """
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        scene = image if isinstance(image, OpenScene | Picture) else self.picture(image)
        return self.maps_many([(scene, text) for text in texts], heads, prompt=prompt)

    @overload
    def maps_many(
        self,
        requests: Sequence[tuple[Any, str]],
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
        errors: Literal["raise"] = "raise",
    ) -> tuple[HeadMaps, ...]: ...
    @overload
    def maps_many(
        self,
        requests: Sequence[tuple[Any, str]],
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
        errors: Literal["yield"],
    ) -> tuple[HeadMaps | VGError, ...]: ...
    def maps_many(
        self,
        requests: Sequence[tuple[Any, str]],
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
        errors: Literal["raise", "yield"] = "raise",
    ) -> tuple[HeadMaps | VGError, ...]:
        """Take the maps of chosen heads for several (picture, text).

        Args:
            requests: those about one picture should stand together.
            heads, prompt: as in `maps`.
            errors: `yield` puts a `VGError` in the place of the maps instead of raising it.
        """
        asked = self._requests(requests), self._checked(heads), self._settings.asked(prompt)
        found: list[HeadMaps | VGError] = []
        with closing(self._scheduler().run(*asked)) as observed:
            for _, one in observed:
                if isinstance(one, VGError) and errors != "yield":
                    raise one
                found.append(one if isinstance(one, VGError) else one.maps)
        return tuple(found)

    def token_maps(
        self,
        image: Any,
        text: str,
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> tuple[HeadMaps, ...]:
        """Take the maps of each query row apart: one `HeadMaps` per token that the prompt reads.

        Args:
            image, heads: as in `maps`.
            text: the expression.
            prompt: as in `maps`; its `query_row` says which tokens (`expression_all`, `span:TEXT`).
        """
        (request,) = self._good([(image, text)])
        asked = self._settings.asked(prompt)
        return self._scheduler().token_maps(request, self._checked(heads), asked)

    def generate(
        self, image: Any, text: str, *, max_new_tokens: int = 64, prompt: Prompt | None = None
    ) -> Generation:
        """Let the model answer in words, greedily, with the chat prompt.

        Args:
            image, text: as in `ground`, a question.
            max_new_tokens: at most so many tokens.
            prompt: instead of the plain chat prompt.

        Raises:
            ModelError: the model's adapter does not generate.
        """
        (request,) = self._good([(image, text)])
        asked = self._settings.asked(prompt or Prompt(form="chat", query_row="prompt_last"))
        return self._scheduler().generate(request, asked, max_new_tokens)

    def choose(self, maps: HeadMaps) -> HeadMaps:
        """Keep the maps of the heads that answer: the fixed ones, or those chosen on this picture.

        Args:
            maps: of the fixed heads, or of all candidates.
        """
        return self._reader().choose(maps)

    def read(self, maps: HeadMaps, image: Any, heads: Sequence[Head] | None = None) -> Grounding:
        """Read the answer that maps give, as `ground` would; nothing is run anew.

        Args:
            maps: of `maps` or `maps_many`.
            image: the same picture.
            heads: which of the maps to combine; all of them, if None.
        """
        chosen = maps if heads is None else maps.of(heads)
        return self._reader().read(chosen, self.picture(image))

    def refine(self, groundings: Sequence[Grounding], image: Any) -> tuple[Grounding, ...]:
        """Run the post-processors over all answers about one picture."""
        return tuple(self._reader().refine(self._kept(image), groundings))

    def picture(self, image: Any) -> Picture:
        """Decode what the caller calls a picture, as this engine decodes it.

        Raises:
            PictureError: it cannot be used.
        """
        if isinstance(image, OpenScene):
            return image.kept_by(self._use).picture
        return image if isinstance(image, Picture) else self._decode(image)

    def close(self) -> None:
        """Release the model, once threads at work are done; a variant's stays open. Idempotent.

        A model that was handed in is left as it was found.
        """
        if self._origin is None:
            self._use.close()

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "an engine holds a model and cannot be copied; send its EngineSpec instead"
        )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def stamp(self) -> dict[str, Any]:
        """Say what every answer's provenance says: model, adapter, heads, prompt, region, tool."""
        return self._provenance | provenance(
            self._hooks, self.model, self._settings, self._head_set
        )

    def _scheduler(self) -> Scheduler:
        how = self._settings
        return Scheduler(
            self._hooks, self._use, batch_size=how.batch_size, max_tokens=how.max_tokens
        )

    def _checked(self, heads: Sequence[Head | str] | None) -> tuple[Head, ...]:
        model = self.model
        return model.all_heads if heads is None else check_heads(heads, **model.shape)

    def _reader(self) -> Reader:
        return Reader(
            self._hooks, self.model, self._settings, self._head_set, self.stamp(), self._notes
        )

    def _requests(self, pairs: Iterable[tuple[Any, str]]) -> Iterator[Request]:
        return requests_of(pairs, self._kept)

    def _kept(self, image: Any) -> KeptPicture:
        if isinstance(image, OpenScene):
            return image.kept_by(self._use)
        return KeptPicture(self.picture(image))

    def _good(self, pairs: Iterable[tuple[Any, str]]) -> Iterator[Request]:
        for request in self._requests(pairs):
            if request.error is not None:
                raise request.error
            yield request
