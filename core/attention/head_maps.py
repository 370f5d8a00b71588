"""From captured attention rows to one map per head on the token grid (paper, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from vg_engine.core import geometry
from vg_engine.core.contract.inputs import Query
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.errors import PluginError
from vg_engine.core.geometry import View
from vg_engine.core.heads import Head

# A smaller hidden share of a picture comes from the processor's rounding: not worth a note.
_HIDDEN = 0.005


def head_maps(
    query: Query,
    heads: tuple[Head, ...],
    rows: Float32[torch.Tensor, "heads rows keys"],
    views: Sequence[View],
    size: tuple[int, int],
    unknown: Sequence[str] = (),
) -> HeadMaps:
    """Read the image entries of one query's rows: averaged over the rows, not renormalised.

    Args:
        query: the expression, and the number of rows that it reads.
        heads: the heads that `rows` belong to.
        rows: softmax rows over all keys, any device.
        views: the grids of the query's picture.
        size: (width, height) of the original picture.
        unknown: words that the tokenizer does not know.

    Returns:
        One map per head, all views fused into one grid; its S_img sums over all views.

    Raises:
        PluginError: a view points beyond the keys.
    """
    mean = rows.mean(dim=1, keepdim=True)
    one = replace(query, rows=query.rows[:1], tokens=())
    (maps,) = token_maps(one, heads, mean, views, size, unknown)
    return maps


def token_maps(
    query: Query,
    heads: tuple[Head, ...],
    rows: Float32[torch.Tensor, "heads rows keys"],
    views: Sequence[View],
    size: tuple[int, int],
    unknown: Sequence[str] = (),
) -> tuple[HeadMaps, ...]:
    """Read each row of a query separately: one `HeadMaps` per token. Arguments as in `head_maps`.

    Raises:
        PluginError: the query has another number of token texts than rows, or a view points beyond
            the keys.
    """
    if query.tokens and len(query.tokens) != rows.shape[1]:
        raise PluginError(f"{len(query.tokens)} token texts for {rows.shape[1]} rows of a query")
    keys = rows.shape[-1]
    positions = np.concatenate([view.positions.ravel() for view in views])
    if positions.max() >= keys:
        raise PluginError(
            f"a view points at key {positions.max()}, there are {keys} keys; "
            "the adapter's vg_locate_image_tokens has to be fixed"
        )
    index = torch.from_numpy(positions).to(rows.device)
    # Gather on the device first, so that only the picture's part is copied to the host.
    entries = rows.index_select(-1, index).cpu().numpy()
    notes = (*_visibility(views, size), *_unknown(unknown))
    return tuple(
        HeadMaps(
            expression=query.expression,
            heads=heads,
            maps=geometry.fuse(views, _parts(entries[:, row], views)),
            image_attention=entries[:, row].sum(axis=1, dtype=np.float64).astype(np.float32),
            notes=notes,
            token=query.tokens[row] if query.tokens else None,
            size=size,
        )
        for row in range(entries.shape[1])
    )


def _parts(
    entries: Float32[np.ndarray, "heads tokens"], views: Sequence[View]
) -> list[Float32[np.ndarray, "heads _rows _cols"]]:
    cuts = np.cumsum([view.positions.size for view in views])[:-1]
    return [
        part.reshape(-1, *view.shape)
        for part, view in zip(np.split(entries, cuts, axis=1), views, strict=True)
    ]


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
