"""Position ids, which are always passed: by itself a model would count padding or keep state.

Models with three axes of positions (M-RoPE) compute them in `get_rope_index`; without passed
positions they keep the shift of the *previous* picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from jaxtyping import Int


def counted(mask: Int[torch.Tensor, "batch keys"]) -> Int[torch.Tensor, "batch keys"]:
    """Count 0, 1, 2, ... over the tokens that are not padding.

    >>> counted(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist()
    [[0, 0, 0, 1], [0, 1, 2, 2]]
    """
    return (mask.cumsum(-1) - 1).clamp(min=0)


def position_ids(base: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Compute the positions of a batch: by the model's own rule for three axes, else by counting.

    Args:
        base: the model without its output head.
        tensors: its inputs, on its device, with `attention_mask`.
    """
    rule = getattr(base, "get_rope_index", None)
    if rule is None:
        return counted(tensors["attention_mask"])
    known = inspect.signature(rule).parameters
    positions: torch.Tensor = rule(**{k: v for k, v in tensors.items() if k in known})[0]
    return positions
