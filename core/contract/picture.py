"""A decoded picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vg_engine.core.contract.frozen import Rebuilt
from vg_engine.core.errors import PictureError


@dataclass(frozen=True, eq=False)
class Picture(Rebuilt):
    """An upright RGB picture.

    Attributes:
        pixels: uint8, read-only, rows x columns x RGB.
        source: where it came from, for messages.
        notes: what decoding did to it (turned by EXIF, laid on white, first frame of several).
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    source: str = "picture"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise PictureError(
                f"{self.source}: expected uint8 RGB of shape (height, width, 3), "
                f"got {self.pixels.dtype} {self.pixels.shape}"
            )
        if 0 in self.pixels.shape:
            raise PictureError(f"{self.source}: the picture has no pixels")
        # A copy where the array could still be changed from outside: results must not move later.
        pixels = self.pixels if not self.pixels.flags.writeable else self.pixels.copy()
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    def same_as(self, other: Picture) -> bool:
        """Compare by content: the same pixels, decoded with the same notes."""
        if self.pixels is other.pixels:
            return self.notes == other.notes
        return self.notes == other.notes and np.array_equal(self.pixels, other.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]
