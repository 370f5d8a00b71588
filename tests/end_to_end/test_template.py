"""The template of a third-party adapter: installed, asked, and made under another name."""

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import call, refused
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.plugins.entrypoints import ADAPTERS, MODEL_TYPES, installed
from vg_engine.registry.adapters import adapter_for
from vg_engine.testing import AdapterContract

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "examples/vg-engine-adapter-template"
NAME, MODEL_TYPE = "squashed-llava", "squashed_llava"
CHECKS = [name for name in vars(AdapterContract) if name.startswith("test_")]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not any(entry.name == NAME for entry in installed(ADAPTERS)):
        pytest.fail("the template is not installed here: make lint does it")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny checkpoint of the template's own test."""
    folder = tmp_path_factory.mktemp("template") / "tiny"
    runpy.run_path(str(TEMPLATE / "tests/test_contract.py"))["tiny"](folder)
    return str(folder)


def test_its_entry_points_are_those_of_its_project() -> None:
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group in (ADAPTERS, MODEL_TYPES):
        found = {e.name: e.value for e in installed(group) if e.distribution == project["name"]}
        assert found == project["entry-points"][group]


@pytest.mark.parametrize("named", [("--adapter", NAME), ()])
def test_it_answers_by_name_and_by_model_type(checkpoint: str, named: tuple[str, ...]) -> None:
    question = ("--image", str(ROOT / "examples/scene.png"), "--text", "the red circle", "--json")
    done = CliRunner().invoke(app, ["run", "--model", checkpoint, *question, *named])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["provenance"]["adapter"] == NAME


def test_it_takes_no_model_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("vg_engine_adapter_template")]:
        monkeypatch.delitem(sys.modules, name)
    types = installed(MODEL_TYPES)
    (mine,) = [entry for entry in types if entry.name == MODEL_TYPE]
    assert [entry.name for entry in types if entry.value == mine.value] == [MODEL_TYPE]
    offer = adapter_for({"model_type": "llava"}, types)
    assert offer.load() is not None
    assert offer.distribution == "vg-engine"
    assert "vg_engine_adapter_template" not in sys.modules  # nobody even asked it


@pytest.fixture(scope="module")
def zebra(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `vg-engine new-adapter zebra` makes, installed in a folder of its own."""
    made, site = tmp_path_factory.mktemp("zebra") / "made", tmp_path_factory.mktemp("site")
    call("new-adapter", "zebra", "--out", made)
    install = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run("-m", "pip", *install, "--target", str(site), str(made), cwd=made)
    return made, str(site)


def test_a_new_adapter_passes_the_contract_elsewhere(zebra: tuple[Path, str]) -> None:
    made, site = zebra
    told = run("-W", "error", "-m", "pytest", "-q", "-W", "error", cwd=made, PYTHONPATH=site)
    assert len(CHECKS) > 10
    assert re.search(rf"^{len(CHECKS)} passed", told, flags=re.MULTILINE), told
    assert re.search(r"^zebra +[1-9]\d+ .* (\d+)/\1  TestZebra$", told, flags=re.MULTILINE), told


def test_a_new_adapter_is_listed_beside_the_template(zebra: tuple[Path, str]) -> None:
    made, site = zebra
    lines = run("-m", "vg_engine", "adapters", "--json", cwd=made, PYTHONPATH=site)
    rows = {row.pop("name"): row for row in map(json.loads, lines.splitlines())}
    expected = {"distribution": "vg-engine-zebra", "version": "0.1.0", "model_types": ["zebra"]}
    assert rows["zebra"] == expected
    assert NAME in rows


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Zebra VL", "'Zebra VL' is no name for an adapter; .* (zebra-vl)"),
        ("7zebras", "a letter first (zebras)"),
        ("", "a letter first (zebra-vl)"),
        ("qwen2-5-vl", "vg-engine .* has an adapter 'qwen2_5_vl'; choose another name"),
        ("none", "a class 'None', which means something else in its package; .* (none-vl)"),
        ("grid", "a class 'Grid'"),
        ("made", "made exists; choose another folder with --out"),
    ],
)
def test_names_and_folders_that_cannot_be_taken_are_refused(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "made").mkdir()
    error = refused("new-adapter", name, "--out", tmp_path / "made")
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), error), error
    assert not list((tmp_path / "made").iterdir())


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
