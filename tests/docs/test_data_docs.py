"""docs/data-sets.md: every reader with its true options, every name in it can be opened."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import Result

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins import entrypoints, pictures
from vg_engine.plugins.datasets import (
    exam,
    jsonl,
    parquet_forms,
    refer_folder,
    scenes,
    synthetic,
)
from vg_engine.plugins.datasets import (
    names as data_names,
)
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.options import settable

Call = Callable[..., Result]
COUNTS = Path(data_names.__file__).with_name("counts.yaml")


@pytest.fixture
def guide(page: Any) -> Any:
    return page("data-sets.md")


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def readers() -> dict[str, dict[str, str]]:
    """Every reader of ours: option -> default, as a user writes it."""
    return {
        entry.name: {
            name: str(option.default) or "(empty)"
            for name, option in settable(entry.load()).items()
        }
        for entry in entrypoints.installed(entrypoints.DATASETS)
        if entry.distribution == "vg-engine"
    }


def tables(guide: Any) -> list[list[list[str]]]:
    """The tables of options, head first."""
    parts = re.findall(r"<!-- options [^>]*-->\n(.+?)<!-- /options -->", guide.text, re.DOTALL)
    return [guide.rows(part) for part in parts]


def names(guide: Any) -> list[str]:
    """Every data set that the page names, between backticks or in a command."""
    known = "|".join(re.escape(name) for name in readers())
    words = [word for command in guide.commands for word in command]
    prose = re.sub(r"^```.*?^```$", "", guide.text, flags=re.MULTILINE | re.DOTALL)
    found = [*quoted(prose), *words]
    return [one for one in found if re.fullmatch(rf"({known})[:?][^:]\S*", one)]


def test_every_reader_stands_with_its_options_and_nothing_else(guide: Any) -> None:
    told: dict[str, dict[str, str]] = {}
    for head, *lines in tables(guide):
        assert (head[0], head[-1]) == ("option", "it says")
        for column, title in enumerate(head[1:-1], start=1):
            (reader,) = quoted(title)
            assert reader not in told
            told[reader] = {quoted(line[0])[0]: line[column].strip("`") for line in lines}
    assert told == readers()


def test_every_reader_is_offered_and_has_a_section(guide: Any) -> None:
    offered = [name for row in guide.table("readers") for name in quoted(row[1])]
    assert sorted(offered) == sorted(readers())
    titles = " ".join(re.findall(r"^## (.+)$", guide.text, flags=re.MULTILINE))
    assert set(readers()) <= set(quoted(titles))
    guide.check_links()


def test_every_data_set_that_it_names_can_be_opened(guide: Any, world: Path) -> None:
    write_lines(guide)
    opened = names(guide)
    assert {data_names.parse_name(one).reader for one in opened} == set(readers())
    for one in opened:
        first = list(itertools.islice(open_data(one), 20))
        assert first
        assert not [record for record in first if isinstance(record, Fault)], one


def test_files_lie_as_the_layouts_say(guide: Any, world: Path) -> None:
    """What the page shows is what the readers just read: no file more, none less."""
    shown = re.findall(r"<!-- layout ([^>]+) -->\n```\n(.+?)```", guide.text, re.DOTALL)
    told = {name for readers_, _ in shown for name in readers_.split()}
    assert told == set(readers()) - {"jsonl", "scenes"}
    globs = [line.split()[0] for _, block in shown for line in block.splitlines()]
    found: set[Path] = set()
    for glob in globs:
        matching = set(Path().glob(glob))
        assert matching, glob
        found |= matching
    assert found == {path for path in Path("data").rglob("*") if path.is_file()}


def write_lines(guide: Any) -> None:
    """The example of a JSONL file, and what it names."""
    folder = Path("data")
    for name in ("pics/a.jpg", "pics/b.jpg", "masks/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        mode = "L" if name.startswith("masks") else "RGB"
        Image.new(mode, (256, 160), 1).save(folder / name)
    (block,) = guide.blocks("json")
    (folder / "cups.jsonl").write_text(block)


def test_the_jsonl_example_says_what_the_table_says(
    guide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(guide)
    found = list(open_data("jsonl:data/cups.jsonl"))
    assert all(isinstance(one, Sample) for one in found), found
    counts = [None if one.boxes is None else len(one.boxes) for one in found]
    assert counts == [1, 2, 0, None, None, None]
    drawn = [one.mask().mask.sum() for one in found if one.mask]
    assert drawn == [256 * 160, 30 * 30], "no pixel of the picture is background; a square"
    assert [one.id for one in found] == [str(number) for number in range(1, 7)]
    assert [one.picture for one in found] == 3 * ["pics/a.jpg"] + 3 * ["pics/b.jpg"]
    assert found[3].groups == {"kind": "animal"}


def test_every_key_of_a_line_is_told(guide: Any) -> None:
    assert sorted(quoted(row[0])[0] for row in guide.table("keys")) == sorted(jsonl.KEYS)
    (exact,) = re.findall(r"picture with one channel \(([^)]+)\)", guide.text)
    assert tuple(exact.split(", ")) == jsonl._EXACT


def test_the_counts_are_the_codes(guide: Any) -> None:
    held: Mapping[str, Any] = yaml.safe_load(COUNTS.read_text(encoding="utf-8"))
    real = {
        (name, by, split): (counts.get("sentences"), counts.get("references"))
        for name, splitters in held.items()
        for by, stated in splitters.items()
        for split, counts in stated["splits"].items()
    }
    told = {
        tuple(quoted(cell)[0] for cell in row[:3]): tuple(
            int(cell.replace(",", "")) if cell else None for cell in row[3:]
        )
        for row in guide.table("counts")
    }
    assert told == real


def test_the_forms_are_the_codes(guide: Any) -> None:
    told = {quoted(row[0])[0]: (quoted(row[4]), quoted(row[3])) for row in guide.table("forms")}
    real = {
        form.name: (list(form.needs), [] if form.image else ["images="])
        for form in parquet_forms.forms()
    }
    assert told == real


def test_every_field_of_a_sample_is_told(guide: Any) -> None:
    told = [quoted(row[0])[0] for row in guide.table("sample")]
    assert told == [field.name for field in dataclasses.fields(Sample)]


def test_the_numbers_in_its_sentences_are_the_codes(guide: Any) -> None:
    for sentence in (
        f"the fixed {exam.EXAM_SIZE} sentences on {exam.EXAM_SIZE // 2} scenes",
        f"0 = {synthetic._CALIBRATION_SIZE:,}",
        f"0 to {len(scenes.CALIBRATION_SEEDS) - 1}",
        f"{scenes.MIN_OBJECTS} to {scenes.MAX_OBJECTS} shapes",
        " or ".join([", ".join(pictures.FORMATS[:-1]), pictures.FORMATS[-1]]),
    ):
        assert sentence in " ".join(guide.text.split()), sentence
    assert "in eight usual places" in guide.text
    assert len(refer_folder.PICTURES) == 8


def test_no_option_is_made_up(guide: Any, taken: Any) -> None:
    every = [*taken("discover"), *taken("eval")]
    known = {name for names_ in every for name in names_.split(", ")}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", guide.text)) <= known


@pytest.fixture
def birds(guide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Any) -> Path:
    """The reader of the page, installed, and a folder as it wants it."""
    monkeypatch.chdir(tmp_path)
    install("your_package", guide.run(0, "your_package"), guide.points)
    folder = Path("data/birds")
    folder.mkdir(parents=True)
    for split, shade in (("train", 90), ("val", 150)):
        lines = ["file,sentence,left,top,right,bottom"]
        for number in range(4):
            name = f"{split}{number}.png"
            Image.fromarray(np.full((60, 90, 3), shade + number, np.uint8)).save(folder / name)
            lines.append(f"{name},the bird on the left,5,10,{30 + number},50")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_reader_of_ones_own_reads(birds: Path) -> None:
    with (birds / "val.csv").open("a") as lines:
        lines.write("val0.png,no box,1,2,3,\nval0.png,,1,2,3,4\n")
    found = list(open_data("birds:data/birds"))
    good, bad = found[:4], found[4:]
    assert [one.boxes.tolist() for one in good] == [[[5, 10, 30 + n, 50]] for n in range(4)]
    assert [type(one) for one in bad] == [Fault, Fault]
    assert "four numbers" in bad[0].error
    assert "no expression" in bad[1].error
    before = open_data("birds:data/birds").revision
    (birds / "val.csv").write_text("file,sentence,left,top,right,bottom\n")
    assert open_data("birds:data/birds").revision != before


def test_its_commands_run(guide: Any, birds: Path, call: Call) -> None:
    for command in guide.commands:
        assert call(*command).stdout.strip()
    tables = json.loads(Path("out/birds/discovery.json").read_text())
    assert tables["samples"]["in_data"] == 4
    assert tables["settings"]["data"] == "birds:data/birds?split=train"
    kept = json.loads(Path("out/birds-val/eval.json").read_text())
    assert (kept["n"], kept["pictures"]) == (4, 4)


def test_faults_are_told_where_it_says(
    guide: Any, birds: Path, cells: tuple[str, ...], call: Call
) -> None:
    text = (birds / "val.csv").read_text().replace("the bird on the left", "1,1")
    header, *lines = text.splitlines()
    lines = [line.replace("1,1", '"1,1"') for line in lines]
    wrong = ['val0.png,"1,1",1,2,3,', 'lost.png,"1,1",1,2,3,4']
    (birds / "val.csv").write_text("\n".join([header, *lines, *wrong]) + "\n")
    asked = ("--data", "birds:data/birds", *cells)
    for command, numbers, journal, inside in (
        ("discover", "discovery.json", "observations.jsonl", ["row 6"]),
        ("eval", "eval.json", "records.jsonl", ["row 5", "row 6"]),
    ):
        done = call(command, *asked, "--out", command)
        said = done.stdout + done.stderr
        assert "2 records could not be used" in said
        assert "row 5: its box is not four numbers" in said
        told = json.loads((Path(command) / numbers).read_text())["faults"]
        assert told["count"] == 2
        assert [one["id"] for one in told["first"]] == ["row 5", "row 6"]
        assert "lost.png" in (Path(command) / "report.html").read_text()
        kept = (Path(command) / journal).read_text()
        assert [row for row in ("row 5", "row 6") if f'"id": "{row}", "error"' in kept] == inside
        strict = call(command, *asked, "--strict", "--out", f"{command}-strict", code=2)
        assert "row 5" in strict.stderr


def test_two_files_under_one_name_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: tuple[str, ...], call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = []
    for name in "ab":
        Image.new("RGB", (60, 60)).save(f"{name}.png")
        lines.append(
            {"image": f"{name}.png", "picture": "one", "text": "1,1", "box": [9, 9, 20, 20]}
        )
    Path("d.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    kept = json.loads(call("eval", *cells, "--data", "jsonl:d.jsonl", "--json").stdout)
    assert (kept["n"], kept["faults"]["count"]) == (1, 1)
