"""`vg-engine ablate`, held to the engine's own answers, row by row."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import vg_engine
from vg_engine.core.evaluation.samples import Sample
from vg_engine.core.heads import parse_heads
from vg_engine.plugins import entrypoints
from vg_engine.plugins.datasets.names import open_data
from vg_engine.studies.shared.leakage import shared_pictures

SIDE = 60


@pytest.fixture
def engine():
    with vg_engine.load("cells", adapter="cell", heads="auto") as made:
        yield made


def samples():
    return [json.loads(one) for one in Path("second.jsonl").read_text().splitlines()]


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def worth(answers):
    """The four scores of an engine's answers, from their definitions."""
    fits, hits = [], 0
    inter = union = 0
    for answer, sample in zip(answers, samples(), strict=True):
        truth = np.zeros((SIDE, SIDE), dtype=bool)
        left, top, right, bottom = sample["box"]
        truth[top:bottom, left:right] = True
        fits.append(iou(answer.boxes[0], sample["box"]))
        hits += bool(truth[int(answer.point[1]), int(answer.point[0])])
        inter += int((answer.masks[0] & truth).sum())
        union += int((answer.masks[0] | truth).sum())
    n = len(fits)
    good = sum(fit >= 0.5 for fit in fits)
    return {"acc@0.5": good / n, "miou": sum(fits) / n, "pointing": hits / n, "ciou": inter / union}


class Oracle:
    """What an engine scores with some heads and other settings, by `Engine.read` alone."""

    def __init__(self, engine):
        self.engine = engine
        asked = [(one["image"], one["text"]) for one in samples()]
        self.seen = [(engine.picture(one), *engine.maps(one, text)) for one, text in asked]

    def __call__(self, heads, **settings):
        engine = self.engine.variant(**settings)
        return worth([engine.read(maps, picture, heads) for picture, maps in self.seen])


