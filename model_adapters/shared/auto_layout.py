"""How a processor that nobody described lays pictures down: settled at load, checked per size."""

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
_SIZES = 4096  # that are remembered


@dataclass(frozen=True, eq=False)
class Laid:
    """How pictures lie, and on which of their sizes that was seen.

    Attributes:
        geometry: one of `probe_geometry.GEOMETRIES`.
        how: how it is known, for users.
        told: whether it is the user's word, and not to be checked.
        tokens: of every picture; None where the processor states a grid for each.
        asked: rows and columns as the user told them.
        seen: sizes that were looked at.
    """

    geometry: str
    how: str
    told: bool
    tokens: int | None
    asked: tuple[int, int] | None
    seen: set[tuple[int, int]] = field(default_factory=set)

    def check(self, process: probe_geometry.Process, size: tuple[int, int]) -> None:
        """Look at a size when it is first met: strips and small pictures may lie otherwise.

        Raises:
            PictureError: they do.
        """
        if self.told or size in self.seen:
            return
        if not probe_geometry.look(process, size).fits(self.geometry):
            raise PictureError(
                f"a picture of {size[0]} x {size[1]} is not {probe_geometry.WORDS[self.geometry]}, "
                "as others are by this processor; resize or cut it, or use the family's own adapter"
            )
        if len(self.seen) >= _SIZES:
            self.seen.clear()
        self.seen.add(size)

    def shape(self, name: str, inputs: PreparedInputs, one: int, tokens: int) -> tuple[int, int]:
        """Rows and columns: as told, as the processor states them, or of a square.

        Args:
            name: the model's, for messages.
            inputs: with the processor's own word on grids, if it has one.
            one: index of the sequence.
            tokens: how many image tokens that has.

        Raises:
            TokenCountError: none of these, or another picture had another number of them.
        """
        if self.tokens not in (None, tokens):
            raise TokenCountError(
                f"{name}: {tokens} image tokens for one picture and {self.tokens} for another; "
                "this family needs an adapter of its own"
            )
        if self.asked:
            return self.asked
        stated = inputs.tensors.get(STATED)
        side = math.isqrt(tokens)
        if stated is None and side and side * side == tokens:
            return side, side
        # A row per sequence; where there are more, a picture became several.
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
) -> Laid:
    """Find how pictures lie.

    Args:
        process: what a model gets for a picture.
        inputs: of one picture.
        tokens: how many image tokens it has.
        options: `geometry`, and `rows` with `cols`, as the user told them.

    Raises:
        InputError: no such geometry.
        UnsupportedModelError: none explains where pixels go.
    """
    rows, cols = options.get("rows"), options.get("cols")
    shape = (rows, cols) if isinstance(rows, int) and isinstance(cols, int) else None
    stated = STATED in inputs.tensors
    told = options.get("geometry")
    if told is not None and told not in probe_geometry.GEOMETRIES:
        raise InputError(f"geometry {told!r}; {nearest(str(told), probe_geometry.GEOMETRIES)}")
    try:
        found = probe_geometry.geometry_of(process, flat=stated)
    except UnsupportedModelError:
        if told is None:
            raise
        found = told
    how = "measured" if told is None else "as told"
    if told not in (None, found):
        how += f", though it measures as {found}"
    name = str(found if told is None else told)
    return Laid(name, how, told is not None, None if stated else tokens, shape)


@contextmanager
def usable(model: LoadedModel) -> Iterator[None]:
    """Close a model that cannot be used, and say so in one line, whatever was raised."""
    try:
        yield
    except VGError:
        model.close()
        raise
    except Exception as error:
        model.close()
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnsupportedModelError(f"auto cannot use {model.name} ({cause}); {NEEDS}") from error
