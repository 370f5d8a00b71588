"""An adapter with a loaded model, as the checks of the kit see it: through the hooks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.inputs import AttentionRequest, Expression, PreparedInputs
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.geometry import View
from vg_engine.plugins.manager import make_hooks

Size = tuple[int, int]


class ContractError(AssertionError):
    """An adapter breaks the contract; the message says what and where."""


@dataclass(frozen=True, eq=False)
class Harness:
    """One adapter, one model.

    Attributes:
        hooks: the adapter's hooks, every answer checked.
        model: what `vg_load_model` returned.
    """

    hooks: Hooks
    model: LoadedModel

    @property
    def adapter(self) -> Any:
        """The adapter itself, for what it knows beyond its hooks."""
        return self.hooks.manager.get_plugin(self.hooks.adapter)

    @property
    def decoder(self) -> Any:
        """The part whose heads are read, with `.layers`: as the adapter knows it.

        Raises:
            ContractError: neither the adapter nor the model names it.
        """
        module: Any = self.model.module
        known = getattr(self.adapter, "language_model", None)
        try:
            found = known(module) if known else module.get_decoder()
        except AttributeError:
            found = None
        if not hasattr(found, "layers"):
            raise ContractError(f"no language model was found in {type(module).__name__}")
        return found

    @property
    def tower(self) -> torch.nn.Module | None:
        """The part in which a picture's patches mix, if the adapter knows it."""
        known = getattr(self.adapter, "vision_tower", None)
        try:
            found = known(self.model.module) if known else None
        except AttributeError:
            found = None
        return found if isinstance(found, torch.nn.Module) else None

    def given(self, inputs: PreparedInputs) -> PreparedInputs:
        """Inputs of the model itself: as the adapter changes them, else as prepared."""
        known = getattr(self.adapter, "given", None)
        found: PreparedInputs = known(self.model, inputs) if known else inputs
        return found

    def prepare(
        self,
        pictures: Sequence[Picture],
        expressions: Sequence[Expression],
        prompt: Prompt | None = None,
    ) -> PreparedInputs:
        """`vg_prepare_inputs`."""
        scenes = [Scene(picture) for picture in pictures]
        return self.hooks.prepare_inputs(self.model, scenes, expressions, prompt or Prompt())

    def views(self, inputs: PreparedInputs) -> tuple[tuple[View, ...], ...]:
        """`vg_locate_image_tokens`."""
        return self.hooks.locate_image_tokens(self.model, inputs)

    def rows(
        self, inputs: PreparedInputs, request: AttentionRequest | None = None
    ) -> tuple[torch.Tensor, ...]:
        """`vg_extract_attention`: per query heads x rows x keys; every head unless asked."""
        request = request or AttentionRequest(self.model.all_heads)
        return self.hooks.extract_attention(self.model, inputs, request).rows


def open_adapter(
    adapter: Any,
    source: str,
    *,
    options: Mapping[str, Any] | None = None,
    module: torch.nn.Module | None = None,
    processor: Any = None,
) -> Harness:
    """Register an adapter (an instance) and load a model with it, in float32 on the CPU.

    A `module` in memory is taken as it is.
    """
    hooks = make_hooks(getattr(adapter, "name", type(adapter).__name__), adapter)
    spec = ModelSpec(
        source,
        device="auto" if module is not None else "cpu",
        dtype="auto" if module is not None else "float32",
        options=options or {},
        module=module,
        processor=processor,
    )
    return Harness(hooks, hooks.load_model(spec))


def noise(size: Size, seed: int = 0) -> Picture:
    """A picture of `size` = (width, height) in which no two patches are alike."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(60, 190, (height, width, 3), dtype=np.uint8)
    return Picture(pixels, source=f"noise of {width} x {height}")


def image_positions(views: Sequence[View]) -> Int64[np.ndarray, " tokens"]:
    """Every key position of a query's views, view by view."""
    return np.concatenate([view.positions.ravel() for view in views])


def padding(inputs: PreparedInputs, sequence: int, keys: int) -> Bool[torch.Tensor, " keys"]:
    """Mark the keys of a sequence that are padding, by the adapter's attention mask.

    Args:
        inputs: with an `attention_mask` of two dimensions, or of four (batch x 1 x rows x keys).
        sequence: index in the batch.
        keys: length of the key axis; where it is not the text's (cross-attention), none is.
    """
    mask = inputs.tensors.get("attention_mask")
    if mask is None:
        raise ContractError(
            "the prepared tensors hold no attention_mask, so padding would take part"
        )
    seen = mask[sequence]
    if seen.ndim > 1:
        # An explicit mask: true or 0.0 where a row sees a key.
        seen = (seen if seen.dtype == torch.bool else seen == 0).flatten(0, -2).any(0)
    if seen.shape[-1] != keys:
        return torch.zeros(keys, dtype=torch.bool)
    pads: torch.Tensor = seen == 0
    return pads
