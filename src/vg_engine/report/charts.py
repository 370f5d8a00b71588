"""Charts: pure functions from numbers to SVG. The same numbers make the same text, byte for byte.

Charts take their colours from the page (light, dark, print). Values that are not finite are left
out; where nothing is left, the chart says `no data`.
"""

from __future__ import annotations

from vg_engine.report.curves import Mark, Series, line
from vg_engine.report.grids import heat, stability
from vg_engine.report.points import elbow, scatter, spark
from vg_engine.report.rows import Row, bars, dots_with_intervals

__all__ = [
    "Mark",
    "Row",
    "Series",
    "bars",
    "dots_with_intervals",
    "elbow",
    "heat",
    "line",
    "scatter",
    "spark",
    "stability",
]
