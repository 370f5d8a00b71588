"""The spatial entropy of a list of lists, in exact arithmetic: for tests of whatever uses it.

It knows nothing of numpy or of the code. Every float32 is a whole number of 2^-149, so sums and
means are whole numbers and fractions without rounding; only the logarithms are floats.
"""

import math
from fractions import Fraction

Cell = tuple[int, int]


def whole(value: float, places: int = 149) -> int:
    """A number of so many binary places as a whole number of its last place's units, exactly."""
    above, below = value.as_integer_ratio()
    assert (1 << places) % below == 0
    return above * ((1 << places) // below)


def components(above: set[Cell], connectivity: int) -> list[list[Cell]]:
    """Flood fill."""
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if connectivity == 8 or 0 in (r, c)]
    left, found = set(above), []
    while left:
        border = [left.pop()]
        component = []
        while border:
            row, col = border.pop()
            component.append((row, col))
            near = {(row + down, col + right) for down, right in steps} & left
            left -= near
            border += near
        found.append(component)
    return found


def entropy(
    grid: list[list[float]], *, cut: float = 1.0, connectivity: int = 8, weighting: str = "area"
) -> float:
    """-sum P ln P over the components above the map's own mean."""
    units = {(r, c): whole(value) for r, line in enumerate(grid) for c, value in enumerate(line)}
    level = Fraction(cut) * Fraction(sum(units.values()), len(units))
    found = components({cell for cell, value in units.items() if value > level}, connectivity)
    if len(found) < 2:
        return 0.0 if found else math.inf
    sizes = [sum(units[cell] if weighting == "mass" else 1 for cell in part) for part in found]
    shares = [float(Fraction(size, sum(sizes))) for size in sizes]
    return -math.fsum(share * math.log(share) for share in shares)
