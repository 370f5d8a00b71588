"""Truncated twins: models that end after the last needed layer.

A twin is a shallow copy of the modules on the path to the decoder layers, with `layers[:depth]`.
It shares every parameter and every layer with the original, which is not changed. Unlike an
exception that aborts the forward pass, a twin can be compiled.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from vg_engine.core.errors import UnsupportedModelError


def path_to(base: torch.nn.Module, layers: torch.nn.ModuleList) -> str:
    """Find the dotted name of `layers` inside `base`.

    Raises:
        UnsupportedModelError: `base` does not contain them.
    """
    for name, module in base.named_modules():
        if module is layers:
            return str(name)
    raise UnsupportedModelError(f"{type(base).__name__} does not hold its decoder's layers")


def truncated(base: torch.nn.Module, path: str, depth: int) -> torch.nn.Module:
    """Make a twin of `base` whose module list at `path` ends after `depth` layers."""
    name, _, rest = path.partition(".")
    twin = copy.copy(base)
    children = dict(vars(base)["_modules"])
    child = children[name]
    children[name] = (
        truncated(child, rest, depth) if rest else torch.nn.ModuleList(list(child)[:depth])
    )
    # A shallow copy shares the table of children; the twin gets its own, the original keeps its.
    vars(twin)["_modules"] = children
    return twin


def can_truncate(base: torch.nn.Module, path: str) -> bool:
    """Check that a twin would run its own layers.

    Offloading hooks replace `forward` on the object itself, bound to the *original* module.
    """
    module = base
    for name in path.split("."):
        if "forward" in vars(module):
            return False
        module = module.get_submodule(name)
    return True


@dataclass(frozen=True, eq=False)
class Twins:
    """Twins of one loaded model by depth, made for each pass: its owner may change its parts.

    Attributes:
        base: the model without its output head.
        path: dotted name of the decoder layers inside `base`.
        depth: number of decoder layers of the model.
    """

    base: torch.nn.Module
    path: str
    depth: int

    def at(self, depth: int) -> torch.nn.Module:
        """Return the model that ends after `depth` layers; at full depth the model itself."""
        if not 1 <= depth <= self.depth:
            raise UnsupportedModelError(f"depth {depth} of a model of {self.depth} layers")
        return self.base if depth == self.depth else truncated(self.base, self.path, depth)
