"""The folders, their links, pyproject.toml and what is built of them agree."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "model_adapters", "plugins", "registry")
LARGEST = 12_000_000
LONGEST = 400
LONGEST_TEST = 500  # the tests of one file of the product stay together
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
POINTS = PROJECT["entry-points"]
# The folder that each import name of the product stands for.
TEMPLATE = ROOT / "examples/vg-engine-adapter-template"
FOLDERS = {"vg_engine": ROOT / "src/vg_engine"} | {f"vg_engine.{r}": ROOT / r for r in ROOMS}


def product_files() -> dict[str, Path]:
    """Every file that belongs to the product, by its path in a wheel."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            linked = package == "vg_engine" and inside.parts[0] in ROOMS
            if path.is_file() and "__pycache__" not in path.parts and not linked:
                found[f"{package.replace('.', '/')}/{inside.as_posix()}"] = path
    return found


def template_files() -> set[str]:
    """Every file of the template that `vg-engine new-adapter` fills in, by its path in a wheel."""
    kept = ("*.md", "*.toml", "src/*/*.py", "tests/*.py")
    found = [path.relative_to(TEMPLATE) for each in kept for path in TEMPLATE.glob(each)]
    return {f"vg_engine/adapter_template/{path.as_posix()}" for path in found}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=os.environ | environment,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel that was built from it."""
    here = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    for folder in ("src", *ROOMS, TEMPLATE.relative_to(ROOT)):
        shutil.copytree(ROOT / folder, here / folder, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, here / name)
    run("-m", "build", "--no-isolation", "--outdir", here / "dist", cwd=here)
    return here / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {name for name in names if not re.match(r"vg_engine-[^/]+\.dist-info/", name)}
    assert shipped == product_files().keys() | template_files()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < LARGEST


def test_the_sdist_holds_the_sources_once(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "src/vg_engine/py.typed"} <= names
    assert {f"{room}/__init__.py" for room in ROOMS} <= names
    doubled = tuple(f"src/vg_engine/{room}/" for room in ROOMS)
    assert not {name for name in names if name.startswith(doubled)}


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target)
    run(*install, wheel, cwd=tmp_path)
    where = "import vg_engine, vg_engine.core as core; print(vg_engine.__file__, core.__file__)"
    answer = run("-c", where, cwd=tmp_path, PYTHONPATH=str(target))
    assert [Path(line).is_relative_to(target) for line in answer.split()] == [True, True]
    page = run("-m", "vg_engine", "--help", cwd=tmp_path, PYTHONPATH=str(target))
    assert "usage" in page.lower()
    run("-m", "vg_engine", "new-adapter", "zebra", cwd=tmp_path, PYTHONPATH=str(target))
    made = {path.suffix for path in (tmp_path / "vg-engine-zebra").rglob("*") if path.is_file()}
    assert made == {".md", ".py", ".toml"}


def test_the_editable_install_finds_the_checkout_from_anywhere(tmp_path: Path) -> None:
    names = [f"vg_engine.{room}" for room in ROOMS]
    where = f"import {', '.join(names)}; print({', '.join(f'{n}.__file__' for n in names)})"
    found = [Path(line).resolve() for line in run("-c", where, cwd=tmp_path).split()]
    assert found == [ROOT / room / "__init__.py" for room in ROOMS]


def test_what_is_installed_is_what_was_pinned() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"not an exact public version: {line}"
            pins[name.lower().replace("_", "-")] = version
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        name = wanted.name.lower()
        assert name in pins, f"{name} is a dependency and has no pin in constraints.txt"
        assert wanted.specifier.contains(pins[name]), f"{text} refuses its own pin {pins[name]}"
        installed = importlib.metadata.version(name).partition("+")[0]
        if installed != pins[name]:
            print(f"{name} {installed} is installed here; {pins[name]} is what was tested")


def test_rooms_links_and_mapping_are_alike() -> None:
    links = {p.name: p.readlink() for p in (ROOT / "src/vg_engine").iterdir() if p.is_symlink()}
    assert links.pop("adapter_template") == Path("../..") / TEMPLATE.relative_to(ROOT)
    assert links == {room: Path("../..") / room for room in ROOMS}
    expected = {name: folder.relative_to(ROOT).as_posix() for name, folder in FOLDERS.items()}
    assert SETUPTOOLS["package-dir"] == expected
    assert SETUPTOOLS["include-package-data"] is False
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert any(FOLDERS[package].glob(pattern)), f"{package}: {pattern} matches no file"


def test_python_files_lie_in_packages_and_can_be_read_in_one_sitting() -> None:
    ours = [path for path in product_files().values() if path.suffix == ".py"]
    bare = {str(path.parent) for path in ours if not (path.parent / "__init__.py").is_file()}
    assert not bare, f"folders with Python and no __init__.py: {sorted(bare)}"
    for folder in ("tests", "benchmarks", "examples", "scripts"):
        ours += (ROOT / folder).rglob("*.py")
    for path in ours:
        longest = LONGEST_TEST if path.is_relative_to(ROOT / "tests") else LONGEST
        assert len(path.read_text(encoding="utf-8").splitlines()) <= longest, path


def test_adapters_are_registered_in_one_place() -> None:
    known = "adapters converters datasets editors model_types plugins regions rules"
    assert " ".join(sorted(group.removeprefix("vg_engine.") for group in POINTS)) == known
    adapters = set(POINTS["vg_engine.adapters"].values())
    assert set(POINTS["vg_engine.model_types"].values()) <= adapters
    for group, wanted in POINTS.items():
        for value in wanted.values():
            file = ROOT / "src" / value.partition(":")[0].replace(".", "/")
            assert file.with_suffix(".py").is_file() or (file / "__init__.py").is_file(), value
        entries = importlib.metadata.entry_points(group=group)
        found = {e.name: e.value for e in entries if e.dist and e.dist.name == "vg-engine"}
        assert found == wanted, "pyproject.toml has changed: run `pip install --no-deps -e .` again"
