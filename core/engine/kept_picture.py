"""A picture while it is asked about: its kept encodings, and what plugins store about it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Encoding, Scene


@dataclass(eq=False)
class _KeptEncoding:
    """An encoding and the number of passes that use it; it is closed behind the last of them."""

    encoding: Encoding
    passes: int = 0
    dropped: bool = False

    def leave(self) -> None:
        self.passes -= 1
        self._close_unused()

    def drop(self) -> None:
        self.dropped = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self.dropped and not self.passes:
            self.encoding.close()


class KeptPicture:
    """One picture and what is kept of it between passes.

    Args:
        picture: decoded.
        opened: the user opened it (`Engine.open`), so further expressions are to be expected: it
            is encoded at the first one, and kept until the user closes it.
    """

    def __init__(self, picture: Picture, *, opened: bool = False) -> None:
        self.picture = picture
        self.opened = opened
        self._store: dict[str, Any] = {}
        self._encodings: dict[Prompt, _KeptEncoding] = {}
        self._closed = False
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory that the kept encodings hold, bytes."""
        with self._lock:
            return sum(kept.encoding.nbytes for kept in self._encodings.values())

    def shows_same(self, other: KeptPicture) -> bool:
        """Compare by content; an opened picture is the same as itself alone."""
        if self.opened or other.opened:
            return self is other
        return self.picture.same_as(other.picture)

    def scene(self) -> Scene:
        """The picture as plugins see it, without an encoding."""
        return Scene(self.picture, store=self._store)

    @contextmanager
    def encoded(
        self, hooks: Hooks, model: LoadedModel, prompt: Prompt, depth: int
    ) -> Iterator[Scene]:
        """Hold the picture with its encoding for a prompt, at least `depth` layers deep.

        The encoding stays until the block is left. Where the adapter declines, there is none.
        """
        kept = self._enter(hooks, model, prompt.beginning, depth)
        if kept is None:
            yield self.scene()
            return
        try:
            yield Scene(self.picture, kept.encoding, self._store)
        finally:
            with self._lock:
                kept.leave()

    def _enter(
        self, hooks: Hooks, model: LoadedModel, prompt: Prompt, depth: int
    ) -> _KeptEncoding | None:
        with self._lock:
            kept = self._encodings.get(prompt)
            if kept is None or kept.encoding.depth < depth:
                made = None
                if not self._closed:
                    made = hooks.open_scene(model, self.picture, prompt, depth)
                if made is None:
                    return None
                if kept is not None:
                    kept.drop()
                kept = self._encodings[prompt] = _KeptEncoding(made)
            kept.passes += 1
            return kept

    def release(self) -> None:
        """Release all encodings; those that a pass uses right now are closed behind it."""
        with self._lock:
            for kept in self._encodings.values():
                kept.drop()
            self._encodings.clear()

    def close(self) -> None:
        """Release all encodings, and what plugins stored; nothing is kept from now on."""
        self._closed = True
        self.release()
        self._store.clear()
