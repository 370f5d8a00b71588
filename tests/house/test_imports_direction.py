"""Imports run one way: front door -> registry, plugins, model_adapters -> core."""

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOOR = "vg_engine"
FOLDERS = {
    "src/vg_engine": DOOR,
    "registry": "registry",
    "plugins": "plugins",
    "model_adapters": "model_adapters",
    "core": "core",
}
ROOMS = frozenset(FOLDERS.values()) - {DOOR}
MAY_IMPORT = {
    DOOR: ROOMS | {DOOR},
    "registry": {"registry", "core"},
    "plugins": {"plugins", "core"},
    "model_adapters": {"model_adapters", "core"},
    "core": {"core"},
}
CORE_LIBRARIES = frozenset({"cv2", "jaxtyping", "numpy", "pluggy", "scipy", "torch"})
NOWHERE = frozenset({"timm", "torchvision"})
BY_NAME = frozenset({"__import__", "find_spec", "import_module", "resolve_name", "run_module"})
FAMILIES = re.compile(
    r"llava|internvl|intern_vl|qwen|deepseek|mllama|llama|vicuna|gemma|idefics|smolvlm|molmo"
    r"|pixtral|minicpm|cogvlm|siglip|florence|kosmos|janus|instructblip|\bblip|\bglm|\bovis|\bphi[34]",
    re.IGNORECASE,
)


