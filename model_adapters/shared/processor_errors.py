"""Errors of processors and models, each as one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import ModelError, PictureError, VGError
from vg_engine.model_adapters.shared import capture
from vg_engine.model_adapters.shared.loaded import parts_of
from vg_engine.model_adapters.shared.loading import execution_device


@contextmanager
def refused_pictures(model: LoadedModel, images: Sequence[Picture]) -> Iterator[None]:
    """Turn an image processor's error (for a strip of one pixel, say) into one line."""
    try:
        yield
    except VGError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        sizes = ", ".join(sorted({f"{p.size[0]} x {p.size[1]}" for p in images}))
        raise PictureError(
            f"the processor of {model.name} refuses a picture of {sizes} "
            f"({' '.join(str(error).split())}); enlarge it or cut it first"
        ) from error


@contextmanager
def running(model: LoadedModel) -> Iterator[None]:
    """Run a model as it was loaded: in evaluation mode, its errors as one line.

    A model in memory is also its owner's, who may train or move it between two passes.

    Raises:
        ModelError: it was moved or converted since it was loaded, or a pass fails.
    """
    module: Any = model.module
    kept = parts_of(model)
    for what, now, before in (
        ("device", execution_device(module), model.device),
        ("dtype", module.dtype, model.dtype),
        ("dtype", kept.decoder.dtype, kept.dtype),
    ):
        if now != before:
            raise ModelError(
                f"the {what} of {model.name} was {before} when the engine was made and is {now} "
                "now; make another engine"
            )
    try:
        with capture.evaluation(module):
            yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.name}: out of memory on {model.device}; try a smaller --batch-size or picture"
        ) from error
    except (ValueError, IndexError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise ModelError(
            f"{model.name} refuses its inputs ({cause}); its config, its weights and its "
            "processor do not belong together"
        ) from error
