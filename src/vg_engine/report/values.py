"""How values are written on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np

from vg_engine.core.evaluation.metrics import Estimate
from vg_engine.report.markup import Markup, escape, join, tag

_TINY, _LARGE = 5e-4, 1e4  # three decimals would show nothing, or too much


def value(thing: object) -> Markup:
    """Any value as it is written on a page.

    Estimates as `0.853 [0.826, 0.879]`, floats with three decimals, large whole numbers with
    commas, NaN and None as `n/a`, lists with commas, everything else as its text.

    >>> value(12345), value(0.5), value(True), value(["L14H24", "L14H13"])
    ('12,345', '0.500', 'yes', 'L14H24, L14H13')
    """
    if thing is None:
        return tag("span", "n/a", class_="interval")
    if isinstance(thing, Estimate):
        return _estimate(thing)
    if isinstance(thing, Real | np.bool_):
        return _number(thing)
    # Heads are tuples, too, with a text of their own.
    if type(thing) in (list, tuple) or isinstance(thing, np.ndarray | set | frozenset):
        return _listed(thing)
    return escape(thing)


def _estimate(thing: Estimate) -> Markup:
    if math.isnan(thing.value):
        return value(None)
    first, bracket, interval = str(thing).partition(" [")
    if not bracket:
        return escape(first)
    return join(first, " ", tag("span", f"[{interval}", class_="interval"))


def _number(thing: Real | np.bool_) -> Markup:
    if isinstance(thing, bool | np.bool_):
        return escape("yes" if thing else "no")
    if isinstance(thing, Integral):
        return escape(f"{int(thing):,}" if abs(int(thing)) >= _LARGE else str(int(thing)))
    number = float(thing)
    if math.isnan(number):
        return value(None)
    if number and abs(number) < _TINY:
        return escape(f"{number:.1e}")
    return escape(f"{number:,.3f}" if abs(number) < _LARGE else f"{number:,.1f}")


def _listed(thing: object) -> Markup:
    assert isinstance(thing, Iterable), "a list can be gone through"
    # Sets have no order of their own; a report has.
    parts = sorted(thing, key=str) if isinstance(thing, set | frozenset) else thing
    return join(*map(value, parts), by=", ")
