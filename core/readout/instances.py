"""Read-out: the only place where combined maps become instances in original pixels.

The paper smooths each head's map, sums them and reads a region (section 3). The region is read on
the cells that show the picture; cells that show padding are left out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from vg_engine.core import geometry
from vg_engine.core.attention import maps
from vg_engine.core.contract.results import HeadMaps, Instance
from vg_engine.core.errors import InputError
from vg_engine.core.geometry import SoftMap
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import GridRegion, Region


@dataclass(frozen=True)
class ReadOut:
    """The settings of the read-out; the defaults are the paper's.

    Attributes:
        region: the function that turns a combined map into a region of the grid. If it has keyword
            parameters `sigma` or `kernel`, it gets the values below, unless they were bound before.
        sigma, kernel: standard deviation and window of the Gaussian that smooths each head's map,
            in cells.
    """

    region: Region
    sigma: float = 1.0
    kernel: int = 7

    def __post_init__(self) -> None:
        # A kernel of one cell smooths nothing, whatever its sigma.
        sigma = self.sigma if self.kernel > 1 else 0.0
        bound = _with_smoothing(self.region, sigma, self.kernel)
        object.__setattr__(self, "region", bound)

    def combined(self, observed: HeadMaps, size: tuple[int, int]) -> SoftMap:
        """Smooth and sum all maps of a query, and keep the part that shows the picture.

        Args:
            observed: the maps of the heads to combine.
            size: (width, height) of the original picture.
        """
        values = maps.combine(observed.maps.values, self.sigma, self.kernel)
        return observed.maps.with_values(values).inside(size)

    def instances(
        self, combined: SoftMap, size: tuple[int, int], *, masks: bool = True
    ) -> tuple[Instance, ...]:
        """Read the objects that one combined map shows, best first.

        Args:
            combined: as `combined` returns it.
            size: (width, height) of the original picture.
            masks: paint masks as well; metrics of boxes do not need them.
        """
        return (_instance(combined, self.region, size, masks=masks),)

    def each(
        self,
        observed: HeadMaps,
        groups: Sequence[Sequence[Head]],
        size: tuple[int, int],
        *,
        masks: bool = True,
    ) -> tuple[tuple[Instance, ...], ...]:
        """Read the instances of each group of heads, smoothing all sums at once.

        Equal, apart from rounding, to combining each group by itself.

        Args:
            observed: maps of all heads that any group names.
            groups: heads to combine; a group may be a single head.
            size: (width, height) of the original picture.
            masks: as in `instances`.
        """
        if not groups:
            return ()
        place = {head: index for index, head in enumerate(observed.heads)}
        values = observed.maps.values
        sums = [
            values[[place[head] for head in group]].sum(axis=0, dtype=np.float64)
            for group in groups
        ]
        smooth = maps.smooth(np.stack(sums).astype(np.float32), self.sigma, self.kernel)
        seen = observed.maps.with_values(smooth).inside(size)
        return tuple(
            self.instances(seen.with_values(one), size, masks=masks) for one in seen.values
        )


def _instance(seen: SoftMap, region: Region, size: tuple[int, int], *, masks: bool) -> Instance:
    found = region(np.ascontiguousarray(seen.values))
    point = geometry.clip_point(seen.to_original.point(*found.peak), size)
    try:
        box = geometry.clip_box(seen.to_original.box(found.box), size)
    except InputError:
        # A region finer than a cell can lie in the padded part of a cell at the picture's edge.
        box = geometry.cell_box(seen, point, size)
    return Instance(
        box=box,
        score=float(np.clip(found.score, 0.0, 1.0)),
        point=point,
        mask=_mask(found, seen, point, size) if masks else None,
    )


def _mask(
    found: GridRegion, seen: SoftMap, point: tuple[float, float], size: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    mask = geometry.mask_to_original(found.mask, seen.shape, seen.to_original, size)
    if not mask.any():
        # The region is thinner than a pixel: answer with the pixel at the peak.
        mask[int(point[1]), int(point[0])] = True
    mask.setflags(write=False)
    return mask


def _with_smoothing(region: Region, sigma: float, kernel: int) -> Region:
    """Bind the smoothing's sigma and kernel to a region that takes them, unless its user did."""
    try:
        known = inspect.signature(region).parameters
    except (TypeError, ValueError):  # made without a signature
        return region
    stated = getattr(region, "keywords", {})
    more = {
        name: value
        for name, value in (("sigma", sigma), ("kernel", kernel))
        if name not in stated
        and name in known
        and known[name].kind is inspect.Parameter.KEYWORD_ONLY
    }
    return functools.partial(region, **more) if more else region
