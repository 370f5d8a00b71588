import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

import vg_engine
from vg_engine.cli.main import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_adapters_are_listed() -> None:
    done = call("adapters", "--json")
    assert done.exit_code == 0
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["cell"] == {
        "name": "cell", "distribution": "vg-cells", "version": "0.7", "model_types": ["cells"],
    }  # fmt: skip
    assert rows["llava"]["distribution"] == "vg-engine"
    assert "vg-cells" in call("adapters").stdout


def test_a_broken_adapter_is_named_only_on_request(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vg_cells", ModuleType("vg_cells"))
    assert call("adapters").exit_code == 0
    done = call("adapters", "--check", "--json")
    assert done.exit_code == 2
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert "of vg-cells 0.7 is broken" in rows["cell"]["error"]
    assert rows["llava"]["error"] is None
    assert done.stderr.startswith("error: adapter 'cell' of vg-cells 0.7 is broken")


@pytest.mark.parametrize(("arguments", "words"), [(["rum"], "run"), (["--none"], "--none")])
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_version_and_the_help() -> None:
    assert call("--version").stdout == f"vg-engine {vg_engine.__version__}\n"
    assert call("--help").exit_code == 0
    bare = call()
    assert bare.exit_code == 2
    assert "error:" not in bare.output
    assert "Usage" in bare.output
