"""The folders, their links, the mapping in pyproject.toml and the size of files agree."""

import fnmatch
import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "model_adapters", "plugins", "registry")
LONGEST = 400
LONGEST_TEST = 500  # the tests of one file of the product stay together


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


SETUPTOOLS = project()["tool"]["setuptools"]
ENTRY_POINTS = project()["project"]["entry-points"]


# The folder that each import name of the product stands for.
FOLDERS = {"vg_engine": ROOT / "src/vg_engine"} | {f"vg_engine.{r}": ROOT / r for r in ROOMS}


def product_files() -> list[tuple[str, Path]]:
    """Every file that belongs to the product, with the package it belongs to."""
    return [
        (package, path)
        for package, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and not (package == "vg_engine" and path.relative_to(folder).parts[0] in ROOMS)
    ]


def test_rooms_links_and_mapping_are_alike() -> None:
    links = {p.name: p.readlink() for p in (ROOT / "src/vg_engine").iterdir() if p.is_symlink()}
    assert links == {room: Path("../..") / room for room in ROOMS}
    expected = {name: folder.relative_to(ROOT).as_posix() for name, folder in FOLDERS.items()}
    assert SETUPTOOLS["package-dir"] == expected


def test_every_folder_with_python_is_a_package_and_listed() -> None:
    python = [(package, path) for package, path in product_files() if path.suffix == ".py"]
    bare = {str(path.parent) for _, path in python if not (path.parent / "__init__.py").is_file()}
    assert not bare, f"folders with Python and no __init__.py: {sorted(bare)}"
    found = {".".join([p, *path.relative_to(FOLDERS[p]).parts[:-1]]) for p, path in python}
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_data_is_shipped_by_name() -> None:
    assert SETUPTOOLS["include-package-data"] is False
    patterns = SETUPTOOLS["package-data"]
    forgotten = [
        path.relative_to(ROOT).as_posix()
        for package, path in product_files()
        if path.suffix != ".py"
        and not any(
            fnmatch.fnmatchcase(path.relative_to(FOLDERS[package]).as_posix(), loose)
            for pattern in patterns.get(package, [])
            for loose in (pattern, pattern.removeprefix("**/"))
        )
    ]
    assert not forgotten, f"neither Python nor in package-data: {forgotten}"
    pairs = [(package, pattern) for package, wanted in patterns.items() for pattern in wanted]
    idle = [pair for pair in pairs if not any(FOLDERS[pair[0]].glob(pair[1]))]
    assert not idle, f"package-data that matches no file: {idle}"


def test_files_can_be_read_in_one_sitting() -> None:
    ours = [path for _, path in product_files() if path.suffix == ".py"]
    for folder in ("tests", "benchmarks", "examples", "scripts"):
        ours += (ROOT / folder).rglob("*.py")
    too_long = {}
    for path in ours:
        name = path.relative_to(ROOT).as_posix()
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > (LONGEST_TEST if name.startswith("tests/") else LONGEST):
            too_long[name] = count
    assert not too_long


def test_adapters_are_registered_in_one_place() -> None:
    known = [
        "adapters",
        "converters",
        "datasets",
        "editors",
        "model_types",
        "plugins",
        "regions",
        "rules",
    ]
    assert set(ENTRY_POINTS) == {f"vg_engine.{group}" for group in known}
    adapters = set(ENTRY_POINTS["vg_engine.adapters"].values())
    assert set(ENTRY_POINTS["vg_engine.model_types"].values()) <= adapters
    for value in (value for group in ENTRY_POINTS.values() for value in group.values()):
        file = ROOT / "src" / value.partition(":")[0].replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__init__.py").is_file(), value


def test_what_is_installed_knows_todays_entry_points() -> None:
    for group, wanted in ENTRY_POINTS.items():
        entries = importlib.metadata.entry_points(group=group)
        found = {e.name: e.value for e in entries if e.dist and e.dist.name == "vg-engine"}
        assert found == wanted, "pyproject.toml has changed: run `pip install --no-deps -e .` again"
