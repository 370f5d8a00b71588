"""docs/discover.md: its commands run, its tables are what the code has, its rule is a rule."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from vg_engine import discover
from vg_engine.core.heads import parse_heads
from vg_engine.core.selection import head_statistics
from vg_engine.core.selection.ranking import DrawnStatistics, select
from vg_engine.plugins import entrypoints
from vg_engine.plugins.options import settable

# Another value for each option that a run over the same folder may or may not change.
CHANGES = """
--rule attention_only, --k 1, --per-sample 2, --name other, --strict, --max-pixels 1000000, --json,
--data jsonl:other.jsonl, --samples 5, --draws 2, --seed 1, --cut 2, --connectivity 4,
--weighting mass, --per-head 0, --prompt chat, --query-row prompt_last, --template {expression}?,
--ending !, --region otsu, --batch-size 3, --neutral 1,1
"""
CHANGED = {change.split()[0]: change.split() for change in re.split(r",\s", CHANGES)}
# What the model of this test cannot show: another one, another machine.
ELSEWHERE = {"--model", "--revision", "--adapter", "--device", "--dtype", "--geometry"}


@pytest.fixture
def guide(page):
    return page("discover.md")


@pytest.fixture
def asked(six, cells):
    """A run that takes no time."""
    return ("discover", *cells, "--data", "jsonl:data.jsonl", "--out", "found", "--draws", "3")


def numbers():
    return json.loads(Path("found/discovery.json").read_text())


def test_its_commands_run(guide, world, call, install) -> None:
    install("your_package", guide.run(0, name="your_package"), guide.points)
    for command in guide.commands:
        if command[0] == "discover" and "--data" not in command:
            command += ["--data", "scenes?split=calibration&n=8"]
        if "--limit" in command:
            command += ["--limit", "4"]  # the last one counts
        assert call(*command).stdout.strip(), command
    told = {file for row in guide.table("files") for file in guide.quoted(row[0])}
    found = {path.name for path in Path("found").iterdir()}
    assert found == {file.replace("NAME", "mine") for file in told}
    assert len(list(Path("all").glob("all-*.yaml"))) == 2


def test_the_mode_of_ones_own_scores_as_it_says(guide) -> None:
    heads = parse_heads("L1H0,L2H0,L3H1")
    columns = {
        "image_attention": np.array([[0.9, 0.4, 0.2], [0.7, 0.6, 0.1]], np.float32),
        "entropy": np.array([[0.0, 1.0, np.inf], [2.0, 0.0, 0.5]], np.float32),
    }
    weights = np.array([[1.0, 1.0], [1.0, 0.0]])
    rule = guide.run(0, name="your_package")["Focus"](power=2.0)
    seen = DrawnStatistics.of([head_statistics.HeadStatistics(heads, columns)], weights)
    found = select(rule, seen, name="focus")
    both = {"L2H0": 0.5 / 1.5**2, "L3H1": 0.15 / 1.5**2}
    one = {"L2H0": 0.4 / 2**2}  # in the second draw the entropy of L3H1 is not known
    worth = {"L2H0": (both["L2H0"] + one["L2H0"]) / 2, "L3H1": both["L3H1"]}
    told = dict(zip(map(str, found.ranked), found.scores, strict=True))
    assert told == pytest.approx(worth, rel=1e-5)
    assert [str(head) for head in found.heads] == ["L2H0", "L3H1"], "layer 1 is no candidate"


def test_from_python_as_it_stands(guide, world, capsys) -> None:
    guide.run(1)
    assert "Head(" in capsys.readouterr().out
    assert Path("found-too/observations.jsonl").is_file()
    assert inspect.signature(discover).parameters["rules"].default == ("paper",)


def test_every_option_of_heads_stands_with_its_commands(guide, taken) -> None:
    real = {}
    for command in ("list", "show", "use", "compare"):
        for option in taken("heads", command).items():
            real.setdefault(option, set()).add(command)
    rows = [[row[2], *map(guide.quoted, row[:2])] for row in guide.table("options heads")]
    assert {(", ".join(names), default): set(by) for default, names, by in rows} == real


def test_every_mode_and_column_stands_with_what_it_needs(guide) -> None:
    rows = guide.table("rules")
    told = {guide.quoted(row[0])[0]: (row[2], *map(guide.quoted, row[3:5])) for row in rows}
    real = {}
    for entry in entrypoints.installed(entrypoints.RULES):
        if entry.distribution != "vg-engine":
            continue
        rule = entry.load()
        options = [f"{name}={one.default}" for name, one in settable(rule).items()]
        pairs = {head_statistics.SENSITIVITY, head_statistics.AGREEMENT} & set(rule.needs)
        data = "pairs" if pairs else "sentences"
        data = "boxes" if head_statistics.INSIDE in rule.needs else data
        real[entry.name] = data, list(rule.needs), options
    assert told == real
    for row in rows:
        assert 2 <= len(re.findall(r"\.(?= |$)", row[1])) <= 3, row[1]
    told = {guide.quoted(row[0])[0]: row[1] for row in guide.table("columns")}
    assert told == dict(head_statistics.COLUMNS)


@pytest.mark.parametrize("rule", ["paper", "consensus", "contrastive", "supervised"])
def test_columns_are_measured_when_it_says(guide, asked, call, rule) -> None:
    call(*asked, "--rule", rule, "--neutral", "0,0")
    rule = entrypoints.find(entrypoints.RULES, rule).load()
    told = {guide.quoted(row[0])[0]: row[2] for row in guide.table("columns")}
    free = ("always", "where boxes are known")
    expected = {name for name, when in told.items() if when.startswith(free) or name in rule.needs}
    assert set(numbers()["means"]) & set(told) == expected, "another column costs another pass"


def test_the_numbers_and_sections_are_those_that_it_tells(guide, asked, call) -> None:
    done = call(*asked, "--json")
    kept = numbers()
    assert json.loads(done.stdout) == kept
    told = {
        key: guide.quoted(row[1]) for row in guide.table("keys") for key in guide.quoted(row[0])
    }
    assert set(told) == set(kept)
    for key in ("samples", "faults"):
        assert set(told[key]) == set(kept[key])
    (rule,) = kept["rules"].values()
    assert set(told["rules"]) <= set(rule)
    with Path("data.jsonl").open("a") as lines:
        lines.write('{"image": "lost.png", "text": "0,0"}\n')
    call(*asked, "--rule", "paper", "--rule", "consensus", "--out", "two")
    html = Path("two/report.html").read_text()
    titles = [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<h2[^>]*>(.*?)</h2>", html)]
    assert [row[0] for row in guide.table("sections")] == titles


def test_what_may_be_changed_in_the_same_folder(guide, asked, call) -> None:
    free, refused = (guide.quoted(row[1]) for row in guide.table("again"))
    assert refused[-2:] == ["contrastive", "--neutral"]
    refused.remove("contrastive")
    begun = (*asked, "--rule", "paper", "--rule", "contrastive", "--neutral", "0,0")
    call(*begun)
    journal = Path("found/observations.jsonl").read_bytes()
    assert {*free, *refused} == ELSEWHERE | set(CHANGED)
    for option, change in CHANGED.items():
        done = call(*begun, *change, code=0 if option in free else 2)
        assert option in free or "choose another folder with --out" in done.stderr, option
        assert Path("found/observations.jsonl").read_bytes() == journal, option
    # A rule that reads more is refused too.
    assert "--out" in call(*begun, "--rule", "consensus", code=2).stderr


def test_after_reset_a_set_of_ones_own_that_lists_the_model_is_taken(
    tmp_path, monkeypatch, call
) -> None:
    monkeypatch.chdir(tmp_path)
    own = "name: mine\nmodels: [embedded]\nrule: paper\nheads: [{head: L4H4}]\n"
    Path("mine.yaml").write_text(own)
    call("heads", "use", "mine.yaml")
    assert "embedded: mine" in call("heads", "use", "--reset", "embedded").stdout
    assert "embedded: embedded" in call("heads", "use", "embedded").stdout
