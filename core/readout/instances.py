"""From captured rows to maps, and from maps to an answer in original pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from vg_engine.core import geometry
from vg_engine.core.attention import maps
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.errors import HeadsError, InputError, PluginError
from vg_engine.core.geometry import SoftMap, View
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import GridRegion, Region

# Less than this of a picture hidden is a processor's rounding, not worth a note.
_HIDDEN = 0.005


def head_maps(
    expression: str,
    heads: tuple[Head, ...],
    rows: Float32[torch.Tensor, "heads rows keys"],
    views: Sequence[View],
    size: tuple[int, int],
    unknown: Sequence[str] = (),
) -> HeadMaps:
    """Read the image entries of one query's rows (paper, section 3; not renormalised).

    Several rows (`expression_all`) are averaged. S_img sums over all views.

    Args:
        rows: softmax rows over all keys, any device.
        views: the query's picture.
        size: (width, height) of the original.
        unknown: words that the tokenizer does not know.

    Raises:
        PluginError: a view points beyond the keys.
    """
    keys = rows.shape[-1]
    positions = np.concatenate([view.positions.ravel() for view in views])
    if positions.max() >= keys:
        raise PluginError(
            f"a view points at key {positions.max()}, there are {keys} keys; "
            "the adapter's vg_locate_image_tokens has to be fixed"
        )
    index = torch.from_numpy(positions).to(rows.device)
    # Gather on the device first: what is copied to the host is the picture's part alone.
    entries = rows.mean(dim=1).index_select(-1, index).cpu().numpy()
    parts, start = [], 0
    for view in views:
        rows_, cols = view.shape
        parts.append(entries[:, start : start + rows_ * cols].reshape(-1, rows_, cols))
        start += rows_ * cols
    return HeadMaps(
        expression=expression,
        heads=heads,
        maps=geometry.fuse(views, parts),
        image_attention=entries.sum(axis=1, dtype=np.float64).astype(np.float32),
        notes=(*_visibility(views, size), *_unknown(unknown)),
    )


def pick(observed: HeadMaps, heads: Sequence[Head]) -> HeadMaps:
    """The maps of some of the heads, in the given order.

    Raises:
        HeadsError: a head whose map was not taken.
    """
    lacking = [str(head) for head in heads if head not in observed.heads]
    if lacking:
        raise HeadsError(f"no map of {', '.join(lacking)} was taken; ask for maps of these heads")
    where = [observed.heads.index(head) for head in heads]
    return HeadMaps(
        expression=observed.expression,
        heads=tuple(heads),
        maps=observed.maps.with_values(observed.maps.values[where]),
        image_attention=observed.image_attention[where],
        notes=observed.notes,
    )


def locate(
    observed: HeadMaps,
    size: tuple[int, int],
    region: Region,
    *,
    sigma: float,
    kernel: int,
    notes: Sequence[str] = (),
    timings: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Grounding:
    """Combine the heads' maps and read the answer (paper, section 3: smooth each, sum, region).

    The region is read on the cells that show the picture: padding is no place for an answer.

    Args:
        observed: the maps of the heads to combine.
        size: (width, height) of the original.
        region: how a combined map becomes a region of the grid.
        sigma, kernel: of the Gaussian, in cells.
    """
    combined = observed.maps.with_values(maps.combine(observed.maps.values, sigma, kernel))
    seen = combined.inside(size)
    found = region(np.ascontiguousarray(seen.values))
    return Grounding(
        expression=observed.expression,
        size=size,
        boxes=np.array([_box(found, seen, size)]),
        masks=(_mask(found, seen, size),),
        soft_map=seen,
        point=geometry.clip_point(seen.to_original.point(*found.peak), size),
        score=float(np.clip(found.score, 0.0, 1.0)),
        found=True,
        heads=observed.heads,
        notes=(*observed.notes, *notes),
        timings=timings or {},
        provenance=provenance or {},
    )


def _box(found: GridRegion, seen: SoftMap, size: tuple[int, int]) -> geometry.Box:
    try:
        return geometry.clip_box(seen.to_original.box(found.box), size)
    except InputError:
        # A region finer than a cell can lie in the padded part of a cell on the picture's edge.
        return geometry.cell_box(
            seen, geometry.clip_point(seen.to_original.point(*found.peak), size), size
        )


def _mask(found: GridRegion, seen: SoftMap, size: tuple[int, int]) -> np.ndarray:
    mask = geometry.mask_to_original(found.mask, seen.shape, seen.to_original, size)
    if not mask.any():
        # Thinner than a pixel: the answer is at least the pixel at the peak.
        x, y = geometry.clip_point(seen.to_original.point(*found.peak), size)
        mask[int(y), int(x)] = True
    return mask


def _visibility(views: Sequence[View], size: tuple[int, int]) -> tuple[str, ...]:
    hidden = geometry.hidden_share(views, size)
    if hidden < _HIDDEN:
        return ()
    seen = 100 * (1 - hidden)
    share = f"{seen:.0f}" if seen >= 1 else "less than 1"
    return (f"its image tokens cover only {share} % of the picture; nothing is found outside",)


def _unknown(words: Sequence[str]) -> tuple[str, ...]:
    if not words:
        return ()
    return (f"the model's tokenizer does not know: {', '.join(words)}",)
