"""Thumbnails: answers and head maps drawn at the size they are shown, so that lines stay crisp."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from vg_engine import picture_text as text
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import HeadsError
from vg_engine.core.geometry import Affine, Box, SoftMap
from vg_engine.core.heads import Head
from vg_engine.render import BOX, CASING, INK, Canvas, dot, frame, with_heat

Style = Literal["answer", "truth", "other"]


class Line(NamedTuple):
    """The line of a style of box."""

    colour: tuple[int, int, int]
    width: int
    dashed: bool = False


LINES: Final[Mapping[Style, Line]] = {
    "answer": Line(BOX, 2),
    "truth": Line(INK, 2, dashed=True),
    "other": Line((255, 176, 64), 1),
}
CARD: Final = 512  # pixels of a picture that readers may enlarge
_PLAIN = 320  # from this side on, lines and labels grow with the picture
_DASH = 7.0  # of a dashed line and of its holes, drawn pixels
_DIM = 0.5  # of a picture's brightness under a head's map
_STRONG: Final = 0.94  # opacity of a head's map at its peak
_LABEL = 15  # size of a word at a box, drawn pixels
_QUALITY = 85


@dataclass(frozen=True)
class Outline:
    """A box to draw.

    Attributes:
        box: xyxy, original pixels; may touch or pass the picture's edge.
        style: `answer` (turquoise), `truth` (white, dashed), `other` (amber, thin).
        label: a few words at its corner.
    """

    box: Box
    style: Style = "answer"
    label: str = ""


def outlines(
    boxes: Iterable[Sequence[float | int]] | None, style: Style = "answer", label: str = ""
) -> list[Outline]:
    """Make outlines of recorded boxes; None has none."""
    corners = (map(float, box) for box in boxes or ())
    return [
        Outline((left, top, right, bottom), style, label) for left, top, right, bottom in corners
    ]


@dataclass(frozen=True, eq=False)
class Tile:
    """One head's map over the dimmed picture.

    Attributes:
        caption: the head's name.
        image: RGB.
    """

    caption: str
    image: Image.Image


@dataclass(frozen=True, eq=False)
class Card:
    """A picture in a gallery.

    Attributes:
        image: RGB.
        alt: text for those who do not see it.
        expression: the sentence that was asked.
        facts: short ones, one line.
        hit: the answer is right; None if that is not shown.
        tiles: shown below, folded away.
    """

    image: Image.Image
    alt: str
    expression: str
    facts: Sequence[str]
    hit: bool | None = None
    tiles: Sequence[Tile] = ()


def overlay(
    picture: Picture,
    heat: SoftMap | None = None,
    boxes: Sequence[Outline] = (),
    peak: tuple[float, float] | None = None,
    *,
    max_side: int = 320,
) -> Image.Image:
    """The picture with its map, boxes and peak, its longer side at most `max_side` pixels.

    Args:
        picture: the one that was grounded.
        heat: one map.
        boxes: the first lies on top.
        peak: (x, y) of a dot, original pixels.
        max_side: of the drawing; small pictures are enlarged.

    Raises:
        InputError: `heat` holds several maps.
    """
    canvas = Canvas.of(picture, max_side, max_side)
    pixels = canvas.pixels.copy() if heat is None else with_heat(canvas, _rendered(heat, canvas))
    _draw_boxes(pixels, canvas, boxes)
    if peak is not None:
        dot(pixels, canvas, peak)
    image = Image.fromarray(pixels)
    plates: list[tuple[int, int, int, int]] = []
    for outline in reversed(boxes):
        _draw_label(image, canvas, outline, plates)
    return image


def _growth(canvas: Canvas) -> float:
    """By how much lines and labels are larger than in a small thumbnail."""
    return max(1.0, max(canvas.size) / _PLAIN)


def head_tiles(
    picture: Picture,
    maps: HeadMaps,
    heads: Sequence[Head],
    *,
    boxes: Sequence[Outline] = (),
    max_side: int = 160,
) -> tuple[Tile, ...]:
    """The map of each head over the dimmed picture.

    Args:
        picture: the one that was grounded.
        maps: of one query.
        heads: in the order of the tiles.
        boxes: drawn on every tile.
        max_side: the longer side of a tile, pixels.

    Raises:
        HeadsError: a head that `maps` does not hold.
    """
    known = {head: i for i, head in enumerate(maps.heads)}
    if missing := [str(head) for head in heads if head not in known]:
        raise HeadsError(f"no map of {', '.join(missing)} was read; ask for maps of these heads")
    canvas = Canvas.of(picture, max_side, max_side)
    dimmed = replace(canvas, pixels=(canvas.pixels * _DIM).astype(np.uint8))
    tiles = []
    for head in heads:
        one = SoftMap(maps.maps.values[known[head]], maps.maps.to_original)
        pixels = with_heat(dimmed, _rendered(one, canvas), opacity=_STRONG)
        _draw_boxes(pixels, canvas, boxes)
        tiles.append(Tile(str(head), Image.fromarray(pixels)))
    return tuple(tiles)


def _rendered(heat: SoftMap, canvas: Canvas) -> Float32[np.ndarray, "height width"]:
    """One map at the size that is drawn: a large picture's own size would be work for nothing."""
    scale, offset = heat.to_original.scale, heat.to_original.offset
    shrunk = Affine(
        (scale[0] * canvas.across, scale[1] * canvas.down),
        (offset[0] * canvas.across, offset[1] * canvas.down),
    )
    return SoftMap(heat.values, shrunk).render(canvas.size)


