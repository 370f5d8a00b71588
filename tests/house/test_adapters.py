"""Adapters stay short, and none repeats another."""

import statistics
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST, MEDIAN, ALIKE = 125, 60, 6


def adapter_files() -> list[Path]:
    """The file of every adapter that pyproject names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        entries = tomllib.load(file)["project"]["entry-points"]["vg_engine.adapters"]
    modules = {value.partition(":")[0].removeprefix("vg_engine.") for value in entries.values()}
    return sorted(ROOT / f"{module.replace('.', '/')}.py" for module in modules)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_adapters_are_short() -> None:
    lengths = {path.name: len(lines(path)) for path in adapter_files()}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}
    assert statistics.median(lengths.values()) < MEDIAN, sorted(lengths.items(), key=lambda x: x[1])


def test_no_two_adapters_share_a_block() -> None:
    """Six lines of code in a row that stand in two files; imports and blank lines do not count."""
    where: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in adapter_files():
        code = [line.strip() for line in lines(path)]
        code = [line for line in code if line and not line.startswith(("import ", "from "))]
        for start in range(len(code) - ALIKE + 1):
            where[tuple(code[start : start + ALIKE])].add(path.name)
    shared = {names: block for block, names in where.items() for names in [tuple(sorted(names))]
              if len(names) > 1}  # fmt: skip
    assert shared == {}


def test_every_adapter_file_is_an_entry() -> None:
    """A family that nobody can choose would be dead code."""
    named = {path.name for path in adapter_files()}
    classes = {
        path.name
        for path in (ROOT / "model_adapters" / "families").glob("*.py")
        if any(line.startswith("class ") and "Adapter" in line for line in lines(path))
    }
    assert len(classes) > 60
    assert classes <= named
