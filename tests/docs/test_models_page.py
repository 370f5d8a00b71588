"""docs/models.md is what the adapters and their contracts say, and nobody is left out."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FIGURES = yaml.safe_load((ROOT / "registry/contracts.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "scripts/models_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_every_contract_has_its_figures():
    kept = {
        (Path(line["file"]).name, line["contract"])
        for lines in FIGURES["adapters"].values()
        for line in lines
    }
    assert kept == contracts()


def test_figures_are_within_what_is_allowed():
    for name, lines in FIGURES["adapters"].items():
        for line in lines:
            right, planned = map(int, line["cells"].split("/"))
            assert line["error"] <= 1e-5, name
            assert line["wrong"] == 0, name
            assert right >= 0.9 * planned > 0, name
            assert line["sharpest"] >= 0.8, name


def test_every_adapter_is_proved_and_says_how_a_picture_lies(script):
    for name, adapter in script.adapters().items():
        assert name in FIGURES["adapters"], name
        assert adapter.layout, name


def test_the_readme_counts_the_families(script):
    """`auto` is no family."""
    stated = re.search(r"\*\*(\d+) model families\*\*", (ROOT / "README.md").read_text("utf-8"))
    assert stated is not None
    assert int(stated[1]) == len(script.adapters()) - 1
