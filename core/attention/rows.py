"""Masked attention rows: only the wanted rows of the wanted heads, in float32.

A row is `softmax(q k^T * scale + mask)` of one query over *all* keys (paper, section 3); it is
never renormalised over the picture. Pure functions of torch tensors, for any model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from vg_engine.core.errors import CaptureError, HeadsError

# Key elements gathered at a time: 64 MiB of float32, whatever the model and the batch.
CHUNK = 1 << 24


def attention_rows(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    rows: Int64[Tensor, "batch rows"],
    *,
    heads: Sequence[int],
    scale: float,
    mask: Shaped[Tensor, "#batch #heads queries _mask_keys"] | None = None,
    causal: bool = True,
    offset: int = 0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    position_bias: Float[Tensor, "#batch #heads queries _bias_keys"] | None = None,
) -> Float32[Tensor, "batch wanted rows keys"]:
    """Compute the wanted rows of the wanted heads, in the order of `heads`.

    Args:
        query: after rotary embedding and norms, as the model's attention takes it.
        key: may have fewer heads: head h reads key head h // (heads / kv_heads).
        rows: positions on the query axis per sample; padding counts.
        heads: the wanted heads.
        scale: factor of the dot products.
        mask: boolean (True = visible) or additive; its keys beyond those of `key` are ignored.
        causal: with `mask` None, row i sees the keys up to i + offset.
        offset: number of keys that stand before the first query.
        softcap: logits become softcap * tanh(logits / softcap), before the mask.
        sinks: a logit per head that takes part in the softmax and is then dropped.
        position_bias: added to the logits, before the mask.

    Returns:
        Attention over all keys; each row sums to 1, less what `sinks` take.

    Raises:
        HeadsError: the query lacks a wanted head.
        CaptureError: the query lacks a wanted row, or its heads cannot share the keys evenly.
    """
    total, groups = query.shape[1], query.shape[1] // key.shape[1]
    if groups * key.shape[1] != total:
        raise CaptureError(f"{total} query heads cannot share {key.shape[1]} key heads evenly")
    if not all(0 <= head < total for head in heads):
        raise HeadsError(f"heads {list(heads)} of a layer that has heads 0 to {total - 1}")
    device = query.device
    rows = rows.to(device)
    sample = torch.arange(len(rows), device=device)[:, None, None]
    parts = []
    # The caller's autocast region would silently turn the float32 product into bfloat16.
    with torch.autocast(device_type=device.type, enabled=False):
        for some in _chunks(heads, key):
            head = torch.tensor(some, device=device)
            at = (sample, head[None, :, None], rows[:, None, :])
            wanted = query[at].float()
            keys = key[:, head // groups].float()
            logits = wanted @ keys.transpose(-1, -2) * scale
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            if position_bias is not None:
                logits = logits + _pick(position_bias, at, key.shape[2]).float()
            logits = _masked(logits, mask, at, rows + offset if causal else None)
            parts.append(_softmax(logits, None if sinks is None else sinks[head]))
    return torch.cat(parts, dim=1)


def _chunks(heads: Sequence[int], key: Tensor) -> Iterator[list[int]]:
    """Split the wanted heads so that the keys gathered for one part stay below CHUNK elements."""
    each = max(1, CHUNK // max(1, key.shape[0] * key.shape[2] * key.shape[3]))
    for first in range(0, len(heads), each):
        yield list(heads[first : first + each])


def _pick(
    table: Shaped[Tensor, "#batch #heads queries table_keys"],
    at: tuple[Tensor, Tensor, Tensor],
    keys: int,
) -> Shaped[Tensor, "batch wanted rows keys"]:
    """Pick the same rows of a mask or bias, whose batch and head axes may have length 1."""
    sample, head, row = at
    if table.shape[3] < keys:
        raise CaptureError(f"a mask over {table.shape[3]} keys for an attention over {keys}")
    shared = [
        torch.zeros_like(index) if size == 1 else index
        for index, size in zip((sample, head), table.shape[:2], strict=True)
    ]
    return table[shared[0], shared[1], row, :keys]


def _masked(
    logits: Float32[Tensor, "batch wanted rows keys"],
    mask: Tensor | None,
    at: tuple[Tensor, Tensor, Tensor],
    last_seen: Tensor | None,
) -> Float32[Tensor, "batch wanted rows keys"]:
    # The lowest finite number, as in eager attention, keeps a row without any key finite.
    lowest = torch.finfo(torch.float32).min
    if mask is not None:
        picked = _pick(mask, at, logits.shape[3])
        if picked.dtype == torch.bool:
            return logits.masked_fill(~picked, lowest)
        # A half-precision mask holds the lowest number of its own type, far above float32's.
        floor = torch.finfo(picked.dtype).min
        return (logits + picked.float()).masked_fill(picked <= floor, lowest)
    if last_seen is not None:
        keys = torch.arange(logits.shape[3], device=logits.device)
        return logits.masked_fill(keys > last_seen[:, None, :, None], lowest)
    return logits


def _softmax(
    logits: Float32[Tensor, "batch wanted rows keys"], sinks: Tensor | None
) -> Float32[Tensor, "batch wanted rows keys"]:
    if sinks is None:
        return torch.softmax(logits, dim=-1)
    column = sinks.float()[None, :, None, None].expand(*logits.shape[:3], 1)
    return torch.softmax(torch.cat((logits, column), dim=-1), dim=-1)[..., :-1]
