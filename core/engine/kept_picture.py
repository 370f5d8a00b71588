"""A picture while it is asked about: its kept encodings, and what plugins store about it."""

from __future__ import annotations

import threading
from typing import Any

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Encoding, Scene


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
        self._encodings: dict[Prompt, Encoding] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory that the kept encodings hold, bytes."""
        return sum(encoding.nbytes for encoding in self._encodings.values())

    def shows_same(self, other: KeptPicture) -> bool:
        """Compare by content; an opened picture is the same as itself alone."""
        if self.opened or other.opened:
            return self is other
        return self.picture.same_as(other.picture)

    def scene(self) -> Scene:
        """The picture as plugins see it, without an encoding."""
        return Scene(self.picture, store=self._store)

    def encoded(self, hooks: Hooks, model: LoadedModel, prompt: Prompt, depth: int) -> Scene:
        """The picture with its encoding for a prompt, at least `depth` layers deep.

        Where the adapter declines, without one.
        """
        with self._lock:
            encoding = self._encodings.get(prompt)
            if encoding is None or encoding.depth < depth:
                made = hooks.open_scene(model, self.picture, prompt, depth)
                if made is None:
                    return self.scene()
                self._encodings[prompt] = made
                if encoding is not None:
                    encoding.close()
                encoding = made
            return Scene(self.picture, encoding, self._store)

    def close(self) -> None:
        """Release all encodings, and what plugins stored."""
        with self._lock:
            for encoding in self._encodings.values():
                encoding.close()
            self._encodings.clear()
            self._store.clear()
