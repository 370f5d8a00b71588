"""Small pictures for a page: drawn at the size they are shown, so that lines stay crisp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from vg_engine.core.geometry import Box, SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.types import HeadMaps, Picture
from vg_engine.report.markup import Markup

Style = Literal["answer", "truth", "other"]


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


@dataclass(frozen=True, eq=False)
class Tile:
    """One head's map over the dimmed picture.

    Attributes:
        caption: the head's name.
        image: RGB.
    """

    caption: str
    image: Image.Image


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
        picture: what was grounded.
        heat: one map.
        boxes: the first lies on top.
        peak: (x, y) of a dot, original pixels.
        max_side: of what is drawn; small pictures are enlarged.

    Raises:
        InputError: `heat` holds several maps.
    """
    raise NotImplementedError


def head_tiles(
    picture: Picture,
    maps: HeadMaps,
    heads: Sequence[Head] | None = None,
    *,
    boxes: Sequence[Outline] = (),
    max_side: int = 160,
) -> tuple[Tile, ...]:
    """Per head its map over the dimmed picture.

    Args:
        picture: what was grounded.
        maps: of one query.
        heads: which, in this order; None takes all.
        boxes: drawn on every tile.
        max_side: the longer side of a tile, pixels.

    Raises:
        HeadsError: a head that `maps` does not hold.
    """
    raise NotImplementedError


def data_uri(image: Image.Image, kind: Literal["jpeg", "png"] = "jpeg") -> str:
    """The picture inside a URI: JPEG of quality 85 for photographs, PNG for maps."""
    raise NotImplementedError


def img(image: Image.Image, alt: str, kind: Literal["jpeg", "png"] = "jpeg") -> Markup:
    """The picture as an element of HTML, shown at its own size or smaller."""
    raise NotImplementedError


def key(*styles: Style, peak: bool = True) -> Markup:
    """What the lines on the pictures mean, for the reader; all styles by default."""
    raise NotImplementedError
