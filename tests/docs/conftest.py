"""What tests of the pages share: a page taken apart, and a folder with what its commands name."""

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
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 80, 60
PICTURES = range(1, 9)
SPLITS = ("train", "train", "train", "val", "val", "testA", "testB", "test")  # of the pictures
BOXES = ((5, 10, 30, 40), (45, 10, 70, 40))


class Page:
    """A page of the documentation."""

    def __init__(self, name):
        self.path = ROOT / "docs" / name
        self.text = self.path.read_text(encoding="utf-8")

    def blocks(self, kind):
        """What stands between fences of that language."""
        return re.findall(rf"^```{kind}\n(.*?)^```$", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def commands(self):
        """What it tells to type, word by word, without the program's name."""
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        assert all(line.startswith("vg-engine ") for line in lines), lines
        return [shlex.split(line)[1:] for line in lines]

    def run(self, *numbers, name="guide"):
        """The names that its Python blocks of these numbers make, as the module `name`."""
        scope = {"__name__": name}
        for number in numbers:
            block = self.blocks("python")[number]
            exec(compile(block, self.path.name, "exec", dont_inherit=True), scope)
        return scope

    @property
    def points(self):
        """The entry points that it writes, by group."""
        (block,) = self.blocks("toml")
        return tomllib.loads(block)["project"]["entry-points"]

    def check_links(self):
        """Every page and every heading that it links to exists; how many links it has."""
        links = re.findall(r"\]\(([^)]+)\)", self.text)
        for link in (one for one in links if not one.startswith("http")):
            name, _, anchor = link.partition("#")
            target = self.path.parent / name if name else self.path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link
        return len(links)

    def marked(self, name):
        """What stands between `<!-- name -->` and `<!-- /name -->`."""
        pattern = rf"<!-- {re.escape(name)} -->\n(.+?)<!-- /{re.escape(name)} -->"
        found = re.search(pattern, self.text, re.DOTALL)
        assert found is not None, f"{self.path.name} has no {name}"
        return found[1]

    def table(self, name):
        """The cells of a marked table without its head."""
        return self.rows(self.marked(name))[1:]

    def rows(self, text):
        """The cells of a table, the head among them."""
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert len({len(line) for line in cells}) == 1, text
        return [cells[0], *cells[2:]]

    @staticmethod
    def quoted(cell):
        return re.findall(r"`([^`]+)`", cell)


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.fixture
def page():
    return Page


@pytest.fixture
def taken():
    """The options of a command as a page tells them: all names of each -> default."""

    words = {"None": "none", "True": "yes", "False": "no"}

    def take(*names):
        command = typer.main.get_command(app)
        for name in names:
            command = command.commands[name]
        options = [one for one in command.params if one.opts[0].startswith("--")]
        named = {", ".join(sorted(one.opts, key=len, reverse=True)): one for one in options}
        defaults = {names: str(one.default) for names, one in named.items()}
        return {names: words.get(default, default) for names, default in defaults.items()}

    return take


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VG_ENGINE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Installs a package: a module with these names, and its entry points by group."""

    def put(name, members, points):
        site = tmp_path_factory.mktemp("site")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        with (info / "entry_points.txt").open("w") as file:
            for group, entries in points.items():
                file.write(f"[{group}]\n")
                file.writelines(f"{key} = {value}\n" for key, value in entries.items())
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()

    return put


@pytest.fixture
def cells(install):
    """Options for a model that costs nothing: its head L2H1 looks at the cell that is named."""
    place = "vg_cells:CellAdapter"
    points = {"vg_engine.adapters": {"cell": place}, "vg_engine.model_types": {"cells": place}}
    points |= {"vg_engine.plugins": {"sure": "vg_cells:Sure"}}
    theirs = runpy.run_path(str(ROOT / "tests/front_door/conftest.py"))
    install("vg_cells", {name: theirs[name] for name in ("CellAdapter", "Sure")}, points)
    return "--adapter", "cell", "--model", "cells"


@pytest.fixture
def call():
    """Runs a command, which must end well unless another code is expected."""

    def run(*arguments, code=0):
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, f"{shlex.join(arguments)}\n{done.output}"
        return done

    return run


@pytest.fixture
def six(tmp_path, monkeypatch):
    """Two data sets, each of six pictures with two sentences; `r,c` is cell (r, c) of 6 x 6."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "other"):
        lines = []
        for number in range(6):
            Image.new("RGB", (60, 60), (number, 0, len(name))).save(f"{name}{number}.png")
            for row, column in ((number, 2), (5 - number, 4)):
                box = [10 * column, 10 * row, 10 * column + 10, 10 * row + 10]
                line = {"image": f"{name}{number}.png", "text": f"{row},{column}", "box": box}
                lines.append(line | {"mask": [outline(box)], "groups": {"row": str(row)}})
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def world(tmp_path, monkeypatch):
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
    _instances(Path("data/shop"))
    for pictures in ("data/refer/images/train2014", "data/shop/pics"):
        Path(pictures).mkdir(parents=True)
        for number in PICTURES:
            picture(number).save(Path(pictures, file_name(number)))
    _reasonseg(Path("data/ReasonSeg/val"))
    _parquet(Path("data/hub/RefCOCO/data"))
    return tmp_path


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def file_name(number):
    return f"COCO_train2014_{number:012d}.jpg"


def outline(box):
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def corner(box):
    """As COCO writes a box: corner, width, height."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def annotations():
    return [
        {
            "id": 10 * number + k, "image_id": number, "category_id": 1 + k, "bbox": corner(box),
            "segmentation": [outline(box)], "iscrowd": 0, "caption": "the cup",
        }
        for number in PICTURES
        for k, box in enumerate(BOXES)
    ]  # fmt: skip


def references():
    found = []
    for one in annotations():
        key, number = one["id"], one["image_id"]
        text = ("the cup on the left", "the plate on the right")[one["category_id"] - 1]
        found.append({
            "ref_id": key, "ann_id": key, "image_id": number, "category_id": one["category_id"],
            "split": SPLITS[number - 1], "file_name": file_name(number), "sent_ids": [key],
            "sentences": [{"sent_id": key, "sent": text, "raw": text, "tokens": []}],
        })  # fmt: skip
    return found


def _instances(folder):
    folder.mkdir(parents=True)
    size = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": number, "file_name": file_name(number)} | size for number in PICTURES]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}]
    held = {"images": images, "annotations": annotations(), "categories": categories}
    (folder / "instances.json").write_text(json.dumps(held))
    return folder


def _reasonseg(folder):
    folder.mkdir(parents=True)
    points = np.array(outline(BOXES[0])).reshape(-1, 2).tolist()
    shapes = [{"label": "target", "points": points}]
    record = {"shapes": shapes, "text": ["what holds coffee"], "is_sentence": True}
    (folder / "a.json").write_text(json.dumps(record))
    picture(1).save(folder / "a.jpg")


def _parquet(folder):
    folder.mkdir(parents=True)
    held = []
    for number in PICTURES:
        buffer = io.BytesIO()
        picture(number).save(buffer, "PNG")
        held.append({
            "image": {"bytes": buffer.getvalue(), "path": None}, "iscrowd": 0,
            "answer": ["the cup on the left", "left cup"],
            "segmentation": list(map(float, outline(BOXES[0]))),
            "bbox": list(map(float, corner(BOXES[0]))),
            "file_name": f"COCO_train2014_{number:012d}_{number}.jpg",
        })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(held), folder / "val-00000-of-00001.parquet")
