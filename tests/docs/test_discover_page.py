"""docs/discover.md: its commands run, its tables are what the code has, its mode is a mode."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from vg_engine import discover
from vg_engine.core.heads import parse_heads
from vg_engine.core.selection.head_statistics import (
    AGREEMENT,
    COLUMNS,
    INSIDE,
    SENSITIVITY,
    HeadStatistics,
)
from vg_engine.core.selection.ranking import DrawnStatistics, select
from vg_engine.plugins import entrypoints
from vg_engine.plugins.options import settable

Call = Callable[..., Result]
TINY = ("--data", "scenes?split=calibration&n=8")
FEW = ("--limit", "4")  # the last one counts
OUT = ("--out", "found")
# Another value for each option that a run over the same folder may or may not change.
CHANGED = {
    "--mode": "attention_only",
    "--k": "1",
    "--per-sample": "2",
    "--name": "other",
    "--strict": "",
    "--max-pixels": "1000000",
    "--json": "",
    "--data": "jsonl:other.jsonl",
    "--samples": "5",
    "--draws": "2",
    "--seed": "1",
    "--cut": "2",
    "--connectivity": "4",
    "--weighting": "mass",
    "--singles": "0",
    "--prompt": "chat",
    "--query-row": "prompt_last",
    "--template": "find {expression}",
    "--region": "otsu",
    "--batch-size": "3",
    "--neutral": "1,1",
}
# What the model of this test cannot show: another one, another machine.
ELSEWHERE = {"--model", "--revision", "--adapter", "--device", "--dtype", "--geometry"}


@pytest.fixture
def guide(page: Any) -> Any:
    return page("discover.md")


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def small(command: list[str]) -> list[str]:
    """On few scenes, where it names no data."""
    drawn = command[0] == "discover" and "--data" not in command
    return [*command, *(TINY if drawn else ()), *(FEW if "--limit" in command else ())]


def write(path: str, picture: str = "{}.png") -> None:
    """Six pictures with two sentences each; `r,c` is cell (r, c) of 6 x 6."""
    lines = []
    for number in range(6):
        name = picture.format(number)
        pixels = np.random.default_rng(number).integers(0, 255, (60, 60, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(name)
        for row, column in ((number, 2), (5 - number, 4)):
            box = [10 * column, 10 * row, 10 * column + 10, 10 * row + 10]
            lines.append({"image": name, "text": f"{row},{column}", "box": box})
    Path(path).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: tuple[str, ...]
) -> tuple[str, ...]:
    """A run that takes no time."""
    monkeypatch.chdir(tmp_path)
    write("data.jsonl")
    write("other.jsonl", "b{}.png")
    return ("discover", *cells, "--data", "jsonl:data.jsonl", *OUT, "--draws", "3")


def test_its_commands_run(guide: Any, world: Path, call: Call, install: Any) -> None:
    install("your_package", guide.run(0, "your_package"), guide.points)
    for command in guide.commands:
        done = call(*small(command))
        assert done.stdout.strip(), command
    assert {path.name for path in Path("found").iterdir()} == {
        file.replace("NAME", "mine") for row in guide.table("files") for file in quoted(row[0])
    }
    assert len(list(Path("all").glob("all-*.yaml"))) == 2


def test_the_mode_of_ones_own_scores_as_it_says(guide: Any) -> None:
    heads = parse_heads("L1H0,L2H0,L3H1")
    columns = {
        "image_attention": np.array([[0.9, 0.4, 0.2], [0.7, 0.6, 0.1]], np.float32),
        "entropy": np.array([[0.0, 1.0, np.inf], [2.0, 0.0, 0.5]], np.float32),
    }
    weights = np.array([[1.0, 1.0], [1.0, 0.0]])
    rule = guide.run(0, "your_package")["Focus"](power=2.0)
    found = select(
        rule, DrawnStatistics.of([HeadStatistics(heads, columns)], weights), name="focus"
    )
    both = {"L2H0": 0.5 / 1.5**2, "L3H1": 0.15 / 1.5**2}
    one = {"L2H0": 0.4 / 2**2}  # in the second draw the entropy of L3H1 is not known
    worth = {"L2H0": (both["L2H0"] + one["L2H0"]) / 2, "L3H1": both["L3H1"]}
    told = dict(zip(map(str, found.ranked), found.scores, strict=True))
    assert told == pytest.approx(worth, rel=1e-5)
    assert [str(head) for head in found.heads] == ["L2H0", "L3H1"], "layer 1 is no candidate"


def test_from_python_as_it_stands(
    guide: Any, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide.run(1)
    assert "Head(" in capsys.readouterr().out
    assert Path("found-too/observations.jsonl").is_file()


def test_every_option_stands_with_its_default(guide: Any, taken: Any) -> None:
    told = {", ".join(quoted(row[0])): row[1] for row in guide.table("options discover")}
    assert told == taken("discover")
    assert inspect.signature(discover).parameters["rules"].default == ("paper",)


def test_every_option_of_heads_stands_with_its_commands(guide: Any, taken: Any) -> None:
    real: dict[tuple[str, str], set[str]] = {}
    for command in ("list", "show", "use", "compare"):
        for names, default in taken("heads", command).items():
            real.setdefault((names, default), set()).add(command)
    told = {
        (", ".join(quoted(row[0])), row[2]): set(quoted(row[1]))
        for row in guide.table("options heads")
    }
    assert told == real


def test_no_option_is_made_up(guide: Any, taken: Any) -> None:
    known: set[str] = set()
    for command in ("discover", "eval", "run", *(("heads", c) for c in ("list", "use"))):
        names = (command,) if isinstance(command, str) else command
        known |= {name for told in taken(*names) for name in told.split(", ")}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", guide.text)) <= known


def test_every_mode_stands_with_what_it_needs(guide: Any) -> None:
    told = {
        quoted(row[0])[0]: (row[2], quoted(row[3]), quoted(row[4])) for row in guide.table("modes")
    }
    real = {}
    for entry in entrypoints.installed(entrypoints.RULES):
        if entry.distribution != "vg-engine":
            continue
        rule = entry.load()
        options = [f"{name}={one.default}" for name, one in settable(rule).items()]
        needs = set(rule.needs)
        data = "pairs" if needs & {SENSITIVITY, AGREEMENT} else "sentences"
        real[entry.name] = "boxes" if INSIDE in needs else data, list(rule.needs), options
    assert told == real
    for row in guide.table("modes"):
        assert 2 <= len(re.findall(r"\.(?= |$)", row[1])) <= 3, row[1]


def test_every_column_stands_in_the_codes_words(guide: Any) -> None:
    assert {quoted(row[0])[0]: row[1] for row in guide.table("columns")} == dict(COLUMNS)


@pytest.mark.parametrize("mode", ["paper", "consensus", "contrastive", "supervised"])
def test_columns_are_measured_when_it_says(
    guide: Any, asked: tuple[str, ...], call: Call, mode: str
) -> None:
    call(*asked, "--mode", mode, "--neutral", "0,0")
    measured = set(json.loads(Path("found/discovery.json").read_text())["means"])
    rule = entrypoints.find(entrypoints.RULES, mode).load()
    told = {quoted(row[0])[0]: row[2] for row in guide.table("columns")}
    for name, when in told.items():
        if when.startswith(("always", "where boxes are known")) or name in rule.needs:
            assert name in measured
        else:
            assert name not in measured, f"{name} costs another pass"


def test_the_numbers_lie_where_it_says(guide: Any, asked: tuple[str, ...], call: Call) -> None:
    done = call(*asked, "--json")
    kept = json.loads(Path("found/discovery.json").read_text())
    assert json.loads(done.stdout) == kept
    told = {key: quoted(row[1]) for row in guide.table("keys") for key in quoted(row[0])}
    assert set(told) == set(kept)
    for key in ("samples", "faults"):
        assert set(told[key]) == set(kept[key])
    (mode,) = kept["modes"].values()
    assert set(told["modes"]) <= set(mode)


def test_every_section_of_the_report_is_told(
    guide: Any, asked: tuple[str, ...], call: Call
) -> None:
    with Path("data.jsonl").open("a") as lines:
        lines.write('{"image": "lost.png", "text": "0,0"}\n')
    call(*asked, "--mode", "paper", "--mode", "consensus")
    html = Path("found/report.html").read_text()
    titles = [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<h2[^>]*>(.*?)</h2>", html)]
    assert [row[0] for row in guide.table("sections")] == titles


def test_what_may_be_changed_in_the_same_folder(
    guide: Any, asked: tuple[str, ...], call: Call
) -> None:
    free, refused = (quoted(row[1]) for row in guide.table("again"))
    contrasting, neutral = refused[-2:]
    assert (contrasting, neutral) == ("contrastive", "--neutral")
    begun = (*asked, "--mode", "paper", "--mode", "contrastive", "--neutral", "0,0")
    call(*begun)
    journal = Path("found/observations.jsonl").read_bytes()
    for option in [*free, *refused[:-2], neutral]:
        if option in ELSEWHERE:
            continue
        change = [option, CHANGED[option]] if CHANGED[option] else [option]
        done = call(*begun, *change, code=0 if option in free else 2)
        assert option in free or "choose another folder with --out" in done.stderr, option
        assert Path("found/observations.jsonl").read_bytes() == journal, option
    assert set(free) | set(refused) - {"contrastive"} == ELSEWHERE | set(CHANGED)


def test_a_mode_that_reads_more_is_refused(asked: tuple[str, ...], call: Call) -> None:
    call(*asked)
    done = call(*asked, "--mode", "consensus", code=2)
    assert "--out" in done.stderr


def test_after_reset_a_set_of_ones_own_that_lists_the_model_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "name: mine\nmodels: [embedded]\nmode: paper\nheads: [{head: L4H4}]\n"
    )
    call("heads", "use", "mine.yaml")
    assert "embedded: mine" in call("heads", "use", "--reset", "embedded").stdout
    assert "embedded: embedded" in call("heads", "use", "embedded").stdout


def test_what_it_links_to_exists(guide: Any) -> None:
    guide.check_links()
