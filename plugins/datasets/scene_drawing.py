"""Drawing synthetic scenes: plain shapes on neutral backgrounds, with exact masks.

Pictures are square uint8 RGB arrays. Every shape fills its square to the edge, so
that the side of an object's tight box is the side it was drawn with.
"""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")

# Hues in degrees, far enough apart that the jitter never makes two colours meet.
_HUES = {"red": 0.0, "orange": 28.0, "yellow": 56.0, "green": 122.0, "blue": 220.0, "purple": 285.0}
_HUE_JITTER = 5.0
_OVERSAMPLING = 4
_HALF = 0.5
_PLAIN, _GRADED, _NOISY = range(3)


def sample_paint(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """An RGB triple (0 to 255) of the named colour, a little different each time."""
    hue = (_HUES[colour] + rng.uniform(-_HUE_JITTER, _HUE_JITTER)) % 360.0
    saturation, value = rng.uniform(0.8, 1.0), rng.uniform(0.72, 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue / 360.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _polygon(shape: str) -> Float[np.ndarray, "corners 2"]:
    """Corners in the unit square, stretched so that they touch all four sides."""
    if shape == "square":
        corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    elif shape == "triangle":
        corners = [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)]
    elif shape == "cross":
        a, b = 1 / 3, 2 / 3
        corners = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b)]
        corners += [(b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    elif shape == "star":
        radii = (1.0, 0.42)
        angles = [math.pi * i / 5 - math.pi / 2 for i in range(10)]
        corners = [
            (radii[i % 2] * math.cos(t), radii[i % 2] * math.sin(t)) for i, t in enumerate(angles)
        ]
    else:
        raise ValueError(f"no polygon for the shape {shape!r}")
    points = np.asarray(corners, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    unit: Float[np.ndarray, "corners 2"] = (points - low) / (high - low)
    return unit


_POLYGONS = {shape: _polygon(shape) for shape in SHAPES if shape != "circle"}


def shape_coverage(shape: str, side: int) -> Float[np.ndarray, "side side"]:
    """Share of every pixel that the shape covers, 0 to 1, for a square of `side` pixels."""
    large = side * _OVERSAMPLING
    canvas = np.zeros((large, large), dtype=np.uint8)
    if shape == "circle":
        ys, xs = np.ogrid[:large, :large]
        middle = (large - 1) / 2
        canvas[(xs - middle) ** 2 + (ys - middle) ** 2 <= (large / 2) ** 2] = 255
    else:
        corners = np.rint(_POLYGONS[shape] * (large - 1)).astype(np.int32)
        cv2.fillPoly(canvas, [corners.reshape(-1, 1, 2)], color=255)
    small = canvas.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean(
        axis=(1, 3), dtype=np.float32
    )
    return (small / np.float32(255)).astype(np.float32)


def draw_background(side: int, rng: np.random.Generator) -> Float[np.ndarray, "side side 3"]:
    """A plain, graded or noisy background in a neutral tone; values 0 to 255."""
    tone = rng.uniform(40.0, 225.0) + rng.uniform(-8.0, 8.0, size=3)
    canvas = np.empty((side, side, 3), dtype=np.float32)
    canvas[:] = tone.astype(np.float32)
    style = int(rng.integers(3))
    if style == _GRADED:
        angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(15.0, 45.0)
        line = np.linspace(-0.5, 0.5, side, dtype=np.float32)
        ramp = line[None, :] * np.float32(math.cos(angle)) + line[:, None] * np.float32(
            math.sin(angle)
        )
        canvas += (ramp * np.float32(strength))[..., None]
    elif style == _NOISY:
        grain = rng.standard_normal((side, side), dtype=np.float32)
        canvas += (grain * np.float32(rng.uniform(4.0, 12.0)))[..., None]
    return canvas


def paint_shape(
    canvas: Float[np.ndarray, "side side 3"],
    shape: str,
    paint: tuple[int, int, int],
    corner: tuple[int, int],
    size: int,
) -> Bool[np.ndarray, "side side"]:
    """Paint one antialiased shape with this (left, top) into `canvas`, in place; return its mask.

    A pixel belongs to the mask when the shape covers at least half of it.
    """
    left, top = corner
    coverage = shape_coverage(shape, size)
    region = canvas[top : top + size, left : left + size]
    region += coverage[..., None] * (np.asarray(paint, dtype=np.float32) - region)
    mask = np.zeros(canvas.shape[:2], dtype=bool)
    mask[top : top + size, left : left + size] = coverage >= _HALF
    return mask


def finish(canvas: Float[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """Round and clip a canvas to a read-only uint8 picture."""
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    image.flags.writeable = False
    return image
