"""Checks of several pages: links, options and files exist; the blocks of docs/python.md run."""

import re
import tomllib
from pathlib import Path

import pytest

from vg_engine.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path.name for path in sorted((ROOT / "docs").glob("*.md"))]
LINKS = {"convert.md": 0, "metrics.md": 0, "../README.md": 3}  # at least, where not one
# The commands whose options a page may name.
COMMANDS = {
    "data-sets.md": ("discover", "eval"),
    "discover.md": ("discover", "eval", "run", "heads list", "heads use"),
    "evaluate.md": ("discover", "eval", "ablate"),
    "run.md": ("run",),
}


@pytest.mark.parametrize("name", [*PAGES, "../README.md"])
def test_what_it_links_to_exists(page, name) -> None:
    assert page(name).check_links() >= LINKS.get(name, 1)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_made_up(page, taken, name) -> None:
    told = [names for command in COMMANDS[name] for names in taken(*command.split())]
    known = {one for names in told for one in names.split(", ")}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page(name).text)) <= known


@pytest.mark.parametrize(
    ("name", "command"),
    [("discover.md", "discover"), ("evaluate.md", "eval"), ("evaluate.md", "ablate")],
)
def test_every_option_stands_with_its_default(page, taken, name, command) -> None:
    rows = page(name).table(f"options {command}")
    assert {", ".join(page.quoted(row[0])): row[1] for row in rows} == taken(command)


def test_the_blocks_of_the_python_page_run_one_after_another(page, tmp_path, monkeypatch) -> None:
    guide = page("python.md")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = guide.blocks("python")
    assert max(len(block.splitlines()) for block in blocks) <= 14
    guide.run(*range(len(blocks)), name="page")
    assert (tmp_path / "triangle.png").is_file()
    assert (tmp_path / "c" / "ablation.json").is_file()


def test_every_command_is_on_the_python_page(page) -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name or "" for group in app.registered_groups}
    assert len(names) >= 7
    text = page("python.md").text.replace("vg_engine.convert", "vg-engine convert")
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b", text)] == []


def test_every_file_and_every_group_of_plugins_of_the_architecture_is_there(page) -> None:
    text = page("architecture.md").text
    named = set(re.findall(r"(?:core|plugins|model_adapters|registry|src|tests)/[\w./]*", text))
    assert len(named) > 25
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert set(re.findall(r"`(vg_engine\.\w+)`", text)) >= set(groups)
