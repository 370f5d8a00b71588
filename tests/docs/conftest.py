"""What tests of the pages share: a page taken apart, and a folder with what its commands name."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from skimage import data
from typer.testing import CliRunner, Result

from vg_engine.cli.main import app
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 80, 60
PICTURES = range(1, 9)
SPLITS = {1: "train", 2: "train", 3: "train", 4: "val", 5: "val", 6: "testA", 7: "testB", 8: "test"}
BOXES = ((5, 10, 30, 40), (45, 10, 70, 40))


class Page:
    """A page of the documentation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (ROOT / "docs" / name).read_text(encoding="utf-8")

    def blocks(self, kind: str) -> list[str]:
        """What stands between fences of that language."""
        return re.findall(rf"^```{kind}\n(.*?)^```$", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def commands(self) -> list[list[str]]:
        """What it tells to type, word by word, without the program's name."""
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        assert all(line.startswith("vg-engine ") for line in lines), lines
        return [shlex.split(line)[1:] for line in lines]

    def run(self, number: int, name: str = "guide") -> dict[str, Any]:
        """The names that its Python block of that number makes, as the module `name`."""
        scope: dict[str, Any] = {"__name__": name}
        block = self.blocks("python")[number]
        exec(compile(block, self.name, "exec", dont_inherit=True), scope)
        return scope

    @property
    def points(self) -> dict[str, dict[str, str]]:
        """The entry points that it writes, by group."""
        (block,) = self.blocks("toml")
        found: dict[str, dict[str, str]] = tomllib.loads(block)["project"]["entry-points"]
        return found

    def check_links(self) -> None:
        """Every page and every heading that it links to exists."""
        for link in re.findall(r"\]\(([^)]+)\)", self.text):
            if not link.startswith("http"):
                name, _, anchor = link.partition("#")
                target = ROOT / "docs" / (name or self.name)
                assert target.is_file(), link
                assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link

    def marked(self, name: str) -> str:
        """What stands between `<!-- name -->` and `<!-- /name -->`."""
        found = re.search(
            rf"<!-- {re.escape(name)} -->\n(.+?)<!-- /{re.escape(name)} -->", self.text, re.DOTALL
        )
        assert found is not None, f"{self.name} has no {name}"
        return found[1]

    def table(self, name: str) -> list[list[str]]:
        """The cells of a marked table without its head."""
        return self.rows(self.marked(name))[1:]

    def rows(self, text: str) -> list[list[str]]:
        """The cells of a table, the head among them."""
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert len({len(line) for line in cells}) == 1, text
        return [cells[0], *cells[2:]]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.fixture
def page() -> type[Page]:
    return Page


@pytest.fixture
def taken() -> Callable[..., dict[str, str]]:
    """The options of a command as a page tells them: all names of each -> default."""

    def take(*names: str) -> dict[str, str]:
        command: Any = typer.main.get_command(app)
        for name in names:
            command = command.commands[name]
        return {
            ", ".join(sorted(parameter.opts, key=len, reverse=True)): shown(parameter.default)
            for parameter in command.params
            if parameter.opts[0].startswith("--")
        }

    return take


def shown(default: object) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return "yes" if default else "no"
    return str(default)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VG_ENGINE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def install(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Mapping[str, Any], Mapping[str, Mapping[str, str]]], None]:
    """Installs a package: a module with these names, and its entry points by group."""

    def put(name: str, members: Mapping[str, Any], points: Mapping[str, Mapping[str, str]]) -> None:
        site = tmp_path_factory.mktemp("site")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [
            line
            for group, entries in points.items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()

    return put


@pytest.fixture
def cells(install: Any) -> tuple[str, ...]:
    """Options for a model that costs nothing: its head L2H1 looks at the cell that is named."""
    theirs = runpy.run_path(str(ROOT / "tests/front_door/conftest.py"))
    install(
        "vg_cells",
        {"CellAdapter": theirs["CellAdapter"]},
        {
            "vg_engine.adapters": {"cell": "vg_cells:CellAdapter"},
            "vg_engine.model_types": {"cells": "vg_cells:CellAdapter"},
        },
    )
    return "--adapter", "cell", "--model", "cells"


@pytest.fixture
def call() -> Callable[..., Result]:
    """Runs a command, which must end well unless another code is expected."""

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, f"{shlex.join(arguments)}\n{done.output}"
        return done

    return run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: examples, a photograph, a checkpoint, and every data set in small."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    Image.fromarray(data.coffee()).save("photo.jpg")
    tiny_llava(Path("checkpoints/llava-1.5-7b-hf"), layers=4, hidden=64)
    for name, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        folder = _instances(Path("data/refer") / name)
        (folder / f"refs({by}).p").write_bytes(pickle.dumps(references(), protocol=2))
    several = [{**one, "ann_id": [one["ann_id"]]} for one in references()]
    several[0]["ann_id"] = [-1]
    folder = _instances(Path("data/refer/grefcoco"))
    (folder / "grefs(unc).json").write_text(json.dumps(several))
    _pictures(Path("data/refer/images/train2014"))
    _instances(Path("data/shop"))
    _pictures(Path("data/shop/pics"))
    _reasonseg(Path("data/ReasonSeg/val"))
    _parquet(Path("data/hub/RefCOCO/data"))
    return tmp_path


def picture(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def file_name(number: int) -> str:
    return f"COCO_train2014_{number:012d}.jpg"


def _pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in PICTURES:
        picture(number).save(folder / file_name(number))


def outline(box: tuple[int, ...]) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def annotations() -> list[dict[str, Any]]:
    return [
        {
            "id": 10 * number + k,
            "image_id": number,
            "category_id": 1 + k,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "segmentation": [outline(box)],
            "iscrowd": 0,
            "caption": "the cup",
        }
        for number in PICTURES
        for k, box in enumerate(BOXES)
    ]


def references() -> list[dict[str, Any]]:
    words = "the cup on the left", "the plate on the right"
    return [
        {
            "ref_id": one["id"],
            "ann_id": one["id"],
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "split": SPLITS[one["image_id"]],
            "file_name": file_name(one["image_id"]),
            "sentences": [{"sent_id": one["id"], "sent": text, "raw": text, "tokens": []}],
            "sent_ids": [one["id"]],
        }
        for one, text in zip(annotations(), words * len(PICTURES), strict=True)
    ]


def _instances(folder: Path) -> Path:
    folder.mkdir(parents=True)
    held = {
        "images": [
            {"id": number, "file_name": file_name(number), "width": WIDTH, "height": HEIGHT}
            for number in PICTURES
        ],
        "annotations": annotations(),
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}],
    }
    (folder / "instances.json").write_text(json.dumps(held))
    return folder


def _reasonseg(folder: Path) -> None:
    folder.mkdir(parents=True)
    points = np.array(outline(BOXES[0])).reshape(-1, 2).tolist()
    shapes = [{"label": "target", "points": points}]
    record = {"shapes": shapes, "text": ["what holds coffee"], "is_sentence": True}
    (folder / "a.json").write_text(json.dumps(record))
    picture(1).save(folder / "a.jpg")


def _parquet(folder: Path) -> None:
    folder.mkdir(parents=True)
    held = []
    for number in PICTURES:
        buffer = io.BytesIO()
        picture(number).save(buffer, "PNG")
        left, top, right, bottom = BOXES[0]
        held.append(
            {
                "image": {"bytes": buffer.getvalue(), "path": None},
                "answer": ["the cup on the left", "left cup"],
                "segmentation": [float(value) for value in outline(BOXES[0])],
                "bbox": [float(value) for value in (left, top, right - left, bottom - top)],
                "iscrowd": 0,
                "file_name": f"COCO_train2014_{number:012d}_{number}.jpg",
            }
        )
    pq.write_table(pa.Table.from_pylist(held), folder / "val-00000-of-00001.parquet")
