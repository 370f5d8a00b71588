"""Position ids, always handed over: a model left to itself would count padding, or keep state.

Models with three axes of positions (M-RoPE) compute them in `get_rope_index`; left alone they
remember the shift of the *previous* picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from jaxtyping import Int


def counted(mask: Int[torch.Tensor, "batch keys"]) -> Int[torch.Tensor, "batch keys"]:
    """0, 1, 2, ... over what is not padding.

    >>> counted(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist()
    [[0, 0, 0, 1], [0, 1, 2, 2]]
    """
    return (mask.cumsum(-1) - 1).clamp(min=0)


def position_ids(base: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Positions of a batch: the model's own rule where it has three axes, else counted.

    Args:
        base: the model without its output head.
        tensors: what goes into it, on its device, with `attention_mask`.
    """
    rule = getattr(base, "get_rope_index", None)
    if rule is None:
        return counted(tensors["attention_mask"])
    known = inspect.signature(rule).parameters
    positions: torch.Tensor = rule(**{k: v for k, v in tensors.items() if k in known})[0]
    return positions
