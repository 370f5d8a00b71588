"""What tests of the studies share: the cells' package, a folder of pictures, commands and files."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from vg_engine.cli.main import app
from vg_engine.core.contract.inputs import AttentionRequest, AttentionRows, PreparedInputs

ROOT = Path(__file__).resolve().parents[2]
SIDE, STEP = 60, 10

# The adapter that has no model: head L2H1 looks at the cell that a sentence names.
package = runpy.run_path(str(ROOT / "tests/front_door/conftest.py"))["package"]


class Shell:
    """Types commands in the working folder, and writes and reads its files."""

    side, step = SIDE, STEP

    def __call__(self, *words: str, code: int = 0) -> Result:
        """Run a command, which must end well unless another code is expected."""
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, f"{words}\n{done.output}"
        assert "Traceback" not in done.output
        if code:
            assert done.stderr.strip().splitlines()[-1].startswith("error: "), done.stderr
            assert done.stderr.count("error:") == 1
        return done

    def ablate(self, *words: str, code: int = 0) -> Result:
        return self("ablate", *words, code=code)

    def discover(self, *words: str, code: int = 0) -> Result:
        return self("discover", *words, code=code)

    def evaluate(self, *words: str, code: int = 0) -> Result:
        return self("eval", *words, code=code)

    def numbers(self, folder: str = "out", name: str = "ablation.json") -> Any:
        return json.loads(Path(folder, name).read_text())

    def rows(self, table: str, folder: str = "out") -> dict[str, Any]:
        return {row["label"]: row for row in self.numbers(folder)["tables"][table]["rows"]}

    def records(self, folder: str = "out") -> list[dict[str, Any]]:
        lines = Path(folder, "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]

    def line(self, name: object, row: int, column: int, cells: int = 1, **more: Any) -> Any:
        """A record whose sentence names a cell, and whose true box has `cells` x `cells`."""
        far = [min(place + cells, SIDE // STEP) * STEP for place in (column, row)]
        base = {"image": f"{name}.png", "text": f"{row},{column}"}
        base |= {"id": f"{name}-{row}-{column}", "box": [column * STEP, row * STEP, *far]}
        return base | more

    def write(self, lines: Iterable[dict[str, Any]], name: str = "data.jsonl") -> str:
        """Write a data set; its name."""
        Path(name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return f"jsonl:{name}"

    def pictures(self, names: Iterable[object]) -> None:
        rng = np.random.default_rng(0)
        for name in names:
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"{name}.png")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell()


@pytest.fixture
def bring(package: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Sequence[str]], None]:
    """Brings a stranger's module `vg_theirs` and lines of entry points."""

    def put(source: str, points: Sequence[str]) -> None:
        module = ModuleType("vg_theirs")
        exec(compile(source, "vg_theirs", "exec", dont_inherit=True), module.__dict__)
        monkeypatch.setitem(sys.modules, "vg_theirs", module)
        file = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
        file.write_text(file.read_text() + "".join(f"{line}\n" for line in points))

    return put


@pytest.fixture
def two_sets(shell: Shell, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of eight and nine pictures, two sentences each; the second has masks."""
    adapter: Any = sys.modules["vg_cells"].CellAdapter
    extract = adapter.vg_extract_attention

    def attended(self: object, inputs: PreparedInputs, request: AttentionRequest) -> Any:
        queries = [replace(q, expression=cell_of(q.expression)) for q in inputs.queries]
        return extract(self, replace(inputs, queries=tuple(queries)), request)

    monkeypatch.setattr(adapter, "vg_extract_attention", attended)
    shell.pictures([*(f"a{n}" for n in range(8)), *(f"b{n}" for n in range(9))])
    cells = [(f"a{n}", row, column) for n in range(8) for row, column in ((n % 6, 2), (3, 4))]
    shell.write([shell.line(*one, 2) for one in cells], "first.jsonl")
    cells = [(f"b{n}", row, column) for n in range(9) for row, column in ((n % 5, 1), (4, n % 4))]
    second = [shell.line(*one, 2) for one in cells]
    for one in second:
        left, top, right, bottom = one["box"]
        one["mask"] = [[left, top, right, top, right, bottom, left, bottom]]
    shell.write(second, "second.jsonl")


def cell_of(text: str) -> str:
    """The neutral prompt names no cell."""
    return "0,0" if text == "describe the image" else text


def attend(_adapter: object, inputs: PreparedInputs, request: AttentionRequest) -> AttentionRows:
    """Every head points at the cell, some more than others, over noise of its own."""
    answers = []
    for query in inputs.queries:
        row, column = map(int, cell_of(query.expression).split(","))
        values = []
        for head in request.heads:
            noise = np.random.default_rng([head.layer, head.head, row, column])
            one = noise.random(42) ** 3 / 60
            one[2 + row * (SIDE // STEP) + column] += 0.01 * (
                1 + (head.layer * 5 + head.head * 3) % 7
            )
            values.append(one[None])
        answers.append(torch.from_numpy(np.array(values)).float())
    return AttentionRows(request.heads, tuple(answers))


@pytest.fixture
def noisy(two_sets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", attend)