def _draw_boxes(
    pixels: UInt8[np.ndarray, "height width 3"], canvas: Canvas, boxes: Sequence[Outline]
) -> None:
    for outline in reversed(boxes):
        if not all(map(math.isfinite, outline.box)):
            continue
        if outline.style == "answer":
            frame(pixels, canvas, outline.box, first=True)
        else:
            _draw_lines(pixels, canvas, outline)


def _draw_lines(
    pixels: UInt8[np.ndarray, "height width 3"], canvas: Canvas, outline: Outline
) -> None:
    """A box of dashes (the truth), or a thin one."""
    line, growth = LINES[outline.style], _growth(canvas)
    thickness = round(line.width * growth)
    width, height = canvas.size
    left, top, right, bottom = outline.box
    # A box that touches the picture's edge is kept whole.
    x = [min(max(v * canvas.across, 1.0), width - 1.0) for v in (left, right)]
    y = [min(max(v * canvas.down, 1.0), height - 1.0) for v in (top, bottom)]
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    pieces = [
        piece
        for start, stop in zip(corners, [*corners[1:], corners[0]], strict=True)
        for piece in (_dashes(start, stop, _DASH * growth) if line.dashed else [(start, stop)])
    ]
    for colour, thick in ((CASING, thickness + 2), (line.colour, thickness)):
        for start, stop in pieces:
            ends = [(round((a - 0.5) * 16), round((b - 0.5) * 16)) for a, b in (start, stop)]
            cv2.line(pixels, ends[0], ends[1], colour, thick, cv2.LINE_AA, shift=4)


def _dashes(
    start: tuple[float, float], stop: tuple[float, float], dash: float
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """A side in dashes that begin and end at its corners."""
    length = math.dist(start, stop)
    if length <= dash:
        yield start, stop
        return
    count = max(1, round((length - dash) / (2 * dash)))
    step = (length - dash) / count
    for i in range(count + 1):
        a, b = step * i / length, (step * i + dash) / length
        yield _between(start, stop, a), _between(start, stop, b)


def _between(
    start: tuple[float, float], stop: tuple[float, float], share: float
) -> tuple[float, float]:
    return start[0] + (stop[0] - start[0]) * share, start[1] + (stop[1] - start[1]) * share


def _draw_label(
    image: Image.Image, canvas: Canvas, outline: Outline, plates: list[tuple[int, int, int, int]]
) -> None:
    """A box's label on a plate at one of its corners, off the `plates` that are there."""
    if not outline.label or not all(map(math.isfinite, outline.box)):
        return
    size = round(_LABEL * _growth(canvas))
    font = text.font_for(outline.label, size)
    words = text.wrap(outline.label, font, max(24, image.width - 10), most=1)[0]
    wide, tall = math.ceil(font.getlength(words)) + 8, size + 5
    x0, x1 = (round(outline.box[i] * canvas.across) for i in (0, 2))
    y0, y1 = (round(outline.box[i] * canvas.down) for i in (1, 3))
    corners = [
        (x, y) for y in (y0 - tall - 1, y1 + 2, y0 + 2, y1 - tall - 1) for x in (x0, x1 - wide)
    ]
    most_x, most_y = image.width - wide, image.height - tall
    free = (
        (x, y)
        for x, y in corners
        if 0 <= x <= most_x
        and 0 <= y <= most_y
        and all(x >= r or x2 >= x + wide or y >= b or y2 >= y + tall for x2, y2, r, b in plates)
    )
    crowded = min(max(0, x0), max(0, most_x)), min(max(0, y0 + 2), max(0, most_y))
    left, top = next(free, crowded)
    plates.append((left, top, left + wide, top + tall))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((left, top, left + wide - 1, top + tall - 1), 3, fill=CASING)
    pen.text(
        (left + 4, top + tall / 2), words, font=font, fill=LINES[outline.style].colour, anchor="lm"
    )


def data_uri(image: Image.Image) -> str:
    """The picture inside a URI, as JPEG of quality 85."""
    stream = io.BytesIO()
    # Colours at full resolution: thin coloured lines would bleed.
    image.save(stream, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
