"""A third-party package with an adapter that has no model: `r,c` is cell (r, c) of a 6 x 6 grid."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vg_engine.core.contract.inputs import AttentionRequest as Request
from vg_engine.core.contract.inputs import AttentionRows, Expression, PreparedInputs, Query
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.results import Grounding
from vg_engine.core.contract.scene import Scene
from vg_engine.core.errors import TokenCountError
from vg_engine.core.geometry import Frame, View
from vg_engine.core.heads import Head

GRID = 6
ERRORS = {
    "broken": TokenCountError("expected 36 image tokens, got 35"),
    "bug": ZeroDivisionError("a bug of ours"),
    "stop": KeyboardInterrupt(),
}


class CellAdapter:
    """Head (2, 1) points at the cell; the others are flat. Some words make things go wrong."""

    specs: list[ModelSpec] = []  # noqa: RUF012 - what tests look at; emptied by the fixture

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        self.specs.append(spec)
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        description = ("cells have no model",)
        model = torch.nn.Identity()
        return LoadedModel(
            spec.source, model, None, layers=4, heads=2, statements=description, **place
        )

    def vg_prepare_inputs(
        self, scenes: Sequence[Scene], expressions: Sequence[Expression]
    ) -> PreparedInputs:
        for expression in expressions:
            if expression.text in ERRORS:
                raise ERRORS[expression.text]
        return PreparedInputs(
            {},
            tuple(Query(e.scene, e.text, i, (41,)) for i, e in enumerate(expressions)),
            tuple(scene.picture.size for scene in scenes),
        )

    def vg_locate_image_tokens(self, inputs: PreparedInputs) -> list[list[View]]:
        positions = 2 + np.arange(GRID * GRID).reshape(GRID, GRID)
        return [[Frame.of(*inputs.sizes[query.scene]).view(positions)] for query in inputs.queries]

    def vg_extract_attention(self, inputs: PreparedInputs, request: Request) -> AttentionRows:
        answers = []
        for query in inputs.queries:
            rows = torch.full((len(request.heads), 1, 42), 1 / 42)
            row, column = map(int, query.expression.split(","))
            for i, head in enumerate(request.heads):
                if head == Head(2, 1):
                    rows[i] = 0.001
                    rows[i, :, 2 + row * GRID + column] = 0.9
            answers.append(rows)
        return AttentionRows(request.heads, tuple(answers))


class Sure:
    def vg_postprocess(self, groundings: Sequence[Grounding]) -> list[Grounding]:
        changed = []
        for one in groundings:
            certain = tuple(replace(each, score=1.0) for each in one.instances)
            changed.append(replace(one, instances=certain, notes=(*one.notes, "sure")))
        return changed


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the package, and keeps the user's own entries out of the way."""
    site = tmp_path_factory.mktemp("site")
    info = site / "vg_cells-0.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vg-cells\nVersion: 0.7\n")
    (info / "entry_points.txt").write_text(
        "[vg_engine.adapters]\ncell = vg_cells:CellAdapter\n"
        "[vg_engine.model_types]\ncells = vg_cells:CellAdapter\n"
        "[vg_engine.plugins]\nsure = vg_cells:Sure\n"
    )
    module: Any = ModuleType("vg_cells")
    module.CellAdapter, module.Sure = CellAdapter, Sure
    monkeypatch.setitem(sys.modules, "vg_cells", module)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("VG_ENGINE_HOME", str(site / "home"))
    CellAdapter.specs.clear()
    return site


@pytest.fixture
def kit() -> Any:
    """The package's module."""
    return sys.modules["vg_cells"]


@pytest.fixture
def home(package: Path) -> Path:
    """The user's own folder, which nobody has made yet."""
    return package / "home"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path
