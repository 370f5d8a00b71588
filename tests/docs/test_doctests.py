"""Every example in a docstring of the product runs as it stands there."""

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"core": "core", "plugins": "plugins", "registry": "registry"}
ROOMS |= {"model_adapters": "model_adapters", "src/vg_engine": ""}


def modules() -> Iterator[str]:
    """The modules that show an example."""
    for folder, room in ROOMS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            linked = folder == "src/vg_engine" and inside.parts[0] in ROOMS
            if not linked and ">>>" in path.read_text(encoding="utf-8"):
                parts = ["vg_engine", room, *inside.with_suffix("").parts]
                yield ".".join(part for part in parts if part and part != "__init__")


@pytest.mark.parametrize("name", list(modules()))
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
