"""A loaded model that several engines and threads use, and that is closed once all are done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import ModelError


class ModelUse:
    """Counts the threads that use a model, and closes it behind the last one.

    Its `name` stays when the model is closed.

    Args:
        model: the loaded model.
        closing: called in order, once, when the model is no longer used.
    """

    def __init__(self, model: LoadedModel, *closing: Callable[[], None]) -> None:
        self.name = model.name
        self._model = model
        self._closing = closing
        self._lock = threading.Lock()
        self._closed = False
        self._at_work = 0

    @property
    def model(self) -> LoadedModel:
        """The loaded model.

        Raises:
            ModelError: it was closed.
        """
        if self._closed:
            raise ModelError("this engine was closed; load another with vg_engine.load")
        return self._model

    @contextmanager
    def working(self) -> Iterator[LoadedModel]:
        """Hold the model ready until the block is left, whatever the caller told torch.

        A precision that the caller's own work is cast to, or another default device, is not ours.
        """
        with self._lock:
            model = self.model
            self._at_work += 1
        try:
            with ExitStack() as plain:
                if torch.is_autocast_enabled(model.device.type):
                    plain.enter_context(torch.autocast(model.device.type, enabled=False))
                if torch.get_default_device().type != "cpu":
                    plain.enter_context(torch.device("cpu"))
                yield model
        finally:
            with self._lock:
                self._at_work -= 1
                last = self._closed and not self._at_work
            if last:
                self._release()

    def close(self) -> None:
        """Close the model as soon as the last thread at work is done. Idempotent."""
        with self._lock:
            last = not self._closed and not self._at_work
            self._closed = True
        if last:
            self._release()

    def _release(self) -> None:
        for close in self._closing:
            close()
