"""The first lesson: the vision tower learns words, before and beside the language model.

A LVLM's tower comes from pictures with captions. Here the caption of each of the nine
places (`top left`, ...) is the set of words of the objects whose centre lies there. The
patch features of a place are averaged and one linear layer says which words apply. No
box, mask or point is ever shown: the supervision is a position word and attribute words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vg_engine.plugins.datasets.scene_drawing import COLOURS, SHAPES
from vg_engine.plugins.datasets.scenes import SIZES, Placed

WORDS: tuple[str, ...] = (*COLOURS, *SHAPES, *SIZES)
PLACES = 9


def word_targets(objects: Sequence[Placed], side: int) -> np.ndarray:
    """Mark the words that apply at each of the nine places: float32, (9, words)."""
    targets = np.zeros((PLACES, len(WORDS)), dtype=np.float32)
    for thing in objects:
        row = min(2, int(3 * (thing.top + thing.side / 2) / side))
        column = min(2, int(3 * (thing.left + thing.side / 2) / side))
        for word in (thing.colour, thing.shape, thing.size):
            targets[3 * row + column, WORDS.index(word)] = 1.0
    return targets


class PlaceWords(nn.Module):
    """Reads the words of the nine places from patch features; thrown away after training."""

    def __init__(self, grid: int, width: int):
        super().__init__()
        cells = (3 * (np.arange(grid) + 0.5) / grid).astype(int)
        place = (3 * cells[:, None] + cells[None, :]).reshape(-1)
        average = (place[None, :] == np.arange(PLACES)[:, None]).astype(np.float32)
        average /= average.sum(axis=1, keepdims=True)
        self.register_buffer("average", torch.from_numpy(average), persistent=False)
        self.words = nn.Linear(width, len(WORDS))
        nn.init.normal_(self.words.weight, std=width**-0.5)
        nn.init.zeros_(self.words.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, cells, width) to logits (B, 9, words), float32."""
        average = self.get_buffer("average").to(features.dtype)
        logits: torch.Tensor = self.words(torch.einsum("pc,bcd->bpd", average, features))
        return logits.float()


def words_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, one answer per place and word."""
    return functional.binary_cross_entropy_with_logits(logits, targets)


def words_right(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Share of right colours, shapes and sizes, at places that hold exactly one object."""
    ends = np.cumsum([0, len(COLOURS), len(SHAPES), len(SIZES)])
    parts = {
        k: slice(a, b) for k, a, b in zip(("colour", "shape", "size"), ends, ends[1:], strict=False)
    }
    alone = torch.stack([targets[..., part].sum(-1) == 1 for part in parts.values()]).all(0)
    return {
        name: float(
            (logits[..., part].argmax(-1) == targets[..., part].argmax(-1))[alone].float().mean()
        )
        for name, part in parts.items()
    }
