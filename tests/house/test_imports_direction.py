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
ROOMS = frozenset({"registry", "plugins", "model_adapters", "core"})
FOLDERS = {"src/vg_engine": DOOR} | {room: room for room in sorted(ROOMS)}
MAY_IMPORT = {room: {room, "core"} for room in ROOMS} | {DOOR: ROOMS | {DOOR}}
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


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything a module imports, wherever in it that happens."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                # `from vg_engine import core` names a room, `from vg_engine import load` the door
                yield node.lineno, f"{base}.{alias.name}" if base == DOOR else base
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            named = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "name")]
            for each in named if called in BY_NAME else ():
                # Of an f-string, what comes before its first hole.
                first = each.values[0] if isinstance(each, ast.JoinedStr) else each
                if isinstance(first, ast.Constant):
                    yield node.lineno, str(first.value).replace(":", ".")


def complaint(room: str, name: str) -> str | None:
    """Why a file of `room` may not import `name`, or None."""
    top, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    target = target if target in ROOMS else DOOR
    libraries = f"the standard library, {', '.join(sorted(CORE_LIBRARIES))}"
    rules = {
        "is relative: write it in full": not top,
        f"a bare name makes a second copy: import {DOOR}.{name}": top in ROOMS,
        "this library is not a dependency of ours": top in NOWHERE,
        f"{room} may not import {target}": top == DOOR and target not in MAY_IMPORT[room],
        f"core imports nothing but {libraries}": room == "core"
        and top not in CORE_LIBRARIES | sys.stdlib_module_names | {DOOR},
    }
    return next((why for why, broken in rules.items() if broken), None)


def violations(root: Path) -> list[str]:
    """Every import under `root` that runs the wrong way, one line each."""
    return [
        f"{path.relative_to(root)}:{line}: {name}: {why}"
        for path, room, _ in sources(root)
        for line, name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if (why := complaint(room, name))
    ]


def circles(root: Path) -> list[str]:
    """A circle of modules that import each other at run time, if there is one."""
    modules = {module: path for path, _, module in sources(root)}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        wanted: set[str] = set()
        for node in at_run_time(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.Import):
                wanted.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= {name if name in modules else str(node.module) for name in inner}
        graph[module] = wanted & modules.keys() - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


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


def test_this_house_obeys() -> None:
    assert {room for _, room, _ in sources(ROOT)} >= ROOMS, "every room is read"
    assert not violations(ROOT), "\n".join(violations(ROOT))
    assert circles(ROOT) == []
    entries = [p.name for p in (ROOT / "core").iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 10, sorted(entries)


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


TRIED = "try:\n    from vg_engine.core.a import y\nexcept ImportError:\n    y = 1"
LATER = (
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vg_engine.core.a import X\n"
    "def late():\n    from vg_engine.core import a\n"
)
PACKAGE_B = "from vg_engine.core import b"
PAGE, RESULT = "from vg_engine.html import page", "from vg_engine.x import Result"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"core/a.py": PACKAGE_B, "core/b.py": "from vg_engine.core.a import x"}, True),
        ({"core/a.py": "import vg_engine.core.b", "core/b.py": TRIED}, True),
        ({"src/vg_engine/x.py": PAGE, "src/vg_engine/html/page.py": RESULT}, True),
        ({"core/a.py": PACKAGE_B, "core/b.py": LATER}, False),
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str], found: bool) -> None:
    plant(tmp_path, files)
    assert bool(circles(tmp_path)) == found


WRONG = [
    ("core/x.py", "import vg_engine.registry"),
    ("core/x.py", "import vg_engine"),
    ("core/x.py", "from vg_engine import plugins"),
    ("core/x.py", "from vg_engine import load"),
    ("core/x.py", "from vg_engine.model_adapters.shared.huggingface import Thing"),
    ("core/x.py", "from .. import registry"),
    ("core/x.py", "from ..plugins import manager"),
    ("core/x.py", "def late():\n    import vg_engine.plugins.manager"),
    ("core/x.py", "if TYPE_CHECKING:\n    from vg_engine.registry import Entry"),
    ("core/x.py", "import importlib\nimportlib.import_module('vg_engine.registry')"),
    ("core/x.py", "import_module('..registry', 'vg_engine.core')"),
    ("core/x.py", "import_module(name='vg_engine.plugins')"),
    ("core/x.py", "import_module(f'vg_engine.plugins.{name}')"),
    ("core/x.py", "resolve_name('vg_engine.plugins:Manager')"),
    ("core/x.py", "__import__('transformers')"),
    ("core/x.py", "from PIL import Image"),
    ("core/x.py", "import core.rows"),
    ("plugins/x.py", "from vg_engine.registry import heads"),
    ("plugins/datasets/x.py", "from vg_engine.model_adapters import huggingface"),
    ("registry/x.py", "from vg_engine.plugins import manager"),
    ("registry/x.py", "import vg_engine.cli"),
    ("model_adapters/x.py", "from vg_engine.registry import heads"),
    ("model_adapters/x.py", "import torchvision"),
    ("src/vg_engine/x.py", "import timm"),
    ("src/vg_engine/x.py", "from registry import heads"),
]
RIGHT = [
    ("core/x.py", "from vg_engine.core.attention.rows import Rows"),
    ("core/x.py", "import math, numpy, torch, scipy.ndimage, pluggy, jaxtyping, cv2"),
    ("plugins/datasets/x.py", "from vg_engine.core import errors\nimport PIL.Image"),
    ("registry/x.py", "import yaml\nfrom vg_engine.core.errors import VGError"),
    ("model_adapters/x.py", "import transformers\nfrom vg_engine.model_adapters import base"),
    ("src/vg_engine/x.py", "from vg_engine import core, registry\nimport vg_engine.plugins"),
    ("src/vg_engine/x.py", "import_module('vg_engine.core')"),
]


@pytest.mark.parametrize(("file", "line"), WRONG)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    plant(tmp_path, {file: line})
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:{1 + line.count(chr(10))}: ")


@pytest.mark.parametrize(("file", "line"), RIGHT)
def test_an_import_that_runs_the_right_way_passes(tmp_path: Path, file: str, line: str) -> None:
    plant(tmp_path, {file: line})
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
