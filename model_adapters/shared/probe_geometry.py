"""Geometry of an image processor, measured with probe pictures.

Four pictures of one size are processed: a dark one, a bright one, and two gradients from dark to
bright, to the right and downwards. The place of a processed value between its dark and bright
values is the share of the picture's width or height that it shows; where the two are equal, there
is border. A geometry is accepted only if it explains these measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import UnsupportedModelError
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared import resize_steps

# Wide, tall and small; in a square all geometries are equal.
SHAPES = ((320, 200), (200, 320), (97, 61))
_DARK, _BRIGHT = 40, 220
_PIXELS = 0.75  # tolerance in pixels of the canvas: processors round to whole ones
_SPREAD = 0.02  # tolerance as a share of a side, for flat patches, where only spreads are known
_SHORTEST = 16  # least number of pixels of a side on which a slope can be measured

Layout = Callable[[Frame, float, float], Frame]
Process = Callable[[Picture], torch.Tensor]


def _squash(frame: Frame, width: float, height: float) -> Frame:
    return frame.resize(width, height)


def _crop(frame: Frame, width: float, height: float) -> Frame:
    edge = int(min(width, height))
    return resize_steps.centre_crop(
        resize_steps.shortest_edge(frame, edge), {"width": int(width), "height": int(height)}
    )


def _pad(frame: Frame, width: float, height: float) -> Frame:
    return resize_steps.padded_square(frame).resize(width, height)


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


@dataclass(frozen=True)
class Seen:
    """The measurements on pictures of one size.

    Attributes:
        size: width and height of the pictures, in pixels.
        canvas: width and height of the processor's output; None where that is flat patches.
        spans: per axis, begin and end of the picture on the canvas, in its pixels.
        lines: per axis, the original coordinates at both ends of the canvas, by a straight line
            through the measurements; None where the picture is too short.
        filled: the share of values that show the picture.
        means, spreads: per axis, mean and standard deviation of the measured share of the side.
    """

    size: tuple[int, int]
    canvas: tuple[int, int] | None
    spans: tuple[tuple[float, float], ...]
    lines: tuple[tuple[float, float] | None, ...]
    filled: float
    means: tuple[float, float]
    spreads: tuple[float, float]

    def fits(self, name: str) -> bool:
        """Check whether a geometry explains the measurements."""
        if self.canvas is None:
            return name == "squash" and self._all_shown()
        frame = GEOMETRIES[name](Frame.of(*self.size), *map(float, self.canvas))
        return all(self._fits_axis(frame, axis) for axis in (0, 1))

    def describe(self) -> str:
        """Describe the measurements for messages."""
        text = f"of {self.size[0]} x {self.size[1]} pixels"
        if self.canvas is None:
            return f"{text} come patches that are {self.filled:.0%} picture"
        (left, right), (top, bottom) = self.spans
        text += f" come {self.canvas[0]} x {self.canvas[1]}, the picture from "
        return f"{text}{left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}"

    def _all_shown(self) -> bool:
        """Check that flat patches show all of the picture evenly; their places are not known."""
        even = 12**-0.5
        return self.filled == 1.0 and all(
            side < _SHORTEST or (abs(mean - 0.5) <= _SPREAD and abs(spread / even - 1) <= _SPREAD)
            for side, mean, spread in zip(self.size, self.means, self.spreads, strict=True)
        )

    def _fits_axis(self, frame: Frame, axis: int) -> bool:
        side = (frame.width, frame.height)[axis]  # the canvas's side according to the geometry
        scale, offset = frame.scale[axis], frame.offset[axis]
        expected = [min(side, max(0.0, at * scale + offset)) for at in (0, self.size[axis])]
        # A border narrower than a pixel blends with the picture.
        if max(abs(a - b) for a, b in zip(expected, self.spans[axis], strict=True)) > 2 * _PIXELS:
            return False
        line, length = self.lines[axis], self.size[axis]
        ends = [(at - offset) / scale for at in expected]
        seen = ends[1] - ends[0]
        if line is None or seen < _SHORTEST:
            return True
        # A long strip shows few levels of grey, each for many pixels.
        level = length / (_BRIGHT - _DARK)
        unsure = 0.5 * level * scale / (seen / level) ** 0.5
        return all(
            abs(start + (stop - start) * at / side - end) * scale <= _PIXELS + unsure
            for start, stop in [line]
            for at, end in zip(expected, ends, strict=True)
        )


def look(process: Process, size: tuple[int, int]) -> Seen:
    """Measure the layout of pictures of one size.

    Args:
        process: computes the processor's values of a picture, with any leading axes of length 1.
        size: width and height in pixels.

    Raises:
        UnsupportedModelError: it makes several pictures of one, or its layout depends on content.
    """
    across, down = (np.linspace(_DARK, _BRIGHT, side).round() for side in size)
    greys = (np.float64(_DARK), np.float64(_BRIGHT), across[None], down[:, None])
    dark, bright, *ramps = (_made(process, size, np.asarray(grey)) for grey in greys)
    if not dark.shape == bright.shape == ramps[0].shape == ramps[1].shape:
        raise UnsupportedModelError("the image processor's answer changes with what it shows")
    range_ = bright - dark
    shown = range_ > 0.5 * range_.max()
    # The share of the width and of the height at every value that shows the picture.
    # A grey level belongs to the middle of its pixel.
    shares = [
        (0.5 + (ramp - dark)[shown] / range_[shown] * (side - 1)) / side
        for ramp, side in zip(ramps, size, strict=True)
    ]
    canvas = None if dark.ndim < 3 else (dark.shape[2], dark.shape[1])
    spans, lines = [], []
    if canvas is not None:
        seen = shown.any(0)
        for axis in (0, 1):
            lit = np.flatnonzero(seen.any(axis))
            spans.append((float(lit[0]), float(lit[-1] + 1)))
            lines.append(_line(np.nonzero(shown)[2 - axis], shares[axis], size[axis], canvas[axis]))
    return Seen(
        size,
        canvas,
        tuple(spans),
        tuple(lines),
        float(shown.mean()),
        (float(shares[0].mean()), float(shares[1].mean())),
        (float(shares[0].std()), float(shares[1].std())),
    )


def _line(
    at: np.ndarray, share: Float[np.ndarray, " values"], length: int, side: int
) -> tuple[float, float] | None:
    """Fit a line through the middle values; returns original coordinates at the canvas's ends."""
    low, high = at.min(), at.max()
    if length < _SHORTEST or high - low < _SHORTEST:
        return None
    # At its very edges a picture is resampled from one side alone.
    inner = (at >= low + 3) & (at <= high - 3)
    slope, first = np.polyfit(at[inner] + 0.5, share[inner] * length, 1)
    return float(first), float(first + slope * side)


