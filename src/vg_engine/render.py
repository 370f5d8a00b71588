"""Draw answers: the picture with its heat map, the mask's outline, the box, the peak, a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

from vg_engine import picture_text as text
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding
from vg_engine.core.errors import InputError
from vg_engine.plugins.pictures import decode

# The longer side of what is drawn, in pixels: small pictures are enlarged, huge ones reduced.
SMALLEST, LARGEST = 640, 1600
_NARROWEST = 8  # pixels that even a 1 x 5000 picture gets across
_NARROWEST_CANVAS = 480  # a caption needs room
_SHEET_CELL = 720
_GAP = 12
_WIDEST, _TWO_BY_TWO = 3, 4
_NAMED = 4  # heads that a caption names
_SHARP = 3  # enlarged more than this, a picture's own pixels are worth seeing

PAPER = (19, 21, 26)
INK = (245, 246, 248)
QUIET = (163, 170, 184)
BOX = (64, 224, 208)
CASING = (12, 14, 18)
DISCS = (CASING, 6.2), (INK, 5.0), (BOX, 3.0)  # of a peak: colour and radius
_HEAT = 0.66  # opacity where the map is strongest


def draw(grounding: Grounding, picture: Any) -> Image.Image:
    """Draw one answer: RGB, a caption bar below.

    Args:
        grounding: the answer.
        picture: the one that was grounded, as `Engine.ground` takes it.

    Raises:
        InputError: the picture is not the one that was grounded.
    """
    return _card(grounding, decode(picture), SMALLEST, LARGEST)


def sheet(
    groundings: Sequence[Grounding], picture: Any, *, columns: int | None = None
) -> Image.Image:
    """Several answers about one picture, side by side.

    Args:
        groundings: at least one.
        picture: what all of them are about, as `Engine.ground` takes it.
        columns: three by default; four answers stand two by two.

    Raises:
        InputError: there is nothing to draw, or the picture is another one.
    """
    if not groundings:
        raise InputError("a sheet needs at least one grounding; ground an expression first")
    across = columns or (2 if len(groundings) == _TWO_BY_TWO else min(_WIDEST, len(groundings)))
    shown = decode(picture)
    cards = [_card(grounding, shown, _SHEET_CELL, _SHEET_CELL) for grounding in groundings]
    rows = [cards[start : start + across] for start in range(0, len(cards), across)]
    width = max(card.width for card in cards)
    heights = [max(card.height for card in row) for row in rows]
    paper = Image.new(
        "RGB",
        (
            width * min(across, len(cards)) + _GAP * (min(across, len(cards)) + 1),
            sum(heights) + _GAP * (len(rows) + 1),
        ),
        (36, 39, 46),
    )
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, card in enumerate(row):
            backed = Image.new("RGB", (width, height), PAPER)
            backed.paste(card, ((width - card.width) // 2, 0))
            paper.paste(backed, (_GAP + column * (width + _GAP), top))
        top += height + _GAP
    return paper


def _card(grounding: Grounding, picture: Picture, smallest: int, largest: int) -> Image.Image:
    picture.check_size(grounding.size, "draw it on")
    canvas = Canvas.of(picture, smallest, largest)
    pixels = with_heat(canvas, grounding.heatmap)
    for number, mask in reversed(list(enumerate(grounding.masks))):
        _outline(pixels, canvas, mask, first=number == 0)
    for number, box in reversed(list(enumerate(grounding.boxes))):
        frame(pixels, canvas, [float(v) for v in box], first=number == 0)
    dot(pixels, canvas, grounding.point)
    return _captioned(Image.fromarray(pixels), grounding)


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture at the size it is drawn, and the factors that lead there.

    Attributes:
        pixels: as drawn.
        across, down: drawn pixels per original pixel.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    across: float
    down: float

    @classmethod
    def of(cls, picture: Picture, smallest: int, largest: int) -> Canvas:
        """The picture with its longer side between two lengths, in pixels."""
        width, height = picture.size
        longer = max(width, height)
        factor = min(max(longer, smallest), largest) / longer
        size = tuple(max(_NARROWEST, round(side * factor)) for side in (width, height))
        if factor > _SHARP:
            method = cv2.INTER_NEAREST
        else:
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(picture.pixels, size, interpolation=method)
        return cls(np.asarray(pixels, np.uint8), size[0] / width, size[1] / height)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as drawn."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def unit(self) -> float:
        """One line's width: grows with the canvas."""
        return max(1.0, min(self.size) / 400)

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Original pixels as cv2 takes them with `shift=4`: sixteenths of drawn pixels."""
        return round((x * self.across - 0.5) * 16), round((y * self.down - 0.5) * 16)


def with_heat(
    canvas: Canvas, heat: Float32[np.ndarray, "height width"], *, opacity: float = _HEAT
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """Lay the map over the picture: the floor of the map is clear, its peak nearly opaque.

    Args:
        canvas: what it is laid on.
        heat: not negative, of any size.
        opacity: where the map is strongest.
    """
    fitted = np.asarray(
        cv2.resize(heat, canvas.size, interpolation=cv2.INTER_LINEAR), dtype=np.float32
    )
    floor = float(np.median(fitted))
    strength = np.clip((fitted - floor) / max(1e-6, float(fitted.max()) - floor), 0, 1)
    # From a third of the colour map on: its dark end would only dirty the picture.
    shade = (85 + 165 * strength).astype(np.uint8)
    colours = cv2.applyColorMap(shade, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    cover = (opacity * strength**0.8)[..., None]
    grey = canvas.pixels.mean(axis=2, keepdims=True)
    # A little of the picture's own colour goes, so that the map's colours are the map's.
    base = canvas.pixels + (grey - canvas.pixels) * 0.25
    blended = base * (1 - cover) + colours * cover
    return np.ascontiguousarray(np.rint(blended).clip(0, 255), dtype=np.uint8)


def _outline(
    pixels: UInt8[np.ndarray, "drawn_height drawn_width 3"],
    canvas: Canvas,
    mask: Bool[np.ndarray, "height width"],
    *,
    first: bool,
) -> None:
    fitted = cv2.resize(mask.astype(np.float32), canvas.size, interpolation=cv2.INTER_LINEAR)
    # Steps of the original's pixels are no shape of the mask: enlarged ones are rounded off.
    smooth = cv2.GaussianBlur(fitted, (0, 0), max(0.8, canvas.unit, canvas.across, canvas.down))
    inside = np.rint(smooth).astype(np.uint8)
    border = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    contours, _ = cv2.findContours(border, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(-1, -1))
    thin = max(1, round(canvas.unit * (1.3 if first else 0.9)))
    cv2.drawContours(pixels, contours, -1, CASING, thin + 2, cv2.LINE_AA)
    cv2.drawContours(pixels, contours, -1, INK, thin, cv2.LINE_AA)


def frame(
    pixels: UInt8[np.ndarray, "drawn_height drawn_width 3"],
    canvas: Canvas,
    box: Sequence[float],
    *,
    first: bool,
) -> None:
    """Draw a box, xyxy in original pixels; the first one's line is stronger."""
    line = max(1, round(canvas.unit * (2.4 if first else 1.5)))
    # Kept whole where the box touches the picture's edge.
    keep_x, keep_y = line / canvas.across / 2 + 1e-9, line / canvas.down / 2 + 1e-9
    width, height = canvas.size[0] / canvas.across, canvas.size[1] / canvas.down
    start = canvas.place(max(box[0], keep_x), max(box[1], keep_y))
    stop = canvas.place(min(box[2], width - keep_x), min(box[3], height - keep_y))
    for colour, wide in ((CASING, line + 2), (BOX, line)):
        cv2.rectangle(pixels, start, stop, colour, wide, cv2.LINE_AA, shift=4)


