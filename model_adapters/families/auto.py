"""Any image-text-to-text model of transformers that shows a picture as one grid of tokens.

Nothing here knows a family. What is assumed and what was measured is reported at load; what does
not fit is refused. Rows are assumed to follow each other from the top: only the paint probe
(`vg-engine doctor MODEL --adapter auto`) can tell for certain.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from transformers.models.auto import processing_auto

from vg_engine.core.contract.inputs import AttentionRequest, Expression, PreparedInputs
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.errors import UnsupportedModelError
from vg_engine.core.geometry import Frame, View
from vg_engine.model_adapters.shared import loading, probe_geometry, processors
from vg_engine.model_adapters.shared.auto_layout import NEEDS, AutoLayout, settle, usable
from vg_engine.model_adapters.shared.grids import Grid, views_of
from vg_engine.model_adapters.shared.huggingface import HuggingFaceAdapter
from vg_engine.model_adapters.shared.loaded import parts_of


class AutoAdapter(HuggingFaceAdapter):
    """Chosen by name alone; the options `geometry`, `rows` and `cols` replace what it finds."""

    name: ClassVar[str] = "auto"
    layout: ClassVar[str] = "one grid, square or declared; geometry measured, or refused"
    option_names: ClassVar[tuple[str, ...]] = ("geometry", "rows", "cols", "padding_side")

    def load_processor(self, spec: ModelSpec) -> Any:
        """Of the class that transformers has for the config's model type."""
        kind = loading.read_config(spec).model_type
        name = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"].get(kind)
        if name is None:
            raise UnsupportedModelError(f"no processor for models of type {kind!r}; {NEEDS}")
        return processors.load_processor(spec, getattr(transformers, name))

    def image_token_id(self, module: Any, processor: Any) -> int:
        """The config's alone: a token that the processor names may be something else."""
        del processor
        if getattr(module.config, "image_token_id", None) is None:
            raise UnsupportedModelError(
                f"{type(module).__name__} states no image_token_id; {NEEDS}"
            )
        return int(module.config.image_token_id)

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Load, measure where pixels go, read one row of one picture, and say what was assumed."""
        model = super().vg_load_model(spec)
        with usable(model):
            inputs = self._prepared(model, Picture(np.full((240, 320, 3), 128, np.uint8), "grey"))
            tokens = len(self.image_positions(model, inputs, 0))
            auto = settle(partial(self._pixels, model), inputs, tokens, parts_of(model).options)
            model = replace(model, context=MappingProxyType({**model.context, self.name: auto}))
            (view,) = self.vg_locate_image_tokens(model, inputs)[0]
            # A pass through the tower and one layer: whether the model takes what was prepared.
            self.vg_extract_attention(model, inputs, AttentionRequest(model.all_heads[:1]))
        rows, cols = view.shape
        unproved = f"no contract was run (vg-engine doctor {model.name} --adapter auto does)"
        prompts = (
            "auto: the bare prompt is Vicuna's, without the marks that a family may put around "
            "its pictures; the chat form is the model's own."
        )
        statements = (
            f"auto: a picture is {probe_geometry.WORDS[auto.geometry]} ({auto.how}).",
            f"auto: {rows} x {cols} tokens are read row by row from the top; {unproved}.",
            prompts,
        )
        return replace(model, statements=(*model.statements, *statements))

    def _prepared(self, model: LoadedModel, picture: Picture) -> PreparedInputs:
        return self.vg_prepare_inputs(model, [Scene(picture)], [Expression(0, "it")], Prompt())

    def _pixels(self, model: LoadedModel, picture: Picture) -> torch.Tensor:
        """As the model gets them: a processor may do otherwise than its image processor."""
        pixels: torch.Tensor | None = self._prepared(model, picture).tensors.get("pixel_values")
        if pixels is None:
            raise UnsupportedModelError(f"{model.name}: its pixels have another name; {NEEDS}")
        return pixels

    def vg_locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> list[list[View]]:
        """One grid per picture, whose shape follows from the number of its tokens."""
        located = []
        auto: AutoLayout = model.context[self.name]
        for query in inputs.queries:
            size = inputs.sizes[query.scene]
            where = self.image_positions(model, inputs, query.sequence)
            rows, cols = auto.shape(model.name, inputs, query.sequence, len(where))
            auto.check(partial(self._pixels, model), size)
            # A canvas of the grid's proportions.
            layout = probe_geometry.GEOMETRIES[auto.geometry]
            canvas = layout(Frame.of(*size), 64.0 * cols, 64.0 * rows)
            located.append(views_of([Grid(canvas, rows, cols)], where, model=model.name))
        return located
