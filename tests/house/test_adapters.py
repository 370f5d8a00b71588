"""Adapters stay short, and none repeats another."""

import re
import statistics
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST, MEDIAN, ALIKE = 125, 60, 6


def adapter_files() -> dict[str, list[str]]:
    """The lines of every adapter that pyproject names, by the name of its file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = project["entry-points"]["vg_engine.adapters"].values()
    modules = {value.partition(":")[0].removeprefix("vg_engine.") for value in entries}
    paths = [ROOT / f"{module.replace('.', '/')}.py" for module in sorted(modules)]
    return {path.name: path.read_text(encoding="utf-8").splitlines() for path in paths}


def test_adapters_are_short() -> None:
    lengths = {name: len(lines) for name, lines in adapter_files().items()}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}
    assert statistics.median(lengths.values()) < MEDIAN, sorted(lengths.items(), key=lambda x: x[1])


def test_no_two_adapters_share_a_block() -> None:
    """Six lines of code in a row that stand in two files; imports and blank lines do not count."""
    where: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, lines in adapter_files().items():
        code = [line.strip() for line in lines]
        code = [line for line in code if line and not line.startswith(("import ", "from "))]
        for start in range(len(code) - ALIKE + 1):
            where[tuple(code[start : start + ALIKE])].add(name)
    assert {block: names for block, names in where.items() if len(names) > 1} == {}


def test_every_adapter_file_is_an_entry() -> None:
    """A family that nobody can choose would be dead code."""
    files = (ROOT / "model_adapters" / "families").glob("*.py")
    classes = {p.name for p in files if re.search(r"^class .*Adapter", p.read_text(), re.MULTILINE)}
    assert len(classes) > 60
    assert classes <= adapter_files().keys()
