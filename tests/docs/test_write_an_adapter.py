"""What the guide says holds: its blocks are the template's files or run, its names exist."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.core.contract.hookspecs import Specs
from vg_engine.model_adapters.shared.huggingface import HuggingFaceAdapter
from vg_engine.plugins.manager import REQUIRED
from vg_engine.testing import AdapterContract

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/write-an-adapter.md").read_text(encoding="utf-8")
TEMPLATE = ROOT / "examples/vg-engine-adapter-template"
BLOCK = re.compile(r"(?:^<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(GUIDE)]
SHELL = [line for _, kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]

# What threads say is gathered first, and raised behind a variable.
GATHERED = ("thread ... read other rows than one thread alone", "thread ...: ...: ...")


def rows(name: str) -> list[list[str]]:
    """The cells of a marked table, without its head."""
    table = re.search(rf"<!-- {name} -->\n(.+?)<!-- /{name} -->", GUIDE, flags=re.DOTALL)
    assert table is not None
    lines = [line for line in table[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def members(of: type) -> dict[str, list[str]]:
    """Public attributes and methods that the class itself says are there to be overridden."""
    found = {name: [] for name in inspect.get_annotations(of) if not name.startswith("_")}
    for name, value in vars(of).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not name.startswith(("_", "vg_", "test_")):
            found[name] = list(inspect.signature(function).parameters)[1:]
    return found


def told(name: str) -> dict[str, list[str]]:
    """The members that a table names, with their arguments."""
    found = {}
    for row in rows(name):
        for member in quoted(row[0]):
            bare, _, rest = member.partition("(")
            found[bare] = [part.strip() for part in rest.rstrip(")").split(",") if part.strip()]
    return found


def test_the_blocks_that_show_a_file_show_that_file() -> None:
    shown = {file: text for file, _, text in BLOCKS if file}
    assert len(shown) == 4
    for file, text in shown.items():
        whole = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith("pyproject.toml"):
            assert text in whole, f"the guide shows another {file}"
            assert text.count("[project.entry-points") == whole.count("[project.entry-points") == 2
        else:
            assert text == whole, f"the guide shows another {file}"


def test_the_other_python_blocks_run_one_after_another() -> None:
    blocks = [text for file, kind, text in BLOCKS if kind == "python" and not file]
    assert len(blocks) >= 4
    scope: dict[str, Any] = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, "write-an-adapter.md", "exec"), scope)
    assert set(REQUIRED) <= set(vars(scope["ToyAdapter"]))


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of the template, which is what is installed here."""
    monkeypatch.chdir(tmp_path)
    names = [(quoted(row[0])[0], quoted(row[1])[0]) for row in rows("names")]
    lines = [line for line in SHELL if line.startswith("vg-engine")]
    assert len(lines) == 4
    runpy.run_path(str(TEMPLATE / "tests/test_contract.py"))["tiny"](Path("m"))
    Image.new("RGB", (90, 60), "white").save("photo.jpg")
    own, theirs = next(pair for pair in names if pair[1] == "zebra")
    for line in lines:
        words = [
            "m" if word == "checkpoints/zebra" else own if word == theirs else word
            for word in shlex.split(line)
        ]
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert list(Path("out/zebra").glob("*.png"))


def test_the_other_commands_are_as_the_template_needs_them() -> None:
    assert f"cp -r {TEMPLATE.relative_to(ROOT)} vg-engine-zebra" in SHELL
    assert "pip install -e '.[dev]'" in SHELL
    assert "dev = [" in (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8")


def test_every_attribute_and_method_of_an_adapter_is_told() -> None:
    assert told("attributes") | told("methods") == members(HuggingFaceAdapter)
    assert not any(told("attributes").values())


def test_every_member_of_the_contract_is_told() -> None:
    kits_own = ("folder", "opened", "open")  # fixtures, and what opens the checkpoint for tests
    wanted = members(AdapterContract)
    assert told("contract") == {name: wanted[name] for name in wanted if name not in kits_own}


def test_what_it_names_exists() -> None:
    threads = (ROOT / "src/vg_engine/testing/conduct.py").read_text(encoding="utf-8")
    for said in GATHERED:
        assert re.search(re.escape(said).replace(r"\.\.\.", r"\{[^}]+\}"), threads), said
    for name in set(re.findall(r"`(model_adapters/\w+\.py|core/\w+\.py)`", GUIDE)):
        assert (ROOT / name).is_file(), name
    for name in set(re.findall(r"`(vg_(?!engine)\w+)`", GUIDE)):
        assert hasattr(Specs, name), name
    for name in set(re.findall(r"frames\.(\w+)\(", GUIDE)):
        assert hasattr(frames, name), name
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", GUIDE, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


def raised(folder: Path, error: str) -> set[str]:
    """Every message of that error in a folder, its holes as ...; the doctor's are its own."""
    calls = (
        node
        for path in sorted(folder.rglob("*.py"))
        if path.name != "doctor.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )
    made = (call for call in calls if getattr(call.func, "id", "") == error and call.args)
    return {message for message in (words(call.args[0]) for call in made) if message.strip(". ")}


def words(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return " ".join(text.split())
        case ast.JoinedStr(values=parts):
            joined = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts
            )
            return " ".join(joined.split())
        case ast.BinOp(left=left, right=right):
            return f"{words(left)}{words(right)}"
    return "..."


def fits(phrase: str, message: str) -> bool:
    """Whether what the guide quotes is that message; ... stands for anything on either side."""
    parts = [re.escape(part.strip()) for part in phrase.split("...")]
    return re.fullmatch(r"[\s\S]*?".join(parts), message) is not None


def test_every_failure_of_the_contract_is_told() -> None:
    kit = ROOT / "src/vg_engine/testing"
    messages = sorted(raised(kit, "ContractError"))
    assert len(messages) > 25
    phrases = [phrase for row in rows("failures") for phrase in quoted(row[0])]
    untold = [m for m in messages if not any(fits(phrase, m) for phrase in phrases)]
    assert not untold, "docs/write-an-adapter.md does not tell: " + "\n".join(untold)
    said = [*messages, *GATHERED]
    idle = [phrase for phrase in phrases if not any(fits(phrase, message) for message in said)]
    assert not idle, "nothing says so any more: " + "\n".join(idle)


def test_the_other_errors_are_real() -> None:
    kinds = ("TokenCountError", "UnsupportedModelError", "WeightsError", "CaptureError")
    messages = {m for kind in kinds for m in raised(ROOT / "model_adapters", kind)}
    for row in rows("errors"):
        for phrase in quoted(row[0])[:1]:
            assert any(fits(phrase, message) for message in messages), phrase