def held(row, expected):
    found = {name: score["value"] for name, score in row["scores"].items()}
    assert found == pytest.approx(expected, abs=2e-6), row["label"]
    assert row["n"] == len(samples())
    for score in row["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]


@pytest.mark.usefixtures("noisy")
def test_every_row_is_what_the_engine_answers_with_these_settings(shell, engine) -> None:
    shell.ablate()
    found, read = shell.numbers(), Oracle(engine)
    heads = parse_heads(found["default"]["heads"])
    held(found["default"], read(heads))
    assert (found["n"], found["pictures"]) == (18, 9)
    for label, row in shell.rows("k").items():
        assert len(row["heads"]) == int(label.removeprefix("all "))
    chosen = [row for row in shell.rows("criteria").values() if row["heads"]]
    for row in (*chosen, *shell.rows("k").values(), *shell.rows("per_sample").values()):
        held(row, read(parse_heads(row["heads"])))
    for row in shell.rows("sigma").values():
        held(row, read(heads, sigma=row["value"]))
    for row in shell.rows("kernel").values():
        held(row, read(heads, kernel=int(row["value"])))
    regions = shell.rows("region")
    assert set(regions) == {one.name for one in entrypoints.installed(entrypoints.REGIONS)}
    for label, row in regions.items():
        region = entrypoints.find(entrypoints.REGIONS, label).load()
        held(row, read(heads, region=region, region_name=label))
    scores = {row["scores"]["miou"]["value"] for row in shell.rows("sigma").values()}
    assert len(scores) > 3, "these maps answer to the smoothing"
    # Differences are taken against the default row.
    default = found["default"]
    assert default["same_as_default"]
    assert default["less_default"] == {}
    for table in ("k", "sigma", "region"):
        (marked,) = [row for row in shell.rows(table).values() if row["default"]]
        assert marked["scores"] == default["scores"]
        for row in shell.rows(table).values():
            if row["same_as_default"]:
                assert row["scores"] == default["scores"]
                continue
            assert set(row["less_default"]) == set(row["scores"])
            for name, less in row["less_default"].items():
                gap = row["scores"][name]["value"] - default["scores"][name]["value"]
                assert less["difference"] == pytest.approx(gap, abs=2e-6)
                assert less["low"] <= less["high"]


@pytest.mark.usefixtures("noisy")
def test_rows_without_fixed_heads(shell, engine) -> None:
    shell.ablate("--tables", "criteria")
    found = shell.rows("criteria")
    alone = [engine.ground(sample["image"], sample["text"]) for sample in samples()]
    held(found["both, per sentence"], worth(alone))
    assert found["mean of all heads"]["heads"] == ["L2H0", "L2H1", "L3H0", "L3H1"]
    stated = [one["heads"] for one in shell.numbers()["settings"]["readings"]]
    default = frozenset(parse_heads(stated[0]))
    layers = {head.layer for head in default}
    pool = {head for head in engine.model.all_heads if head.layer in layers}
    sets = {frozenset(parse_heads(heads)) for heads in stated if heads != "auto"} - {default}
    possible = [drawn for drawn in sets if len(drawn) == len(default) and drawn <= pool]
    # Three of the four heads of two layers: all three other choices are drawn, each once.
    assert len(possible) == math.comb(len(pool), len(default)) - 1
    read = Oracle(engine)
    each = [read(tuple(sorted(drawn))) for drawn in possible]
    row = found["random heads"]
    assert f"mean of {len(possible)} draws" in row["description"]
    assert row["control"]
    for name in ("acc@0.5", "miou", "pointing"):
        expected = sum(one[name] for one in each) / len(each)
        assert row["scores"][name]["value"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.usefixtures("noisy")
def test_heads_are_those_that_discover_finds(shell) -> None:
    shell.ablate("--tables", "k,criteria,per_sample,spearman")
    same = ("sensitivity", "consensus", "contrastive", "supervised", "paper+sensitivity")
    rules = {"S_img alone": "attention_only", "entropy alone": "entropy_only"}
    rules |= {"both, fixed heads": "paper", **{name: name for name in same}}
    found = shell.rows("criteria")
    assert set(found) == {*rules, "both, per sentence", "random heads", "mean of all heads"}
    assert [label for label, row in found.items() if row["labelled"]] == ["supervised"]
    assert [label for label, row in found.items() if row["default"]] == ["both, fixed heads"]
    votes = {number: f"paper:per_sample={number}" for number in (1, 4, 14)}
    description = [part for rule in (*rules.values(), *votes.values()) for part in ("--rule", rule)]
    shell.discover("--data", "jsonl:first.jsonl", "--draws", "2", *description)
    theirs = shell.discovery()["rules"]
    for label, rule in rules.items():
        assert found[label]["heads"] == theirs[rule]["heads"], rule
    for number, rule in votes.items():
        assert shell.rows("per_sample")[str(number)]["heads"] == theirs[rule]["heads"]
    ranked = [one["head"] for one in theirs["paper"]["ranked"]]
    counts = [k for k in range(1, 1 + len(ranked)) if k in (1, 2, 3, 4, 5, 8, 16, len(ranked))]
    assert [row["heads"] for row in shell.rows("k").values()] == [ranked[:k] for k in counts]
    rho = shell.numbers()["spearman"]["iou"]["value"]
    assert rho == theirs["paper"]["spearman"]["iou"]["rho"]


@pytest.mark.usefixtures("two_sets")
def test_one_head_points_and_the_others_are_flat(shell) -> None:
    """What can be told without any engine: a flat map peaks in the middle of the grid."""
    shell.ablate("--tables", "k,criteria")
    first = shell.rows("k")["1"]
    assert (first["heads"], first["scores"]["pointing"]["value"]) == (["L2H1"], 1.0)
    boxes = [sample["box"] for sample in samples()]
    middle = [box[0] <= SIDE / 2 < box[2] and box[1] <= SIDE / 2 < box[3] for box in boxes]
    stated = [one["heads"].split(",") for one in shell.numbers()["settings"]["readings"]]
    without = [heads for heads in stated if "L2H1" not in heads and heads != ["auto"]]
    assert without, "some random heads are flat"
    row = shell.rows("criteria")["random heads"]
    drawn = int(re.search(r"mean of (\d+)", row["description"])[1])
    expected = (len(without) * sum(middle) / len(middle) + drawn - len(without)) / drawn
    assert row["scores"]["pointing"]["value"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("noisy")
def test_dearer_tables_look_anew_and_leave_the_engine_as_it_was(shell) -> None:
    shell.ablate("--tables", "entropy,query_row")
    found = shell.rows("entropy")
    options = {
        "cut 2 x mean": ("--cut", "2"),
        "weighted by mass": ("--weighting", "mass"),
        "4-connected": ("--connectivity", "4"),
    }
    assert list(found) == ["cut 1 x mean", "cut 1.5 x mean", *options]
    few = ("--data", "jsonl:first.jsonl", "--draws", "2")
    for label, option in options.items():
        shell.discover(*few, *option, "--out", option[1])
        theirs = shell.discovery(option[1])["rules"]["paper"]
        assert found[label]["heads"] == theirs["heads"]
    rows = ["expression_last", "expression_all", "prompt_last"]
    assert list(shell.rows("query_row")) == rows == shell.numbers()["settings"]["query_rows"]
    assert [row["default"] for row in shell.rows("query_row").values()] == [True, False, False]
    assert shell.numbers()["settings"]["prompt"]["query_row"] == "expression_last"
    kept = Path("out/calibration/prompt_last/observations.jsonl").read_text().splitlines()[0]
    assert json.loads(kept)["settings"]["prompt"]["query_row"] == "prompt_last"


SMOOTHED = """
from vg_engine.core.readout.regions import GridRegion

def told(values, *, sigma=9.0, kernel=99):
    mask = np.zeros(values.shape, dtype=bool)
    side = {0.0: 1, 0.4: 2, 1.0: 3, 9.0: 6}.get(sigma, 4)
    mask[:side, :side] = True
    return GridRegion((0.0, 0.0, float(side), float(side)), mask, (0.5, 0.5), 0.5)
"""


@pytest.mark.usefixtures("noisy")
def test_a_region_that_undoes_the_smoothing_is_told_what_it_was(shell, bring) -> None:
    bring(SMOOTHED, "[vg_engine.regions]", "told = vg_theirs:told")
    shell.write([shell.line(f"b{n}", 0, 0) for n in range(2)], "second.jsonl")
    shell.ablate("--tables", "sigma", "--region", "told")
    fits = {label: row["scores"]["miou"]["value"] for label, row in shell.rows("sigma").items()}
    # A square of 1, 2, 3 or 4 cells from the corner against the truth, which is the corner's cell.
    expected = {"0": 1, "0.4": 1 / 4, "1": 1 / 9, "1.8": 1 / 16}
    assert {label: fits[label] for label in expected} == pytest.approx(expected, abs=1e-6)
    shell.ablate("--tables", "sigma", "--region", "told:sigma=0.4", "--out", "stated")
    found = shell.rows("sigma", "stated").values()
    assert {row["scores"]["miou"]["value"] for row in found} == {0.25}


@pytest.mark.usefixtures("noisy")
def test_scores_on_the_pictures_that_chose_the_heads_are_called_flattered(shell) -> None:
    one = ("--draws", "1", "--tables", "k")
    done = shell.ablate(*one, "--data", "jsonl:first.jsonl")
    assert "warning: heads were chosen on 8 of the 8 scored pictures" in done.stderr
    assert len(shell.numbers()["warnings"]) == 1
    assert "flatter" in Path("out/report.html").read_text()
    # Some of the same pictures under another name of the data set.
    cells = [("a3", 1, 1, 2), ("b0", 1, 1, 2), ("b1", 2, 1, 2)]
    mixed = shell.write([shell.line(*cell) for cell in cells], "mixed.jsonl")
    done = shell.ablate(*one, "--data", mixed, "--out", "mixed")
    assert "1 of the 3 scored pictures" in done.stderr
    # One name, two pictures: no leak.
    renamed = [line | {"picture": f"a{n}"} for n, line in enumerate(samples()[::2][:8])]
    done = shell.ablate(*one, "--data", shell.write(renamed, "renamed.jsonl"), "--out", "new")
    assert "warning" not in done.stderr
    assert shell.numbers("new")["warnings"] == []


@pytest.mark.usefixtures("noisy")
def test_data_with_masks_alone_is_scored_by_them(shell) -> None:
    masked = [{key: value for key, value in one.items() if key != "box"} for one in samples()]
    boxed = [shell.line(f"b{n}", n % 5, 1, 2) for n in range(9)]
    asked = ((masked, ["pointing", "ciou"]), (boxed, ["acc@0.5", "miou", "pointing"]))
    for lines, metrics in asked:
        shell.write(lines, "second.jsonl")
        shell.ablate("--tables", "sigma", "--out", metrics[0])
        assert list(shell.numbers(metrics[0])["metrics"]) == metrics
        assert set(shell.rows("sigma", metrics[0])["1"]["scores"]) == set(metrics)


def test_scenes_of_two_draws_share_names_and_no_picture(engine) -> None:
    def scenes(options):
        found = open_data(f"scenes?split=calibration&{options}")
        return [one for one in found if isinstance(one, Sample)]

    assert shared_pictures(engine, scenes("n=8"), scenes("n=6")) == 3
    assert shared_pictures(engine, scenes("n=8"), scenes("n=6&draw=1")) == 0
