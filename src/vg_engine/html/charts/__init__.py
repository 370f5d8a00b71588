"""Charts: pure functions from numbers to SVG. The same numbers make the same text, byte for byte.

Charts take their colours from the page (light, dark, print). Values that are not finite are left
out; a chart without any value is drawn as `no data`.
"""

from __future__ import annotations

from vg_engine.html.charts.bars import ForestRow, bars, forest
from vg_engine.html.charts.curves import Mark, Series, elbow, line
from vg_engine.html.charts.grids import heat_map, stability
from vg_engine.html.charts.points import scatter

__all__ = [
    "ForestRow",
    "Mark",
    "Series",
    "bars",
    "elbow",
    "forest",
    "heat_map",
    "line",
    "scatter",
    "stability",
]
