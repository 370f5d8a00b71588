"""An open picture, for several expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vg_engine.core.contract.inputs import Generation
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.engine.kept_picture import KeptPicture
from vg_engine.core.engine.model_use import ModelUse
from vg_engine.core.errors import InputError
from vg_engine.core.heads import Head

if TYPE_CHECKING:
    from vg_engine.core.engine.engine import Engine


class OpenScene:
    """An open picture: it answers like its engine, and keeps what can be kept between questions.

    Example:
        >>> import vg_engine
        >>> engine = vg_engine.load()
        >>> with engine.open("examples/scene.png") as scene:
        ...     circle = scene.ground("the red circle")
        ...     others = scene.ground_all(["the orange triangle", "the large circle"])
        >>> engine.close()
    """

    def __init__(self, engine: Engine, use: ModelUse, kept: KeptPicture) -> None:
        self._engine, self._use = engine, use
        self._kept: KeptPicture | None = kept

    @property
    def picture(self) -> Picture:
        """The decoded picture."""
        return self.kept_by(None).picture

    @property
    def nbytes(self) -> int:
        """Memory that the kept encodings hold, bytes."""
        return self.kept_by(None).nbytes

    def __repr__(self) -> str:
        return "OpenScene(closed)" if self._kept is None else f"OpenScene({self.picture!r})"

    def ground(self, expression: str, **changes: Any) -> Grounding:
        """Answer as `Engine.ground`."""
        return self._engine.ground(self, expression, **changes)

    def ground_all(self, expressions: Iterable[str], **changes: Any) -> tuple[Grounding, ...]:
        """Answer as `Engine.ground_all`."""
        return self._engine.ground_all(self, expressions, **changes)

    def maps(
        self,
        expressions: str | Sequence[str],
        heads: Sequence[Head | str] | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> tuple[HeadMaps, ...]:
        """Take maps as `Engine.maps`."""
        return self._engine.maps(self, expressions, heads, prompt=prompt)

    def generate(self, text: str, *, max_new_tokens: int = 64) -> Generation:
        """Answer in words as `Engine.generate`."""
        return self._engine.generate(self, text, max_new_tokens=max_new_tokens)

    def kept_by(self, use: ModelUse | None) -> KeptPicture:
        """The kept picture, for the engine that asks.

        Raises:
            InputError: the scene was closed, or belongs to another model.
        """
        if self._kept is None:
            raise InputError("this scene was closed; open the picture again with engine.open")
        if use is not None and use is not self._use:
            raise InputError("this scene was opened by another engine; open the picture with this")
        return self._kept

    def close(self) -> None:
        """Release what is kept. Idempotent."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def __enter__(self) -> OpenScene:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
