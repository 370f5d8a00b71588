"""A decoded picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vg_engine.core.contract.frozen import Rebuilt
from vg_engine.core.errors import InputError, PictureError


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
        object.__setattr__(self, "pixels", read_only(self.pixels))

    def __repr__(self) -> str:
        return f"Picture({self.size[0]} x {self.size[1]}, {self.source})"

    def same_as(self, other: Picture) -> bool:
        """Compare by content: the same pixels, decoded with the same notes."""
        if self.pixels is other.pixels:
            return self.notes == other.notes
        return self.notes == other.notes and np.array_equal(self.pixels, other.pixels)

    def check_size(self, size: tuple[int, int], do: str) -> None:
        """Refuse another picture than the one that an answer is about.

        Args:
            size: of the picture that was grounded.
            do: what is to be done with this one, for the message.

        Raises:
            InputError: this picture has another size.
        """
        if size != self.size:
            raise InputError(
                f"the answer is about a picture of {size}, this one is {self.size}; {do} the "
                "picture that was grounded"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_only(array: np.ndarray) -> np.ndarray:
    """Copy an array that can still be changed, here or through the buffer that it shows."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    if owner is None or isinstance(owner, bytes):
        return array
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
