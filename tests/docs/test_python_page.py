"""docs/python.md: its blocks run in their order, and every command has its lines."""

import re
from pathlib import Path

import pytest

from vg_engine.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
LINES = 14  # at most, for a block


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VG_ENGINE_HOME", str(tmp_path / "home"))
    scope: dict[str, object] = {"__name__": "page"}
    for block in blocks():
        assert len(block.splitlines()) <= LINES
        exec(compile(block, "python.md", "exec"), scope)
    assert (tmp_path / "triangle.png").is_file()
    assert (tmp_path / "c" / "ablation.json").is_file()


def test_every_command_is_there() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    names |= {group.name or "" for group in app.registered_groups}
    assert len(names) >= 7
    text = PAGE.replace("vg_engine.convert", "vg-engine convert")
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b", text)] == []
