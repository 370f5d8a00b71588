"""An adapter without a model: its maps are known, so that the engine's own work can be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from vg_engine.core.contract.inputs import (
    AttentionRequest,
    AttentionRows,
    Expression,
    Generation,
    PreparedInputs,
    Query,
)
from vg_engine.core.contract.model import Capabilities, LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Encoding, Scene
from vg_engine.core.engine.engine import Engine, Settings
from vg_engine.core.errors import ExpressionError, PictureError, TokenCountError
from vg_engine.core.geometry import Frame, View
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.readout.regions import paper
from vg_engine.plugins.manager import make_hooks

GRID = 6
CELL_HEAD = HeadSet("cell", (Head(2, 1),), "given")


@dataclass(eq=False)
class CellAdapter:
    """Grounds `r,c` at cell (r, c) of a 6 x 6 grid over the squashed picture.

    Head (2, 1) points there; all others are flat. The expression `broken` makes a batch fail.
    """

    batches: list[int] = field(default_factory=list)
    requests: list[AttentionRequest] = field(default_factory=list)
    closed: int = 0

    def _close(self) -> None:
        self.closed += 1

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        where: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
        return LoadedModel(
            spec.source, torch.nn.Identity(), None, layers=4, heads=2, close=self._close, **where
        )

    def vg_prepare_inputs(
        self, scenes: Sequence[Scene], expressions: Sequence[Expression], prompt: Prompt
    ) -> PreparedInputs:
        self.batches.append(len(expressions))
        if any(expression.text == "broken" for expression in expressions):
            raise TokenCountError("expected 36 image tokens, got 35")
        rows = (40, 41) if prompt.query_row == "expression_all" else (41,)
        queries = tuple(Query(e.scene, e.text, i, rows) for i, e in enumerate(expressions))
        return PreparedInputs({}, queries, tuple(scene.picture.size for scene in scenes))

    def vg_locate_image_tokens(self, inputs: PreparedInputs) -> list[list[View]]:
        positions = 2 + np.arange(GRID * GRID).reshape(GRID, GRID)
        return [[Frame.of(*inputs.sizes[query.scene]).view(positions)] for query in inputs.queries]

    def vg_extract_attention(
        self, inputs: PreparedInputs, request: AttentionRequest
    ) -> AttentionRows:
        self.requests.append(request)
        answers = []
        for query in inputs.queries:
            rows = torch.full((len(request.heads), len(query.rows), 42), 1 / 42)
            row, column = map(int, query.expression.split(","))
            for i, head in enumerate(request.heads):
                if head == Head(2, 1):
                    rows[i] = 0.001
                    rows[i, :, 2 + row * GRID + column] = 0.9
            answers.append(rows)
        return AttentionRows(request.heads, tuple(answers))


class Listening(CellAdapter):
    """Hears of every pass: its pictures' corners, its texts, its tokens (ten and two a letter).

    An expression that holds `bad` is refused, one that holds `big` is too much for the memory, and
    so is a pass of more than `room` expressions.
    """

    def __init__(self, room: int, capabilities: Capabilities) -> None:
        super().__init__()
        self.room, self.capabilities = room, capabilities
        self.passes: list[tuple[list[int], list[str]]] = []
        self.tokens: list[int] = []
        self.kept: list[tuple[int, int]] = []
        self.released: list[int] = []

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        return replace(super().vg_load_model(spec), capabilities=self.capabilities)

    def vg_open_scene(self, picture: Picture, prompt: Prompt, depth: int) -> Encoding:
        corner = int(picture.pixels[0, 0, 0])
        self.kept.append((corner, depth))
        return Encoding(prompt, depth, 100, corner, lambda: self.released.append(corner))

    def vg_prepare_inputs(
        self, scenes: Sequence[Scene], expressions: Sequence[Expression], prompt: Prompt
    ) -> PreparedInputs:
        texts = [expression.text for expression in expressions]
        self.passes.append(([int(s.picture.pixels[0, 0, 0]) for s in scenes], texts))
        if any("bad" in text for text in texts):
            raise ExpressionError(f"{texts} holds a word that is not known")
        plain = [Expression(e.scene, e.text.removeprefix("big ")[:3]) for e in expressions]
        inputs = super().vg_prepare_inputs(scenes, plain, prompt)
        queries = [replace(q, expression=t) for q, t in zip(inputs.queries, texts, strict=True)]
        wide = 10 + 2 * max(map(len, texts))
        ids = torch.zeros(len(texts), wide, dtype=torch.int64)
        unknown = tuple(("word",) if "?" in text else () for text in texts)
        return replace(inputs, tensors={"input_ids": ids}, queries=tuple(queries), unknown=unknown)

    def vg_extract_attention(self, inputs: PreparedInputs, request: Any) -> Any:
        texts = [query.expression for query in inputs.queries]
        if len(texts) > self.room or any(text.startswith("big") for text in texts):
            raise torch.OutOfMemoryError("no room")
        self.tokens.append(inputs.tokens)
        plain = [replace(q, expression=q.expression[:3]) for q in inputs.queries]
        return super().vg_extract_attention(replace(inputs, queries=tuple(plain)), request)

    def vg_generate(self, inputs: PreparedInputs) -> list[Generation]:
        self.vg_extract_attention(inputs, None)
        return []


@pytest.fixture
def adapter() -> CellAdapter:
    return CellAdapter()


def decode(image: Any) -> Picture:
    if not isinstance(image, np.ndarray):
        raise PictureError(f"{image}: no such file")
    return Picture(image)


@pytest.fixture
def make_engine(adapter: CellAdapter) -> Callable[..., Engine]:
    def make(
        postprocessors: Sequence[tuple[str, object]] = (),
        head_set: HeadSet | None = CELL_HEAD,
        other: object | None = None,
        **settings: Any,
    ) -> Engine:
        hooks = make_hooks("cell", other or adapter, postprocessors)
        model, how = hooks.load_model(ModelSpec("nowhere")), Settings(paper, "paper", **settings)
        return Engine(hooks, model, how, head_set=head_set, decode=decode)

    return make


@pytest.fixture
def heard(make_engine: Callable[..., Engine]) -> Callable[..., tuple[Engine, Listening]]:
    """An engine and the adapter that hears of its passes."""

    def make(
        *postprocessors: tuple[str, object], room: int = 99, keeps: bool = False, **settings: Any
    ) -> tuple[Engine, Listening]:
        adapter = Listening(room, Capabilities(prefix_reuse=keeps, generation=True))
        return make_engine(postprocessors, other=adapter, **settings), adapter

    return make