def sources(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Every file of the product: its path, its room and the full name of its module."""
    for folder, room in FOLDERS.items():
        base = root / folder
        for path in sorted(base.rglob("*.py")):
            inside = path.relative_to(base)
            if room == DOOR and inside.parts[0] in ROOMS:
                continue  # reached through a link: the room itself is read below
            package = DOOR if room == DOOR else f"{DOOR}.{room}"
            parts = [*inside.parts[:-1], *([] if inside.stem == "__init__" else [inside.stem])]
            yield path, room, ".".join([package, *parts])


def absolute(name: str, level: int, package: str) -> str:
    """What a relative name means in `package`; a name that climbs out comes back as dots."""
    if not level:
        return name
    parts = package.split(".")
    if level > len(parts):
        return "." * level + name
    base = parts[: len(parts) - level + 1]
    return ".".join([*base, *([name] if name else [])])


def text(node: ast.expr | None, package: str) -> str | None:
    """A name spelled out in the source; of an f-string, what comes before its first hole."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=[ast.Constant(value=str(value)), *_]):
            return value
        case ast.Name(id="__name__" | "__package__"):
            return package
    return None


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything a module imports, wherever in it that happens."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level, package)
            for alias in node.names:
                # `from vg_engine import core` names a room, `from vg_engine import load` the door
                yield node.lineno, f"{base}.{alias.name}" if base == DOOR else base
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            first = text(node.args[0] if node.args else keywords.get("name"), package)
            if called in BY_NAME and first is not None:
                anchor = node.args[1] if len(node.args) > 1 else keywords.get("package")
                name = first.lstrip(".").replace(":", ".")
                level = len(first) - len(first.lstrip("."))
                yield node.lineno, absolute(name, level, text(anchor, package) or package)


def complaint(room: str, name: str, path: Path) -> str | None:
    """Why a file of `room` may not import `name`, or None."""
    top, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    target = target if target in ROOMS else DOOR
    libraries = f"the standard library, {', '.join(sorted(CORE_LIBRARIES))}"
    rules = {
        "climbs out of the package": not top,
        f"a bare name makes a second copy: import {DOOR}.{name}": top in ROOMS,
        "this library is not a dependency of ours": top in NOWHERE,
        f"{room} may not import {target}": top == DOOR and target not in MAY_IMPORT[room],
        f"core imports nothing but {libraries}": room == "core"
        and top not in CORE_LIBRARIES | sys.stdlib_module_names | {DOOR},
    }
    return next((why for why, broken in rules.items() if broken), None)


def violations(root: Path) -> list[str]:
    """Every import under `root` that runs the wrong way, one line each."""
    found = []
    for path, room, module in sources(root):
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        inside = path.relative_to(root)
        for line, name in imported(tree, package):
            why = complaint(room, name, inside)
            if why:
                found.append(f"{inside}:{line}: {name}: {why}")
    return found


def circles(root: Path) -> list[str]:
    """Every circle of modules that import each other at run time, one line each."""
    modules = {module: path for path, _, module in sources(root)}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        wanted: set[str] = set()
        for node in at_run_time(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.Import):
                wanted.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = absolute(node.module or "", node.level, package)
                inner = {f"{base}.{alias.name}" for alias in node.names}
                wanted |= {name if name in modules else base for name in inner}
        graph[module] = {name for name in wanted if name in modules and name != module}
    found = []
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        found.append(" -> ".join(error.args[1]))
    return found


def at_run_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, those for type checkers left out."""
    for node in body:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from at_run_time(node.orelse)
            case ast.If() | ast.Try() | ast.With():
                yield from at_run_time(node.body)
            case _:
                yield node


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(ROOT) == []


@pytest.mark.parametrize(
    "files",
    [
        {
            "core/a.py": "from vg_engine.core import b",
            "core/b.py": "from vg_engine.core.a import x",
        },
        {
            "core/a.py": "import vg_engine.core.b",
            "core/b.py": "from .c import x",
            "core/c.py": "try:\n    from vg_engine.core.a import y\nexcept ImportError:\n    y = 1",
        },
        {
            "src/vg_engine/x.py": "from vg_engine.html import page",
            "src/vg_engine/html/page.py": "from vg_engine.x import Result",
        },
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(circles(tmp_path)) == 1


def test_what_is_imported_later_or_for_types_alone_makes_no_circle(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/a.py").write_text("from vg_engine.core import b")
    (tmp_path / "core/b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vg_engine.core.a import X\n"
        "def late():\n    from vg_engine.core import a\n"
    )
    assert circles(tmp_path) == []


def test_core_has_few_rooms() -> None:
    entries = [p.name for p in (ROOT / "core").iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 10, sorted(entries)


def test_imports_of_this_house_run_one_way() -> None:
    assert not violations(ROOT), "\n".join(violations(ROOT))


def test_every_room_is_read() -> None:
    assert {room for _, room, _ in sources(ROOT)} >= ROOMS


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/x.py", "import vg_engine.registry"),
        ("core/x.py", "import vg_engine"),
        ("core/x.py", "from vg_engine import plugins"),
        ("core/x.py", "from vg_engine import load"),
        ("core/x.py", "from vg_engine.model_adapters.shared.huggingface import Thing"),
        ("core/x.py", "from .. import registry"),
        ("core/x.py", "from ..plugins import manager"),
        ("core/metrics/x.py", "from ...registry.heads import find"),
        ("core/metrics/__init__.py", "from ...registry import find"),
        ("core/x.py", "from .... import anything"),
        ("core/x.py", "def late():\n    import vg_engine.plugins.manager"),
        ("core/x.py", "if TYPE_CHECKING:\n    from vg_engine.registry import Entry"),
        ("core/x.py", "import importlib\nimportlib.import_module('vg_engine.registry')"),
        ("core/x.py", "import_module('..registry', 'vg_engine.core')"),
        ("core/x.py", "import_module('..registry', package=__package__)"),
        ("core/x.py", "import_module(name='vg_engine.plugins')"),
        ("core/x.py", "import_module(f'vg_engine.plugins.{name}')"),
        ("core/x.py", "resolve_name('vg_engine.plugins:Manager')"),
        ("core/x.py", "__import__('transformers')"),
        ("core/x.py", "import transformers"),
        ("core/x.py", "import yaml"),
        ("core/x.py", "from PIL import Image"),
        ("core/x.py", "from rich.console import Console"),
        ("core/x.py", "import typer"),
        ("core/x.py", "import core.rows"),
        ("plugins/x.py", "from vg_engine.registry import heads"),
        ("plugins/datasets/x.py", "from vg_engine.model_adapters import huggingface"),
        ("registry/x.py", "from vg_engine.plugins import manager"),
        ("registry/x.py", "from ..plugins import manager"),
        ("registry/x.py", "import vg_engine.cli"),
        ("model_adapters/x.py", "from vg_engine.registry import heads"),
        ("model_adapters/x.py", "import torchvision"),
        ("src/vg_engine/x.py", "import timm"),
        ("src/vg_engine/x.py", "from registry import heads"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:{1 + line.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/x.py", "from vg_engine.core.attention.rows import Rows"),
        ("core/x.py", "from . import rows"),
        ("core/metrics/x.py", "from ..rows import Rows"),
        ("core/x.py", "import math, numpy, torch, scipy.ndimage, pluggy, jaxtyping"),
        ("core/attention/criteria.py", "import cv2"),
        ("plugins/datasets/x.py", "from vg_engine.core import errors\nimport PIL.Image"),
        ("plugins/datasets/x.py", "from .. import manager"),
        ("registry/x.py", "import yaml\nfrom vg_engine.core.errors import VGError"),
        ("model_adapters/x.py", "import transformers\nfrom vg_engine.model_adapters import base"),
        ("src/vg_engine/x.py", "from vg_engine import core, registry\nimport vg_engine.plugins"),
        ("src/vg_engine/x.py", "import_module('vg_engine.core')"),
    ],
)
def test_an_import_that_runs_the_right_way_passes(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    assert violations(tmp_path) == []


@pytest.mark.parametrize("room", ["core", "plugins"])
def test_models_have_no_names_here(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {hit.group()}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for hit in FAMILIES.finditer(line)
    ]
    assert not found, "names of models belong in model_adapters and registry:\n" + "\n".join(found)


def test_the_word_list_knows_a_family_when_it_sees_one() -> None:
    for name in ("LLaVA-1.5", "InternVLAdapter", "qwen2_5_vl", "DeepSeek-VL", "Mllama"):
        assert FAMILIES.search(name)
    for word in ("glimpse", "clip", "philosophy", "blipped"[1:]):
        assert not FAMILIES.search(word)
