"""Families whose image processor transformers has on torchvision alone, proved without torchvision.

Their contracts are in tests/torchvision_families. They run here in a process of their own with a
stand-in (tests/stand_in) in torchvision's place: transformers asks once per process whether it is
there. The geometry is transformers' own, and only steps that mean the same everywhere (resize, pad,
crop) are the stand-in's. `make torchvision` proves the same with torchvision itself.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.errors import UnsupportedModelError
from vg_engine.testing import parity, summary
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS, STAND_IN = ROOT / "tests/torchvision_families", ROOT / "tests/stand_in"
HERE = importlib.util.find_spec("torchvision") is not None
without = pytest.mark.skipif(HERE, reason="torchvision is installed")
LIMIT_S = 600
CHECKS = 14  # of a contract


def run(*arguments: str, stand_in: bool = True) -> subprocess.CompletedProcess[str]:
    """Python in the project's folder, with or without the stand-in."""
    path = [str(STAND_IN)] if stand_in else []
    path += filter(None, [os.environ.get("PYTHONPATH")])
    # Tiny models gain nothing by more threads, and those that wait for each other lose much.
    settings = {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    more = {"cwd": ROOT, "env": os.environ | settings, "timeout": LIMIT_S}
    command = [sys.executable, *arguments]
    return subprocess.run(command, **more, capture_output=True, text=True, check=False)


def adapters() -> dict[str, Any]:
    """The adapters that need torchvision, by name: imported in this process, which has none."""
    found = {}
    for path in sorted((ROOT / "model_adapters" / "families").glob("*.py")):
        if '] = "torchvision"' not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(f"vg_engine.model_adapters.families.{path.stem}")
        for each in vars(module).values():
            own = isinstance(each, type) and each.__module__ == module.__name__
            if own and "model_types" in vars(each):
                found[each.name] = each
    return found


@pytest.mark.parametrize(
    "files", ["test_llama4.py", pytest.param("test_*.py", marks=pytest.mark.slow)]
)
def test_their_contracts_hold(tmp_path, files):
    table, paths = tmp_path / "table.json", sorted(CONTRACTS.glob(files))
    done = run("-m", "pytest", "-q", f"--contract-table={table}", *map(str, paths))
    print(done.stdout[done.stdout.find("=== contracts ===") :])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"^(\d+) passed in ", done.stdout, re.MULTILINE)
    assert passed is not None, "some were skipped or left out: " + done.stdout[-1000:]
    found = json.loads(table.read_text())
    assert "torchvision 0.26.0+stand.in" in found["versions"]
    measured = found["contracts"]
    assert {line["adapter"] for line in measured.values()} == (
        {"llama4"} if len(paths) == 1 else set(adapters())
    )
    files = {name.partition("::")[0] for name in measured}
    assert files == {path.relative_to(ROOT).as_posix() for path in paths}
    assert int(passed[1]) > CHECKS * len(measured)
    for contract, line in measured.items():
        rows, cells = line[summary.PARITY], line[summary.PAINT]
        assert rows["error"] <= parity.MOST, contract
        assert rows["sharpest"] >= 0.8, contract
        assert cells["wrong"] == 0, contract
        assert cells["right"] >= 0.9 * cells["planned"] > 0, contract


COMPARED = """
import json, sys
import numpy as np, torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPImageProcessorPil
sizes = {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}}
over, plain = CLIPImageProcessor(**sizes), CLIPImageProcessorPil(**sizes)
assert over.backend == "torchvision", over
spread = torch.tensor(plain.image_std).reshape(3, 1, 1) * 255
found = []
for seed, size in enumerate([(300, 200), (130, 260), (97, 96), (60, 40), (96, 96)]):
    pixels = np.random.default_rng(seed).integers(60, 190, (*size, 3), dtype=np.uint8)
    ours, theirs = (
        each(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        for each in (over, plain)
    )
    off = ((ours - theirs) * spread).abs()
    found.append([off.max().item(), off.mean().item()])
print(json.dumps(found))
"""


def test_the_stand_in_does_what_pillow_does():
    """CLIP's image processor has both forms; they differ by a few grey levels even of noise."""
    done = run("-c", COMPARED)
    assert done.returncode == 0, done.stderr
    for most, mean in json.loads(done.stdout):
        assert most <= 3.5
        assert mean <= 0.5


@without
def test_without_torchvision_such_a_model_says_that_it_is_needed(tmp_path):
    folder = tiny_llava(tmp_path / "any", layers=1, hidden=32)
    for adapter in adapters().values():
        with pytest.raises(UnsupportedModelError, match="pip install torchvision") as raised:
            adapter().vg_load_model(ModelSpec(str(folder), device="cpu"))
        assert re.fullmatch(
            r".*only on top of torchvision, which is not installed.*", str(raised.value)
        )


@without
def test_without_torchvision_their_contracts_are_skipped_and_say_why():
    done = run("-m", "pytest", "-q", "-rs", str(CONTRACTS), stand_in=False)
    assert "needs torchvision, which cannot be imported here" in done.stdout
    assert "failed" not in done.stdout
    assert "error" not in done.stdout.lower().replace("modulenotfounderror", "")


@without
def test_adapters_are_imported_listed_and_checked_without_torchvision():
    assert {each.image_backend for each in adapters().values()} == {"torchvision"}
    assert "torchvision" not in sys.modules
    listed = run("-m", "vg_engine", "adapters", "--check", stand_in=False)
    assert listed.returncode == 0, listed.stderr
    assert "internvl" in listed.stdout
