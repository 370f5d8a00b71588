"""What the guide says holds: its blocks are the template's files or run, its names exist."""

import ast
import inspect
import re
import runpy
import shlex
from pathlib import Path

import pytest

from vg_engine.adapter_package import names_of
from vg_engine.core.contract.hookspecs import Specs
from vg_engine.model_adapters.shared.huggingface import HuggingFaceAdapter
from vg_engine.plugins.manager import REQUIRED
from vg_engine.testing import AdapterContract

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "examples/vg-engine-adapter-template"
BLOCK = re.compile(r"(?:^<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What threads say is gathered first, and raised behind a variable.
GATHERED = ("thread ... read other rows than one thread alone", "thread ...: ...: ...")


@pytest.fixture
def guide(page):
    return page("write-an-adapter.md")


@pytest.fixture
def blocks(guide):
    """Of each block the file that it shows, its language, its text."""
    return [match.groups() for match in BLOCK.finditer(guide.text)]


@pytest.fixture
def typed(blocks):
    return [line for _, kind, text in blocks if kind == "sh" for line in text.splitlines()]


def members(of):
    """Public attributes and methods that the class itself says are there to be overridden."""
    found = {name: [] for name in inspect.get_annotations(of) if not name.startswith("_")}
    for name, value in vars(of).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not name.startswith(("_", "vg_", "test_")):
            found[name] = list(inspect.signature(function).parameters)[1:]
    return found


def told(guide, name):
    """The members that a table names, with their arguments."""
    found = {}
    for row in guide.table(name):
        for member in guide.quoted(row[0]):
            bare, _, rest = member.partition("(")
            found[bare] = [part.strip() for part in rest.rstrip(")").split(",") if part.strip()]
    return found


def test_the_blocks_that_show_a_file_show_that_file(blocks) -> None:
    shown = {file: text for file, _, text in blocks if file}
    assert len(shown) == 4
    for file, text in shown.items():
        whole = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith("pyproject.toml"):
            assert text in whole, f"the guide shows another {file}"
            assert text.count("[project.entry-points") == whole.count("[project.entry-points") == 2
        else:
            assert text == whole, f"the guide shows another {file}"


def test_the_other_python_blocks_run_one_after_another(guide, blocks) -> None:
    files = [file for file, kind, _ in blocks if kind == "python"]
    loose = [number for number, file in enumerate(files) if not file]
    assert len(loose) >= 4
    assert set(REQUIRED) <= set(vars(guide.run(*loose)["ToyAdapter"]))


def test_its_commands_run(guide, typed, call, world) -> None:
    """With the names of the template, which is what is installed here."""
    lines = [line for line in typed if line.startswith("vg-engine")]
    assert len(lines) == 5
    runpy.run_path(str(TEMPLATE / "tests/test_contract.py"))["tiny"](Path("m"))
    told = {guide.quoted(row[0])[0]: guide.quoted(row[1])[0] for row in guide.table("names")}
    assert told == names_of("zebra")
    call(*shlex.split(lines.pop(0))[1:])
    assert Path("vg-engine-zebra/src/vg_engine_zebra/adapter.py").is_file()
    instead = {"checkpoints/zebra": "m", "zebra": next(n for n in told if told[n] == "zebra")}
    for line in lines:
        call(*(instead.get(word, word) for word in shlex.split(line)[1:]))
    assert list(Path("out/zebra").glob("*.png"))
    # The other commands are as the template needs them.
    assert "cd vg-engine-zebra" in typed
    assert "pip install -e '.[dev]'" in typed
    assert "dev = [" in (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8")


def test_every_member_of_an_adapter_and_of_the_contract_is_told(guide) -> None:
    assert told(guide, "attributes") | told(guide, "methods") == members(HuggingFaceAdapter)
    assert not any(told(guide, "attributes").values())
    wanted = members(AdapterContract)
    for fixture in ("folder", "opened", "open"):  # the kit's own; `open` opens the checkpoint
        wanted.pop(fixture, None)
    assert told(guide, "contract") == wanted


def test_what_it_names_exists(guide) -> None:
    threads = (ROOT / "src/vg_engine/testing/side_effects.py").read_text(encoding="utf-8")
    for description in GATHERED:
        assert re.search(re.escape(description).replace(r"\.\.\.", r"\{[^}]+\}"), threads), (
            description
        )
    for name in set(re.findall(r"`(model_adapters/\w+\.py|core/\w+\.py)`", guide.text)):
        assert (ROOT / name).is_file(), name
    for name in set(re.findall(r"`(vg_(?!engine)\w+)`", guide.text)):
        assert hasattr(Specs, name), name


def raised(folder, error):
    """Every message of that error in a folder, its holes as ...; the doctor's are its own."""
    paths = [path for path in folder.rglob("*.py") if path.name != "doctor.py"]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    found = {words(one.args[0]) for one in calls if getattr(one.func, "id", "") == error}
    return {message for message in found if message.strip(". ")}


def words(node):
    match node:
        case ast.Constant(value=str(text)):
            return " ".join(text.split())
        case ast.JoinedStr(values=parts):
            texts = (str(one.value) if isinstance(one, ast.Constant) else "..." for one in parts)
            return " ".join("".join(texts).split())
        case ast.BinOp(left=left, right=right):
            return f"{words(left)}{words(right)}"
    return "..."


def fits(phrase, message):
    """Whether what the guide quotes is that message; ... stands for anything on either side."""
    parts = [re.escape(part.strip()) for part in phrase.split("...")]
    return re.fullmatch(r"[\s\S]*?".join(parts), message) is not None


def test_every_failure_of_the_contract_is_told(guide) -> None:
    messages = sorted(raised(ROOT / "src/vg_engine/testing", "ContractError"))
    assert len(messages) > 25
    phrases = [phrase for row in guide.table("failures") for phrase in guide.quoted(row[0])]
    untold = [m for m in messages if not any(fits(phrase, m) for phrase in phrases)]
    assert not untold, "docs/write-an-adapter.md does not tell: " + "\n".join(untold)
    description = [*messages, *GATHERED]
    idle = [
        phrase for phrase in phrases if not any(fits(phrase, message) for message in description)
    ]
    assert not idle, "nothing says so any more: " + "\n".join(idle)


def test_the_other_errors_are_real(guide) -> None:
    kinds = ("TokenCountError", "UnsupportedModelError", "WeightsError", "CaptureError")
    messages = {m for kind in kinds for m in raised(ROOT / "model_adapters", kind)}
    for row in guide.table("errors"):
        for phrase in guide.quoted(row[0])[:1]:
            assert any(fits(phrase, message) for message in messages), phrase
