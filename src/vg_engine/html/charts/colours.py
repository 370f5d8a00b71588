"""Colours of values: from dark violet over green to yellow, even steps for every kind of eye."""

from __future__ import annotations

from typing import Final

# Nine anchors of viridis, whose lightness grows evenly; between them colours are mixed.
_ANCHORS: Final = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)
_LIGHT: Final = 0.55  # from here on dark words stand out better than light ones


def colour_at(share: float) -> str:
    """The colour of a share of the scale; beyond 0 and 1, the colour of the end.

    >>> colour_at(0.0), colour_at(1.0)
    ('#440154', '#fde725')
    """
    place = min(max(share, 0.0), 1.0) * (len(_ANCHORS) - 1)
    first = min(int(place), len(_ANCHORS) - 2)
    part = place - first
    mixed = (
        round(a + (b - a) * part) for a, b in zip(_ANCHORS[first], _ANCHORS[first + 1], strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def is_light(share: float) -> bool:
    """Tell whether dark words are legible on the colour of a share."""
    return share > _LIGHT
