"""docs/models.md is what the adapters and their contracts say, and nobody is left out."""

import ast
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RUNS = yaml.safe_load((ROOT / "registry/contracts.yaml").read_text(encoding="utf-8"))["runs"]


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/models_page.py")))


def named(node: ast.AST) -> str:
    """The name of a class, or of the function that makes it."""
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def contracts() -> set[tuple[str, str]]:
    """Every contract in our tests: file and class."""
    found = set()
    folders = ("tests/model_adapters", "tests/torchvision_families")
    for path in (path for folder in folders for path in (ROOT / folder).glob("test_*.py")):
        classes = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = set(map(named, node.bases))
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                classes[named(node.targets[0])] = {named(node.value)}
        kit = {"AdapterContract", "contract"}
        for _ in classes:
            kit |= {name for name, bases in classes.items() if bases & kit}
        found |= {(path.name, name) for name in kit if name.startswith("Test")}
    return found


def test_the_page_is_up_to_date(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), (
        "docs/models.md is out of date: run python scripts/models_page.py"
    )


def test_every_contract_has_its_figures_and_they_are_within_what_is_allowed():
    every = [line for run in RUNS for lines in run["adapters"].values() for line in lines]
    assert {(Path(line["file"]).name, line["contract"]) for line in every} == contracts()
    for line in every:
        right, planned = map(int, line["cells"].split("/"))
        assert line["error"] <= 1e-5, line
        assert line["wrong"] == 0, line
        assert right >= 0.9 * planned > 0, line
        assert line["sharpest"] >= 0.8, line


def test_families_that_need_torchvision_are_measured_with_it(script):
    needing = {n for n, adapter in script.adapters().items() if adapter.image_backend != "pil"}
    measured = {n for run in RUNS if "torchvision" in run["versions"] for n in run["adapters"]}
    assert needing
    assert needing <= measured


def test_every_adapter_is_proved_and_says_how_a_picture_lies(script):
    adapters = script.adapters()
    measured = [name for run in RUNS for name in run["adapters"]]
    assert set(adapters) <= set(measured)
    assert len(measured) == len(set(measured)), "an adapter stands in two runs"
    assert [name for name, adapter in adapters.items() if not adapter.layout] == []
    stated = re.search(r"\*\*(\d+) model families\*\*", (ROOT / "README.md").read_text("utf-8"))
    assert stated is not None
    assert int(stated[1]) == len(adapters) - 1, "`auto` is no family"
