"""Every example in a docstring of the product runs as it stands there."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"core": "core", "plugins": "plugins", "registry": "registry"}
ROOMS |= {"model_adapters": "model_adapters", "src/vg_engine": ""}


def modules():
    """The modules that show an example."""
    for folder, room in ROOMS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            linked = folder == "src/vg_engine" and inside.parts[0] in ROOMS
            # The studies' examples write files: tests/studies runs each in a folder of its own.
            if linked or "studies" in inside.parts or ">>>" not in path.read_text("utf-8"):
                continue
            parts = ["vg_engine", room, *inside.with_suffix("").parts]
            yield ".".join(part for part in parts if part and part != "__init__")


@pytest.mark.parametrize("name", list(modules()))
def test_examples_run(name, tmp_path, monkeypatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0
