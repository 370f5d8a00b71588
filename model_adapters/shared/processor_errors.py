"""Errors of processors and models, each as one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import ModelError, PictureError, VGError


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
def refused_inputs(model: LoadedModel) -> Iterator[None]:
    """Turn a model's error that users can fix into one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.name}: out of memory on {model.device}; try a smaller --batch-size or picture"
        ) from error
    except ValueError as error:
        cause = " ".join(str(error).split())
        raise ModelError(
            f"{model.name} refuses its inputs ({cause}); its config and its processor do not "
            "belong together"
        ) from error
