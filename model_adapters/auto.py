"""Any image-text-to-text model of transformers that shows a picture as one grid of tokens.

Nothing here knows a family. What is assumed and what was measured is said at load; what does not
fit is refused. Rows are assumed to follow each other from the top: only the paint probe
(`vg-engine doctor MODEL --adapter auto`) can tell for certain.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import transformers
from transformers.models.auto import processing_auto

from vg_engine.core.errors import InputError, TokenCountError, UnsupportedModelError, nearest
from vg_engine.core.geometry import Frame, View
from vg_engine.core.types import Expression, LoadedModel, ModelSpec, Picture, PreparedInputs, Prompt
from vg_engine.model_adapters import loading, measured
from vg_engine.model_adapters.grids import Grid, views_of
from vg_engine.model_adapters.holding import held
from vg_engine.model_adapters.huggingface import HuggingFaceAdapter

_NEEDS = (
    "auto needs an image-text-to-text model of transformers whose config has an image_token_id, "
    "and whose picture is one grid of tokens"
)


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
            raise UnsupportedModelError(f"no processor for models of type {kind!r}; {_NEEDS}")
        return loading.load_processor(spec, getattr(transformers, name))

    def image_token_id(self, module: Any, processor: Any) -> int:
        """The config's alone: a token that the processor names may be something else."""
        del processor
        if getattr(module.config, "image_token_id", None) is None:
            raise UnsupportedModelError(
                f"{type(module).__name__} states no image_token_id; {_NEEDS}"
            )
        return int(module.config.image_token_id)

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Load, measure where pixels go, look at one picture, and say what was assumed."""
        model = super().vg_load_model(spec)
        try:
            geometry, how = self._geometry(model)
            model = replace(model, context=MappingProxyType({**model.context, self.name: geometry}))
            picture = Picture(np.full((240, 320, 3), 128, np.uint8), "a grey picture")
            inputs = self.vg_prepare_inputs(model, [picture], [Expression(0, "it")], Prompt())
            rows, cols = self.vg_locate_image_tokens(model, inputs)[0][0].shape
        except Exception:
            model.close()
            raise
        unproved = f"no contract was run (vg-engine doctor {model.name} --adapter auto does)"
        said = (
            f"auto: a picture is {measured.WORDS[geometry]} ({how}).",
            f"auto: {rows} x {cols} tokens are read row by row from the top; {unproved}.",
        )
        return replace(model, statements=(*model.statements, *said))

    def _geometry(self, model: LoadedModel) -> tuple[str, str]:
        """One of `measured.GEOMETRIES`, and how it is known."""
        asked = held(model).options.get("geometry")
        if asked is not None and asked not in measured.GEOMETRIES:
            raise InputError(f"geometry {asked!r}; {nearest(str(asked), measured.GEOMETRIES)}")
        if asked is not None:
            return str(asked), "as told"
        found = measured.geometry_of(model.processor.image_processor)
        return (found, "measured") if found else ("squash", "assumed: its pixels come as patches")

    def vg_locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> list[list[View]]:
        """One grid per picture, whose shape follows from the number of its tokens."""
        located = []
        for query in inputs.queries:
            where = self.image_positions(model, inputs, query.sequence)
            shape = self._shape(model, inputs, query.sequence, len(where))
            frame = Frame.of(*inputs.images[query.image])
            size = (64.0 * shape[1], 64.0 * shape[0])  # a canvas of its proportions
            canvas = measured.GEOMETRIES[model.context[self.name]](frame, *size)
            located.append(views_of([Grid(canvas, *shape)], where, model=model.name))
        return located

    def _shape(
        self, model: LoadedModel, inputs: PreparedInputs, sequence: int, tokens: int
    ) -> tuple[int, int]:
        """Rows and columns: as told, as the processor states them, or of a square."""
        rows, cols = (held(model).options.get(name) for name in ("rows", "cols"))
        if isinstance(rows, int) and isinstance(cols, int):
            return rows, cols
        stated = inputs.tensors.get("image_grid_thw")
        if stated is not None:
            _, height, width = (int(value) for value in stated[sequence])
            merge = math.sqrt(height * width / tokens) if tokens else 0
            if merge and merge == int(merge):
                return height // int(merge), width // int(merge)
        side = math.isqrt(tokens)
        if side and side * side == tokens:
            return side, side
        raise TokenCountError(
            f"{model.name}: {tokens} image tokens form no square; if they are a grid, give its "
            "shape (options rows=..., cols=...), else this family needs an adapter of its own"
        )
