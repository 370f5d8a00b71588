"""The plugins page: its package is installed, its tests and commands run, its tables hold."""

import inspect
import re
from pathlib import Path

import pytest
from PIL import Image

from vg_engine import testing
from vg_engine.plugins import entrypoints


@pytest.fixture
def guide(page):
    return page("plugins.md")


@pytest.fixture
def theirs(guide, install, world):
    """The page's package, installed."""
    blocks = guide.blocks("python")
    scope = guide.run(*range(len(blocks)), name="your_package")
    install("your_package", scope, guide.points)
    return scope


def test_each_kind_of_plugin_has_its_group_its_code_and_its_test(guide) -> None:
    groups = [name for row in guide.table("kinds") for name in guide.quoted(row[1])]
    assert sorted(groups) == sorted(entrypoints.GROUPS)
    assert set(guide.points) == set(groups) - {entrypoints.ADAPTERS, entrypoints.MODEL_TYPES}
    sections = re.split(r"^## ", guide.text, flags=re.MULTILINE)[1:-1]
    assert len(sections) == len(guide.points)
    for section in sections:
        code, test = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        assert test.count("def test_") == 1
        # Without imports and docstring: about ten lines each.
        bare = re.sub(r'"""(?s:.*?)"""|^(?:from|import) .*', "", code, flags=re.MULTILINE)
        assert len([line for line in bare.splitlines() if line.strip()]) <= 12, section


NAMES = ("doubt", "brightest", "looking", "named", "wrapped", "blur")


@pytest.mark.parametrize("name", NAMES)
def test_the_test_of_each_kind_passes(theirs, tmp_path, name) -> None:
    test = theirs[f"test_{name}"]
    test(*[tmp_path] * len(inspect.signature(test).parameters))


def test_its_commands_run(guide, theirs, call, cells) -> None:
    Path("pictures").mkdir()
    for name in ("1,2", "3,4"):  # as the model that costs nothing is asked
        Image.new("RGB", (60, 60)).save(f"pictures/{name}.png")
    theirs["test_wrapped"](Path("made"))
    Path("made/trained").rename("trained")
    for command in guide.commands:
        model = cells if command[0] == "discover" else ()
        assert call(*command, *model).stdout.strip(), command
    assert "share=0.1: a number; of the map's area" in call("plugins", "regions").stdout


def test_the_builders_are_those_of_the_kit(guide) -> None:
    for row in guide.table("builders"):
        for told in guide.quoted(row[0]):
            module, name, arguments = re.fullmatch(r"(\w+)\.(\w+)\((.*)\)", told).groups()
            __import__(f"{testing.__name__}.{module}")
            taken = inspect.signature(getattr(getattr(testing, module), name)).parameters.values()
            needed = [one.name for one in taken if one.default is one.empty and one.kind < 2]
            assert needed == [part for part in arguments.split(", ") if part], told