def dot(
    pixels: UInt8[np.ndarray, "drawn_height drawn_width 3"],
    canvas: Canvas,
    point: tuple[float, float],
) -> None:
    """Draw a point (x, y) of the original."""
    centre = canvas.place(*point)
    for colour, radius in DISCS:
        size = round(16 * radius * max(1.0, canvas.unit * 0.75))
        cv2.circle(pixels, centre, size, colour, -1, cv2.LINE_AA, shift=4)


def _captioned(image: Image.Image, grounding: Grounding) -> Image.Image:
    width = max(image.width, _NARROWEST_CANVAS)
    margin = max(18, width // 34)
    small = text.font_for("", max(14, width // 50))
    large = text.font_for(grounding.expression, margin)
    lines = text.wrap(grounding.expression, large, width - 2 * margin)
    below = text.wrap(_facts(grounding), small, width - 2 * margin)
    step, small_step = round(large.size * 1.32), round(small.size * 1.4)
    gap = margin // 5
    bar = round(margin * 0.7) * 2 + step * len(lines) + gap + small_step * len(below)
    card = Image.new("RGB", (width, image.height + bar), PAPER)
    card.paste(image, ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(card)
    top = image.height + round(margin * 0.7)
    for line in lines:
        pen.text((margin, top), line, font=large, fill=INK)
        top += step
    top += gap
    for line in below:
        pen.text((margin, top), line, font=small, fill=QUIET)
        top += small_step
    return card


def _facts(grounding: Grounding) -> str:
    heads = [str(head) for head in grounding.heads]
    more = f" and {len(heads) - _NAMED} more" if len(heads) > _NAMED else ""
    named = ", ".join(heads[:_NAMED]) + more
    if grounding.box is None:
        return f"not found   |   heads {named}"
    corners = ", ".join(f"{value:.0f}" for value in grounding.box)
    return f"score {grounding.score:.2f}   |   box {corners}   |   heads {named}"
