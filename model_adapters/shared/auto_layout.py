"""Picture layout of an unknown processor: found when the model is loaded, checked per size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.errors import (
    InputError,
    PictureError,
    TokenCountError,
    UnsupportedModelError,
    VGError,
    nearest,
)
from vg_engine.model_adapters.shared import probe_geometry

NEEDS = (
    "auto needs an image-text-to-text model of transformers whose config has an image_token_id, "
    "and whose picture is one grid of tokens"
)
STATED = "image_grid_thw"
_SIZES = 4096  # number of checked sizes that are remembered


@dataclass(frozen=True, eq=False)
class AutoLayout:
    """The layout of pictures, and the picture sizes on which it was checked.

    Attributes:
        geometry: one of `probe_geometry.GEOMETRIES`.
        how: source of the geometry, for users.
        stated: True where the user stated the geometry; it is then not checked.
        tokens: number of image tokens of every picture; None where the processor states a grid for
            each.
        stated_shape: rows and columns as the user stated them.
        seen: the checked sizes.
    """

    geometry: str
    how: str
    stated: bool
    tokens: int | None
    stated_shape: tuple[int, int] | None
    seen: set[tuple[int, int]] = field(default_factory=set)

    def check(self, process: probe_geometry.Process, size: tuple[int, int]) -> None:
        """Check the layout of a new size: that of strips and small pictures may differ.

        Raises:
            PictureError: this size has another layout.
        """
        if self.stated or size in self.seen:
            return
        if not probe_geometry.look(process, size).fits(self.geometry):
            raise PictureError(
                f"a picture of {size[0]} x {size[1]} is not {probe_geometry.WORDS[self.geometry]}, "
                "as this processor does with others; resize or cut it, or use the family's own "
                "adapter"
            )
        if len(self.seen) >= _SIZES:
            self.seen.clear()
        self.seen.add(size)

    def shape(self, name: str, inputs: PreparedInputs, one: int, tokens: int) -> tuple[int, int]:
        """Find the (rows, columns) of a picture: stated by user or processor, or else a square.

        Args:
            name: the model's name, for messages.
            inputs: prepared inputs, with the processor's own grids if it states them.
            one: index of the sequence.
            tokens: number of its image tokens.

        Raises:
            TokenCountError: no shape fits, or another picture had another number of tokens.
        """
        if self.tokens not in (None, tokens):
            raise TokenCountError(
                f"{name}: {tokens} image tokens for one picture and {self.tokens} for another; "
                "this family needs an adapter of its own"
            )
        if self.stated_shape:
            return self.stated_shape
        stated = inputs.tensors.get(STATED)
        side = math.isqrt(tokens)
        if stated is None and side and side * side == tokens:
            return side, side
        # One row per sequence; with more, a picture became several.
        if stated is not None and len(stated) == len(inputs.tensors["input_ids"]) and tokens:
            times, height, width = (int(value) for value in stated[one])
            merge = math.isqrt(height * width // tokens)
            if times == 1 and merge and height % merge == width % merge == 0:
                return height // merge, width // merge
        raise TokenCountError(
            f"{name}: {tokens} image tokens form no square; if they are a grid, give its "
            "shape (options rows=..., cols=...), else this family needs an adapter of its own"
        )


def settle(
    process: probe_geometry.Process, inputs: PreparedInputs, tokens: int, options: Mapping[str, Any]
) -> AutoLayout:
    """Find the layout of pictures.

    Args:
        process: computes the processor's values of a picture.
        inputs: prepared inputs of one picture.
        tokens: number of its image tokens.
        options: `geometry`, and `rows` with `cols`, as stated by the user.

    Raises:
        InputError: the geometry is unknown.
        UnsupportedModelError: no geometry fits the processor.
    """
    rows, cols = options.get("rows"), options.get("cols")
    shape = (rows, cols) if isinstance(rows, int) and isinstance(cols, int) else None
    has_grids = STATED in inputs.tensors
    stated = options.get("geometry")
    if stated is not None and stated not in probe_geometry.GEOMETRIES:
        raise InputError(f"geometry {stated!r}; {nearest(str(stated), probe_geometry.GEOMETRIES)}")
    try:
        found = probe_geometry.geometry_of(process, flat=has_grids)
    except UnsupportedModelError:
        if stated is None:
            raise
        found = stated
    how = "measured" if stated is None else "as told"
    if stated not in (None, found):
        how += f", though it measures as {found}"
    name = str(found if stated is None else stated)
    return AutoLayout(name, how, stated is not None, None if has_grids else tokens, shape)


@contextmanager
def usable(model: LoadedModel) -> Iterator[None]:
    """Close the model on any error, and raise that as one line."""
    try:
        yield
    except VGError:
        model.close()
        raise
    except Exception as error:
        model.close()
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnsupportedModelError(f"auto cannot use {model.name} ({cause}); {NEEDS}") from error
