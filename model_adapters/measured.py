"""Where an image processor puts a picture's pixels, found by looking instead of believing.

A grey picture is processed with and without a bright stripe. Where the processed pixels changed
tells which of the usual geometries is in force; none is taken that does not explain what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from vg_engine.core.errors import UnsupportedModelError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters import frames

# Wide and tall: in a square all geometries are alike.
_SHAPES = ((320, 200), (200, 320))
# The stripes, as shares of a side: all inside what a centre crop leaves of either shape.
_STRIPES = ((0.3, 0.45), (0.55, 0.7))
_GREY, _BRIGHT = 90, 230
_PIXELS = 1.5  # a stripe's edge is resampled, so it is known to about a pixel

Layout = Callable[[Frame, float, float], Frame]


def _squash(frame: Frame, width: float, height: float) -> Frame:
    return frame.resize(width, height)


def _crop(frame: Frame, width: float, height: float) -> Frame:
    edge = int(min(width, height))
    return frames.centre_crop(
        frames.shortest_edge(frame, edge), {"width": int(width), "height": int(height)}
    )


def _pad(frame: Frame, width: float, height: float) -> Frame:
    return frames.padded_square(frame).resize(width, height)


def _pad_end(frame: Frame, width: float, height: float) -> Frame:
    side = max(frame.width, frame.height)
    return frame.pad(0.0, 0.0, side - frame.width, side - frame.height).resize(width, height)


GEOMETRIES: dict[str, Layout] = {
    "squash": _squash,
    "crop": _crop,
    "pad": _pad,
    "pad_end": _pad_end,
}
WORDS = {
    "squash": "squashed, all of it, whatever its shape",
    "crop": "cut to a square around its centre: what lies outside is never found",
    "pad": "padded to a square, in the middle",
    "pad_end": "padded to a square, on the right and below",
}


def geometry_of(images: Any) -> str | None:
    """Which of `GEOMETRIES` an image processor follows; None where it makes flat patches.

    Args:
        images: an image processor of transformers.

    Raises:
        UnsupportedModelError: it makes several pictures out of one, or none of the geometries
            explains where its pixels go.
    """
    fitting = set(GEOMETRIES)
    seen = []
    for width, height in _SHAPES:
        blank = _processed(images, np.full((height, width, 3), _GREY, np.uint8))
        if blank is None:
            return None
        for low, high in _STRIPES:
            for axis in (0, 1):
                changed = _changed(images, blank, (width, height), axis, low, high)
                side = float(blank.shape[2 - axis])
                seen.append(f"{width} x {height}: {low:.2f}-{high:.2f} to {changed}")
                for name in tuple(fitting):
                    canvas = float(blank.shape[2]), float(blank.shape[1])
                    frame = GEOMETRIES[name](Frame.of(width, height), *canvas)
                    length = (width, height)[axis]
                    expected = [
                        min(side, max(0.0, share * length * frame.scale[axis] + frame.offset[axis]))
                        for share in (low, high)
                    ]
                    off = max(abs(a - b) for a, b in zip(expected, changed, strict=True))
                    if off > _PIXELS:
                        fitting.discard(name)
    if not fitting:
        raise UnsupportedModelError(
            "the image processor's geometry is none of "
            f"{', '.join(GEOMETRIES)} (stripes went from {'; '.join(seen[:2])}); this family "
            "needs an adapter of its own"
        )
    return next(name for name in GEOMETRIES if name in fitting)


def _processed(images: Any, pixels: np.ndarray) -> torch.Tensor | None:
    """What the processor makes of one picture: channels x height x width, or None if flat."""
    made = images(images=[Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]
    while torch.is_tensor(made) and made.ndim > 3 and made.shape[0] == 1:
        made = made[0]
    if not torch.is_tensor(made) or made.ndim < 3:
        return None
    if made.ndim > 3:
        raise UnsupportedModelError(
            f"the image processor makes {made.shape[0]} pictures out of one (tiles), whose order "
            "cannot be known; this family needs an adapter of its own"
        )
    return made.float()


def _changed(
    images: Any, blank: torch.Tensor, size: tuple[int, int], axis: int, low: float, high: float
) -> tuple[float, float]:
    """First and last changed column (axis 0) or row (axis 1) of a stripe across the picture."""
    width, height = size
    pixels = np.full((height, width, 3), _GREY, np.uint8)
    start, stop = round(low * size[axis]), round(high * size[axis])
    if axis == 0:
        pixels[:, start:stop] = _BRIGHT
    else:
        pixels[start:stop] = _BRIGHT
    made = _processed(images, pixels)
    if made is None or made.shape != blank.shape:
        raise UnsupportedModelError("the image processor's answer changes with what it shows")
    moved = (made - blank).abs().sum(0).amax(0 if axis == 0 else 1).numpy()
    lit: Bool[np.ndarray, " side"] = moved > moved.max() / 2
    where = np.flatnonzero(lit)
    return float(where[0]), float(where[-1] + 1)
