"""Colours of values: from dark violet over green to yellow, even steps for every kind of eye."""

from __future__ import annotations

from typing import Final

import numpy as np

# Nine anchors of viridis, whose lightness grows evenly; between them colours are mixed.
_VIRIDIS = "440154 472c7a 3b518b 2c718e 21908d 27ad81 5cc863 aadc32 fde725"
_ANCHORS: Final = [tuple(bytes.fromhex(colour)) for colour in _VIRIDIS.split()]
_LIGHT: Final = 0.55  # from here on dark words stand out better than light ones


def colour_at(share: float) -> str:
    """The colour of a share of the scale; beyond 0 and 1, the colour of the end.

    >>> colour_at(0.0), colour_at(1.0)
    ('#440154', '#fde725')
    """
    place, places = share * (len(_ANCHORS) - 1), range(len(_ANCHORS))
    channels = zip(*_ANCHORS, strict=True)
    return f"#{bytes(round(np.interp(place, places, channel)) for channel in channels).hex()}"


def is_light(share: float) -> bool:
    """Tell whether dark words are legible on the colour of a share."""
    return share > _LIGHT
