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


def test_head_sets_are_listed_and_shown() -> None:
    rows = {
        row["name"]: row for row in map(json.loads, call("heads", "--json").stdout.splitlines())
    }
    assert rows["llava-1.5-13b"]["heads"] == ["L15H39", "L16H30", "L7H2"]
    assert "L14H24, L14H13, L14H26" in call("heads", "list").stdout
    shown = json.loads(call("heads", "show", "llava-1.5-7b", "--json").stdout)
    assert shown["source"].startswith("arXiv 2503.06287")
    assert "not re-measured" in call("heads", "show", "llava-1.5-7b").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["heads", "show"], "which head set?"),
        (["heads", "show", "llava-15-7b"], "did you mean llava-1.5-7b"),
        (["heads", "list", "x"], "try: vg-engine heads show x"),
        (["heads", "drop"], "drop"),
        (["rum"], "run"),
        (["--none"], "--none"),
    ],
)
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
