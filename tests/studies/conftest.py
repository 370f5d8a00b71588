"""What tests of the studies share: the cells' package, a folder of pictures, commands and files."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.core.contract.inputs import AttentionRows

ROOT = Path(__file__).resolve().parents[2]
SIDE, STEP = 60, 10

# The adapter that has no model: head L2H1 looks at the cell that a sentence names.
package = runpy.run_path(str(ROOT / "tests/front_door/conftest.py"))["package"]


class Shell:
    """Types commands in the working folder, and writes and reads its files."""

    cell = ("--adapter", "cell", "--model", "cells")
    both = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:second.jsonl")

    def __call__(self, *words, code=0):
        """Run a command, which must end well unless another code is expected."""
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, f"{words}\n{done.output}"
        assert "Traceback" not in done.output
        if code:
            assert done.stderr.strip().splitlines()[-1].startswith("error: "), done.stderr
            assert done.stderr.count("error:") == 1
        return done

    def ablate(self, *words, code=0):
        """With few draws on the two data sets, unless `words` say otherwise."""
        quick = ("--draws", "2", "--resamples", "20", "--out", "out")
        return self("ablate", *self.cell, *self.both, *quick, *words, code=code)

    def discover(self, *words, code=0):
        data = ("--data", "jsonl:data.jsonl", "--out", "found")
        return self("discover", *self.cell, *data, *words, code=code)

    def numbers(self, folder="out", name="ablation.json"):
        return json.loads(Path(folder, name).read_text())

    def discovery(self, folder="found"):
        return self.numbers(folder, "discovery.json")

    def rows(self, table, folder="out"):
        return {row["label"]: row for row in self.numbers(folder)["tables"][table]["rows"]}

    def records(self, folder="out"):
        lines = Path(folder, "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]

    def line(self, name, row, column, cells=1, **more):
        """A record whose sentence names a cell, and whose true box has `cells` x `cells`."""
        far = [min(place + cells, SIDE // STEP) * STEP for place in (column, row)]
        base = {"image": f"{name}.png", "text": f"{row},{column}"}
        base |= {"id": f"{name}-{row}-{column}", "box": [column * STEP, row * STEP, *far]}
        return base | more

    def write(self, lines, name="data.jsonl"):
        """Write a data set; its name."""
        Path(name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return f"jsonl:{name}"

    def pictures(self, names):
        rng = np.random.default_rng(0)
        for name in names:
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"{name}.png")


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Shell()


DEEPEST = """
import numpy as np
from vg_engine.core.selection.ranking import Scores

class Deepest:
    needs = ("image_attention",)

    def score(self, seen):
        means = seen.means("image_attention")["image_attention"]
        depth = [float(head.layer) + head.head / 10 for head in seen.heads]
        return Scores(np.broadcast_to(depth, means.shape))
"""


@pytest.fixture
def bring(package, monkeypatch):
    """Brings a stranger's module `vg_theirs`, with a rule Deepest, and lines of entry points."""

    def put(source, *points):
        module = ModuleType("vg_theirs")
        exec(compile(DEEPEST + source, "vg_theirs", "exec", dont_inherit=True), module.__dict__)
        monkeypatch.setitem(sys.modules, "vg_theirs", module)
        file = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
        file.write_text(file.read_text() + "".join(f"{line}\n" for line in points))

    return put


@pytest.fixture
def two_sets(shell, package, monkeypatch):
    """Data sets of eight and nine pictures, two sentences each; the second has masks."""
    adapter = sys.modules["vg_cells"].CellAdapter
    extract = adapter.vg_extract_attention

    def attended(self, inputs, request):
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


def cell_of(text):
    """The neutral prompt names no cell."""
    return "0,0" if text == "describe the image" else text


def attend(_adapter, inputs, request):
    """Every head points at the cell, some more than others, over noise of its own."""
    answers = []
    for query in inputs.queries:
        row, column = map(int, cell_of(query.expression).split(","))
        values = []
        for head in request.heads:
            noise = np.random.default_rng([head.layer, head.head, row, column])
            one = noise.random(42) ** 3 / 60
            share = 1 + (head.layer * 5 + head.head * 3) % 7
            one[2 + row * (SIDE // STEP) + column] += 0.01 * share
            values.append(one[None])
        answers.append(torch.from_numpy(np.array(values)).float())
    return AttentionRows(request.heads, tuple(answers))


@pytest.fixture
def noisy(two_sets, monkeypatch):
    monkeypatch.setattr(sys.modules["vg_cells"].CellAdapter, "vg_extract_attention", attend)
