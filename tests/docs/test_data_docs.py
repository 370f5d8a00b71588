"""docs/data-sets.md: every reader with its true options, every name in it can be opened."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins import entrypoints, pictures
from vg_engine.plugins.datasets import exam, jsonl, parquet_forms, refer_folder, scenes, synthetic
from vg_engine.plugins.datasets import names as data_names
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.datasets.things import files, reader, sentences
from vg_engine.plugins.options import settable


@pytest.fixture
def guide(page):
    return page("data-sets.md")


def readers():
    """Every reader of ours: option -> default, as a user writes it."""
    return {
        one.name: {name: str(o.default) or "(empty)" for name, o in settable(one.load()).items()}
        for one in entrypoints.installed(entrypoints.DATASETS)
        if one.distribution == "vg-engine"
    }


def names(guide):
    """Every data set that the page names, between backticks or in a command."""
    known = "|".join(re.escape(name) for name in readers())
    prose = re.sub(r"^```.*?^```$", "", guide.text, flags=re.MULTILINE | re.DOTALL)
    found = [*guide.quoted(prose), *itertools.chain(*guide.commands)]
    return [one for one in found if re.fullmatch(rf"({known})[:?][^:]\S*", one)]


def test_every_reader_stands_with_its_options_and_nothing_else(guide) -> None:
    told = {}
    for part in re.findall(r"<!-- options [^>]*-->\n(.+?)<!-- /options -->", guide.text, re.DOTALL):
        head, *lines = guide.rows(part)
        assert (head[0], head[-1]) == ("option", "it says")
        for column, title in enumerate(head[1:-1], start=1):
            (reader,) = guide.quoted(title)
            assert reader not in told
            told[reader] = {guide.quoted(line[0])[0]: line[column].strip("`") for line in lines}
    assert told == readers()
    offered = [name for row in guide.table("readers") for name in guide.quoted(row[1])]
    assert sorted(offered) == sorted(readers())
    titles = " ".join(re.findall(r"^## (.+)$", guide.text, flags=re.MULTILINE))
    assert set(readers()) <= set(guide.quoted(titles))


def test_every_data_set_that_it_names_can_be_opened_from_files_that_it_shows(guide, world) -> None:
    write_lines(guide)
    opened = names(guide)
    assert {data_names.parse_name(one).reader for one in opened} == set(readers())
    for one in opened:
        first = list(itertools.islice(open_data(one), 20))
        assert first
        assert not [record for record in first if isinstance(record, Fault)], one
    # What the page shows is what the readers just read: no file more, none less.
    shown = re.findall(r"<!-- layout ([^>]+) -->\n```\n(.+?)```", guide.text, re.DOTALL)
    told = {name for readers_, _ in shown for name in readers_.split()}
    assert told == set(readers()) - {"jsonl", "scenes", "things"}
    globs = [line.split()[0] for _, block in shown for line in block.splitlines()]
    found = {glob: set(Path().glob(glob)) for glob in globs}
    assert all(found.values()), found
    files = {path for path in Path("data").rglob("*") if path.is_file()} - EXAMPLE
    assert set().union(*found.values()) == files


# What the example of a JSONL file names, and the file.
PICTURES = {"data/pics/a.jpg": "RGB", "data/pics/b.jpg": "RGB", "data/masks/b.png": "L"}
EXAMPLE = {Path("data/cups.jsonl"), *map(Path, PICTURES)}


def write_lines(guide):
    for name, mode in PICTURES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (256, 160), 1).save(name)
    (block,) = guide.blocks("json")
    Path("data/cups.jsonl").write_text(block)


def test_the_jsonl_example_says_what_the_table_says(guide, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(guide)
    found = list(open_data("jsonl:data/cups.jsonl"))
    assert all(isinstance(one, Sample) for one in found), found
    counts = [None if one.boxes is None else len(one.boxes) for one in found]
    assert counts == [1, 2, 0, None, None, None]
    drawn = [one.mask().mask.sum() for one in found if one.mask]
    assert drawn == [256 * 160, 30 * 30], "no pixel of the picture is background; a square"
    assert [one.id for one in found] == list("123456")
    assert [one.picture for one in found] == 3 * ["pics/a.jpg"] + 3 * ["pics/b.jpg"]
    assert found[3].groups == {"kind": "animal"}
    assert sorted(guide.quoted(row[0])[0] for row in guide.table("keys")) == sorted(jsonl.KEYS)
    (exact,) = re.findall(r"picture with one channel \(([^)]+)\)", guide.text)
    assert tuple(exact.split(", ")) == jsonl._EXACT


def test_the_counts_and_forms_are_the_codes(guide) -> None:
    counts = Path(data_names.__file__).with_name("counts.yaml")
    real = {
        (name, by, split): (counts.get("sentences"), counts.get("references"))
        for name, splitters in yaml.safe_load(counts.read_text(encoding="utf-8")).items()
        for by, stated in splitters.items()
        for split, counts in stated["splits"].items()
    }
    told = {}
    for row in guide.table("counts"):
        numbers = (int(cell.replace(",", "")) if cell else None for cell in row[3:])
        told[tuple(guide.quoted(cell)[0] for cell in row[:3])] = tuple(numbers)
    assert told == real
    rows = guide.table("forms")
    told = {guide.quoted(row[0])[0]: (guide.quoted(row[4]), guide.quoted(row[3])) for row in rows}
    forms = parquet_forms.forms()
    assert told == {one.name: (list(one.needs), [] if one.image else ["images="]) for one in forms}
    told = [guide.quoted(row[0])[0] for row in guide.table("sample")]
    assert told == [field.name for field in dataclasses.fields(Sample)]


def test_the_numbers_in_its_sentences_are_the_codes(guide) -> None:
    listed = files.listed()
    photographs = [one for one in listed["backgrounds"].values() if "picture" in one]
    told = [guide.quoted(row[0])[0] for row in guide.table("kinds")]
    assert sorted(told) == sorted(sentences.KINDS)
    for sentence in (
        f"the fixed {exam.EXAM_SIZE} sentences on {exam.EXAM_SIZE // 2} scenes",
        f"0 = {synthetic._CALIBRATION_SIZE:,}",
        f"0 to {len(scenes.CALIBRATION_SEEDS) - 1}",
        f"{scenes.MIN_OBJECTS} to {scenes.MAX_OBJECTS} shapes",
        f"{reader.EXAM_SIZE} fixed sentences on {reader.EXAM_SIZE // 2} scenes",
        f"0 = {reader.EXAM_SIZE} of the exam, {reader.SIZE:,} of the others",
        f"The things are {len(listed['cutouts'])} cut-outs",
        f"{len(photographs)} photographs and {len(listed['backgrounds']) - len(photographs)} drawn",
        " or ".join([", ".join(pictures.FORMATS[:-1]), pictures.FORMATS[-1]]),
        "in eight usual places",
    ):
        assert sentence in " ".join(guide.text.split()), sentence
    assert len(refer_folder.PICTURES) == 8


@pytest.fixture
def birds(guide, tmp_path, monkeypatch, install):
    """The reader of the page, installed, and a folder as it wants it."""
    monkeypatch.chdir(tmp_path)
    install("your_package", guide.run(0, name="your_package"), guide.points)
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


def test_the_reader_of_ones_own_reads(birds) -> None:
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


def test_its_commands_run(guide, birds, call) -> None:
    for command in guide.commands:
        assert call(*command).stdout.strip()
    tables = json.loads(Path("out/birds/discovery.json").read_text())
    assert tables["samples"]["in_data"] == 4
    assert tables["settings"]["data"] == "birds:data/birds?split=train"
    kept = json.loads(Path("out/birds-val/eval.json").read_text())
    assert (kept["n"], kept["pictures"]) == (4, 4)


def test_faults_are_told_where_it_says(birds, cells, call) -> None:
    text = (birds / "val.csv").read_text().replace("the bird on the left", '"1,1"')
    wrong = 'val0.png,"1,1",1,2,3,\nlost.png,"1,1",1,2,3,4\n'
    (birds / "val.csv").write_text(text + wrong)
    asked = ("--data", "birds:data/birds", *cells)
    for command, numbers, journal, inside in (
        ("discover", "discovery.json", "observations.jsonl", ["row 6"]),
        ("eval", "eval.json", "records.jsonl", ["row 5", "row 6"]),
    ):
        done = call(command, *asked, "--out", command)
        description = done.stdout + done.stderr
        assert "2 records could not be used" in description
        assert "row 5: its box is not four numbers" in description
        told = json.loads((Path(command) / numbers).read_text())["faults"]
        assert told["count"] == 2
        assert [one["id"] for one in told["first"]] == ["row 5", "row 6"]
        assert "lost.png" in (Path(command) / "report.html").read_text()
        kept = (Path(command) / journal).read_text()
        assert [row for row in ("row 5", "row 6") if f'"id": "{row}", "error"' in kept] == inside
        strict = call(command, *asked, "--strict", "--out", f"{command}-strict", code=2)
        assert "row 5" in strict.stderr
