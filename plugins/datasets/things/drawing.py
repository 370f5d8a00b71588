"""Drawing: cut-outs are recoloured, turned, sized and laid on a background.

A thing covers the pixels where its cut-out has at least half of its opacity. Pillow resamples;
everything else is arithmetic on whole numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from vg_engine.plugins.datasets.things import files

# The words for a colour, and what stands in the place of a cut-out's own colour.
COLOURS = {
    "red": (225, 25, 30),
    "orange": (255, 125, 10),
    "yellow": (255, 215, 25),
    "green": (30, 150, 50),
    "blue": (30, 95, 225),
    "purple": (135, 50, 190),
}
_CHROMA = 60  # a pixel has a cut-out's own colour from this chroma,
_NEAR = 24  # and where its hue, of 256, is no farther from the commonest
_OPAQUE = 128
_ONE = 128  # brightness: a pixel as it is

Rgb = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "_ _"]
Rgba = UInt8[np.ndarray, "_ _ 4"]


@dataclass(frozen=True)
class Thing:
    """One thing before it is placed.

    Attributes:
        noun: what it is.
        colour: its one colour; empty where it has several.
        length: the longer side of its box in pixels.
        angle: degrees that it is turned by.
        mirrored: left and right are swapped.
        brightness: 128 = as it is.
    """

    noun: str
    colour: str
    length: int
    angle: int
    mirrored: bool
    brightness: int


@functools.cache
def cutout(noun: str, colour: str) -> Image.Image:
    """Read a cut-out, and give it the colour unless that is empty."""
    with Image.open(files.FOLDER / "cutouts" / f"{noun}.png") as opened:
        image = opened.convert("RGBA")
    if not colour:
        return image
    pixels = np.asarray(image).astype(np.int32)
    low, high = pixels[..., :3].min(axis=2), pixels[..., :3].max(axis=2)
    hue = np.asarray(image.convert("RGB").convert("HSV"))[..., 0].astype(np.int32)
    strong = (high - low >= _CHROMA) & (pixels[..., 3] >= _OPAQUE)
    own = np.bincount(hue[strong], minlength=256).argmax()
    apart = (hue - own + 128) % 256 - 128
    strong = (high - low >= _CHROMA) & (abs(apart) <= _NEAR)
    grey, light = low[strong][:, None] ** 2 // 255, high[strong][:, None]
    pixels[strong, :3] = grey + (light - grey) * np.array(COLOURS[colour]) // 255
    return Image.fromarray(pixels.astype(np.uint8))


def shaped(thing: Thing) -> Rgba:
    """Draw one thing alone; the longer side of what is opaque has the thing's length."""
    image = cutout(thing.noun, thing.colour)
    if thing.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(thing.angle, Image.Resampling.BILINEAR, expand=True)
    image = image.crop(image.getchannel("A").point([0] * _OPAQUE + [255] * _OPAQUE).getbbox())
    scale = thing.length / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    pixels = np.array(image.resize((size[0], size[1]), Image.Resampling.BICUBIC))
    pixels[..., :3] = _brightened(pixels[..., :3], thing.brightness)
    return pixels


def _brightened(pixels: Rgb, brightness: int) -> Rgb:
    levels = np.minimum(np.arange(256) * brightness // _ONE, 255)
    return np.asarray(cv2.LUT(pixels, levels.astype(np.uint8)), dtype=np.uint8)


def opaque(patch: Rgba) -> Mask:
    """Draw the mask of a thing alone."""
    return np.asarray(patch[..., 3] >= _OPAQUE)


def owners(
    size: tuple[int, int], masks: Sequence[Mask], places: Sequence[tuple[int, int]]
) -> UInt8[np.ndarray, "height width"]:
    """Number each pixel by the thing that is seen there, from 1; 0 is the background.

    Args:
        size: (width, height) of the picture.
        masks: each thing alone; later ones hide earlier ones.
        places: left and top of each.
    """
    found = np.zeros(size[::-1], dtype=np.uint8)
    for number, (mask, (left, top)) in enumerate(zip(masks, places, strict=True), start=1):
        height, width = mask.shape
        found[top : top + height, left : left + width][mask] = number
    return found


def paint(
    canvas: Rgb,
    patches: Sequence[Rgba],
    places: Sequence[tuple[int, int]],
) -> None:
    """Lay the things on the canvas, in place."""
    for patch, (left, top) in zip(patches, places, strict=True):
        height, width = patch.shape[:2]
        region = canvas[top : top + height, left : left + width]
        alpha = patch[..., 3:].astype(np.int32)
        region[:] = (region * (255 - alpha) + patch[..., :3] * alpha + 127) // 255


@functools.cache
def photograph(name: str) -> Image.Image:
    """Read a background's photograph."""
    with Image.open(files.FOLDER / "backgrounds" / f"{name}.webp") as opened:
        return opened.convert("RGB")


def background(name: str, size: tuple[int, int], rng: np.random.Generator) -> Rgb:
    """Cut a picture of `size` = (width, height) from a photograph, or draw a texture.

    A cut has 55 to 100 % of the largest that fits, and may be mirrored and darker.
    """
    drawn = {"clouds": _clouds, "tiles": _tiles, "stripes": _stripes}
    if name in drawn:
        return drawn[name](size, rng)
    image, (width, height) = photograph(name), size
    scale = min(image.width / width, image.height / height) * int(rng.integers(55, 101)) / 100
    cut = int(width * scale), int(height * scale)
    left, top = (
        int(rng.integers(whole - part + 1)) for whole, part in zip(image.size, cut, strict=True)
    )
    box = left, top, left + cut[0], top + cut[1]
    image = image.resize(size, Image.Resampling.BILINEAR, box=box)
    if rng.integers(2):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _brightened(np.asarray(image), int(rng.integers(100, _ONE + 1)))


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> Rgb:
    few = rng.integers(60, 230, size=(4, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(few).resize(size, Image.Resampling.BICUBIC))


def _pattern(which: UInt8[np.ndarray, "height width"], rng: np.random.Generator) -> Rgb:
    """Give each part of a pattern a pale colour of its own, and all of it some grain."""
    palette = rng.integers(120, 215, size=3) + rng.integers(-22, 23, size=(256, 1))
    grain = rng.integers(-9, 10, size=(*which.shape, 1))
    return np.asarray(palette[which] + grain, dtype=np.uint8)


def _tiles(size: tuple[int, int], rng: np.random.Generator) -> Rgb:
    side = int(rng.integers(24, 64))
    rows, columns = np.ogrid[: size[1], : size[0]]
    which = (rows // side * 31 + columns // side * 17) % 255 + 1
    joint = (rows % side < 2) | (columns % side < 2)
    return _pattern(np.where(joint, 0, which).astype(np.uint8), rng)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> Rgb:
    width, slope = int(rng.integers(14, 48)), int(rng.integers(-2, 3))
    rows, columns = np.ogrid[: size[1], : size[0]]
    return _pattern(((columns + rows * slope // 2) // width % 256).astype(np.uint8), rng)