def geometry_of(process: Process, *, flat: bool) -> str:
    """Find the one of `GEOMETRIES` that a processor uses.

    Args:
        process: as for `look`.
        flat: whether pictures may become flat patches, or have shapes of their own, which another
            tensor states.

    Raises:
        UnsupportedModelError: none of them explains the measurements.
    """
    seen = [look(process, size) for size in SHAPES]
    if not flat and len({each.canvas for each in seen} | {None}) != 2:
        raise UnsupportedModelError(
            "pictures become canvases of several shapes, and nothing says of which; this family "
            "needs an adapter of its own"
        )
    for name in GEOMETRIES:
        if all(each.fits(name) for each in seen):
            return name
    raise UnsupportedModelError(
        f"the image processor's geometry is none of {', '.join(GEOMETRIES)} "
        f"({seen[0].describe()}); this family needs an adapter of its own"
    )


def _made(process: Process, size: tuple[int, int], grey: np.ndarray) -> np.ndarray:
    """Process a grey picture: channels x height x width, or patches x values."""
    pixels = np.broadcast_to(grey.astype(np.uint8)[..., None], (size[1], size[0], 3))
    made = process(Picture(np.ascontiguousarray(pixels), "a measured picture"))
    while made.ndim > 3 and made.shape[0] == 1:
        made = made[0]
    if made.ndim > 3:
        raise UnsupportedModelError(
            f"the image processor makes {made.shape[0]} pictures out of one (tiles), whose order "
            "cannot be known; this family needs an adapter of its own"
        )
    answer: np.ndarray = made.float().numpy(force=True)
    return answer
