"""The folders, their links, the mapping in pyproject.toml and the size of files agree."""

import fnmatch
import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "model_adapters", "plugins", "registry")
LONGEST = 400
LONGEST_TEST = 500  # the tests of one file of the product stay together


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def folders() -> dict[str, Path]:
    """The folder that each import name of the product stands for."""
    return {"vg_engine": ROOT / "src/vg_engine"} | {f"vg_engine.{r}": ROOT / r for r in ROOMS}


def product_files() -> list[tuple[str, Path]]:
    """Every file that belongs to the product, with the package it belongs to."""
    return [
        (package, path)
        for package, folder in folders().items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and not (package == "vg_engine" and path.relative_to(folder).parts[0] in ROOMS)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_linked_where_it_is_imported(room: str) -> None:
    link = ROOT / "src" / "vg_engine" / room
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / room
    assert (ROOT / room / "__init__.py").is_file()


def test_links_and_mapping_are_alike(settings: dict[str, Any]) -> None:
    mapping = settings["tool"]["setuptools"]["package-dir"]
    expected = {name: folder.relative_to(ROOT).as_posix() for name, folder in folders().items()}
    assert mapping == expected
    links = {path.name for path in (ROOT / "src/vg_engine").iterdir() if path.is_symlink()}
    assert {f"vg_engine.{name}" for name in links} | {"vg_engine"} == set(mapping)


def test_every_folder_with_python_is_packaged(settings: dict[str, Any]) -> None:
    found = {
        ".".join([package, *path.relative_to(folders()[package]).parts[:-1]])
        for package, path in product_files()
        if path.suffix == ".py"
    }
    listed = settings["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(found | {"vg_engine"})


def test_every_package_has_its_docstring_file() -> None:
    bare = {
        str(path.parent.relative_to(ROOT))
        for _, path in product_files()
        if path.suffix == ".py" and not (path.parent / "__init__.py").is_file()
    }
    assert not bare, f"folders with Python and no __init__.py: {sorted(bare)}"


def test_data_is_shipped_by_name(settings: dict[str, Any]) -> None:
    assert settings["tool"]["setuptools"]["include-package-data"] is False
    patterns = settings["tool"]["setuptools"]["package-data"]
    forgotten = [
        path.relative_to(ROOT).as_posix()
        for package, path in product_files()
        if path.suffix != ".py"
        and not any(
            fnmatch.fnmatchcase(path.relative_to(folders()[package]).as_posix(), loose)
            for pattern in patterns.get(package, [])
            for loose in (pattern, pattern.removeprefix("**/"))
        )
    ]
    assert not forgotten, f"neither Python nor in package-data: {forgotten}"


def test_each_pattern_finds_something(settings: dict[str, Any]) -> None:
    patterns = settings["tool"]["setuptools"]["package-data"]
    idle = [
        f"{package}: {pattern}"
        for package, wanted in patterns.items()
        for pattern in wanted
        if not any(folders()[package].glob(pattern))
    ]
    assert not idle, f"package-data that matches no file: {idle}"


def test_files_can_be_read_in_one_sitting() -> None:
    ours = [path for _, path in product_files()]
    for folder in ("tests", "benchmarks", "examples", "scripts"):
        ours += sorted((ROOT / folder).rglob("*.py"))
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in ours
        if path.suffix == ".py"
    }
    ranked = sorted(lengths.items(), key=lambda entry: -entry[1])
    report = "\n".join(f"{count:5d}  {name}" for name, count in ranked[:10])
    print(f"the longest of {len(lengths)} files:\n{report}")
    assert all(
        count <= (LONGEST_TEST if name.startswith("tests/") else LONGEST) for name, count in ranked
    ), report


def test_adapters_are_registered_in_one_place(settings: dict[str, Any]) -> None:
    groups = settings["project"]["entry-points"]
    known = (
        "adapters",
        "converters",
        "datasets",
        "editors",
        "model_types",
        "plugins",
        "regions",
        "rules",
    )
    assert set(groups) == {f"vg_engine.{group}" for group in known}
    adapters = set(groups["vg_engine.adapters"].values())
    assert set(groups["vg_engine.model_types"].values()) <= adapters
    for group in groups.values():
        for value in group.values():
            module, _, _ = value.partition(":")
            file = ROOT / "src" / module.replace(".", "/")
            assert file.with_suffix(".py").is_file() or (file / "__init__.py").is_file(), value


def test_what_is_installed_knows_todays_entry_points(settings: dict[str, Any]) -> None:
    for group, wanted in settings["project"]["entry-points"].items():
        found = {
            entry.name: entry.value
            for entry in importlib.metadata.entry_points(group=group)
            if entry.dist and entry.dist.name == "vg-engine"
        }
        assert found == wanted, "pyproject.toml has changed: run `pip install --no-deps -e .` again"
