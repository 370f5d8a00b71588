"""`vg-engine ablate`, held to the engine's own answers, row by row."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vg_engine
from vg_engine.core.contract.results import Grounding
from vg_engine.core.engine.engine import Engine
from vg_engine.core.evaluation.samples import Sample
from vg_engine.core.heads import Head, parse_heads
from vg_engine.plugins import entrypoints
from vg_engine.plugins.datasets.names import open_data
from vg_engine.studies.shared.leakage import shared_pictures

SIDE, GRID = 60, 6
STEP = SIDE // GRID
CELL = ("--adapter", "cell", "--model", "cells", "--out", "out")
BOTH = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:second.jsonl")
QUICK = ("--draws", "2", "--resamples", "20")
ONE = ("--draws", "1", "--resamples", "20", "--tables", "k")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with vg_engine.load("cells", adapter="cell", heads="auto") as made:
        yield made


def samples() -> list[dict[str, Any]]:
    return [json.loads(one) for one in Path("second.jsonl").read_text().splitlines()]


def iou(a: Any, b: Any) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(common / (sum(areas) - common))


def worth(answers: list[Grounding]) -> dict[str, float]:
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
    return {
        "acc@0.5": sum(fit >= 0.5 for fit in fits) / len(fits),
        "miou": sum(fits) / len(fits),
        "pointing": hits / len(fits),
        "ciou": inter / union,
    }


class Oracle:
    """What an engine scores with some heads and other settings, by `Engine.read` alone."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seen = [
            (engine.picture(one["image"]), *engine.maps(one["image"], one["text"]))
            for one in samples()
        ]

    def __call__(self, heads: tuple[Head, ...], **settings: Any) -> dict[str, float]:
        engine = self.engine.variant(**settings)
        return worth([engine.read(maps, picture, heads) for picture, maps in self.seen])


def held(row: dict[str, Any], expected: dict[str, float]) -> None:
    found = {name: score["value"] for name, score in row["scores"].items()}
    assert found == pytest.approx(expected, abs=2e-6), row["label"]
    assert row["n"] == len(samples())
    for score in row["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]


@pytest.mark.usefixtures("noisy")
def test_every_row_is_what_the_engine_answers_with_these_settings(
    shell: Any, engine: Engine
) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK)
    found, read = shell.numbers(), Oracle(engine)
    heads = parse_heads(found["default"]["heads"])
    default = read(heads)
    held(found["default"], default)
    assert found["n"] == 18
    assert found["pictures"] == 9
    for label, row in shell.rows("k").items():
        count = int(label.removeprefix("all "))
        assert len(row["heads"]) == count
        held(row, read(parse_heads(row["heads"])))
    for row in shell.rows("sigma").values():
        held(row, read(heads, sigma=row["value"]))
    for row in shell.rows("kernel").values():
        held(row, read(heads, kernel=int(row["value"])))
    for row in shell.rows("per_sample").values():
        held(row, read(parse_heads(row["heads"])))
    assert set(shell.rows("region")) == {
        one.name for one in entrypoints.installed(entrypoints.REGIONS)
    }
    for label, row in shell.rows("region").items():
        region = entrypoints.find(entrypoints.REGIONS, label).load()
        held(row, read(heads, region=region, region_name=label))
    for row in shell.rows("criteria").values():
        if row["heads"]:
            held(row, read(parse_heads(row["heads"])))
    scores = [row["scores"]["miou"]["value"] for row in shell.rows("sigma").values()]
    assert len(set(scores)) > 3, "these maps answer to the smoothing"


@pytest.mark.usefixtures("noisy")
def test_rows_without_fixed_heads(shell: Any, engine: Engine) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "criteria")
    alone = [engine.ground(sample["image"], sample["text"]) for sample in samples()]
    found = shell.rows("criteria")
    held(found["both, per sentence"], worth(alone))
    mean = found["mean of all heads"]
    assert [Head.parse(name) for name in mean["heads"]] == [
        Head(layer, head) for layer in (2, 3) for head in (0, 1)
    ]
    settings = shell.numbers()["settings"]
    default = parse_heads(settings["readings"][0]["heads"])
    layers = {head.layer for head in default}
    stated = {
        frozenset(parse_heads(one["heads"]))
        for one in settings["readings"]
        if one["heads"] != "auto"
    }
    pool = [head for head in engine.model.all_heads if head.layer in layers]
    possible = [
        drawn
        for drawn in stated
        if len(drawn) == len(default) and drawn <= set(pool) and drawn != frozenset(default)
    ]
    # Three of the four heads of two layers: all three other choices are drawn, each once.
    assert len(possible) == math.comb(len(pool), len(default)) - 1
    read = Oracle(engine)
    each = [read(tuple(sorted(drawn))) for drawn in possible]
    row = found["random heads"]
    assert f"mean of {len(possible)} draws" in row["said"]
    assert row["control"]
    for name in ("acc@0.5", "miou", "pointing"):
        expected = sum(one[name] for one in each) / len(each)
        assert row["scores"][name]["value"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.usefixtures("noisy")
def test_heads_are_those_that_discover_finds(shell: Any) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k,criteria,per_sample,spearman")
    modes = {
        "S_img alone": "attention_only",
        "entropy alone": "entropy_only",
        "both, fixed heads": "paper",
        **{name: name for name in ("sensitivity", "consensus", "contrastive", "supervised")},
        **{name: name for name in ("paper+sensitivity",)},
    }
    found = shell.rows("criteria")
    assert set(found) == {*modes, "both, per sentence", "random heads", "mean of all heads"}
    assert [label for label, row in found.items() if row["labelled"]] == ["supervised"]
    assert [label for label, row in found.items() if row["default"]] == ["both, fixed heads"]
    said = [part for mode in modes.values() for part in ("--mode", mode)]
    said += [part for n in (1, 4, 14) for part in ("--mode", f"paper:per_sample={n}")]
    ours = ("--adapter", "cell", "--model", "cells", "--data", "jsonl:first.jsonl", "--out", "d")
    shell.discover(*ours, "--draws", "2", *said)
    theirs = json.loads(Path("d/discovery.json").read_text())["modes"]
    for label, mode in modes.items():
        assert found[label]["heads"] == theirs[mode]["heads"], mode
    for number in (1, 4, 14):
        same = shell.rows("per_sample")[str(number)]["heads"]
        assert same == theirs[f"paper:per_sample={number}"]["heads"]
    ranked = [one["head"] for one in theirs["paper"]["ranked"]]
    assert [row["heads"] for row in shell.rows("k").values()] == [
        ranked[:k] for k in range(1, 1 + len(ranked)) if k in (1, 2, 3, 4, 5, 8, 16, len(ranked))
    ]
    rho = shell.numbers()["spearman"]["iou"]["value"]
    assert rho == theirs["paper"]["spearman"]["iou"]["rho"]


@pytest.mark.usefixtures("noisy")
def test_differences_are_taken_against_the_default_row(shell: Any) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k,sigma,region")
    default = shell.numbers()["default"]
    assert default["same_as_default"]
    assert default["less_default"] == {}
    for table in ("k", "sigma", "region"):
        marked = [row for row in shell.rows(table).values() if row["default"]]
        assert len(marked) == 1
        assert marked[0]["scores"] == default["scores"]
        for row in shell.rows(table).values():
            if row["same_as_default"]:
                assert row["scores"] == default["scores"]
                continue
            assert set(row["less_default"]) == set(row["scores"])
            for name, less in row["less_default"].items():
                gap = row["scores"][name]["value"] - default["scores"][name]["value"]
                assert less["difference"] == pytest.approx(gap, abs=2e-6)
                assert less["low"] <= less["high"]


@pytest.mark.usefixtures("two_sets")
def test_one_head_points_and_the_others_are_flat(shell: Any) -> None:
    """What can be told without any engine: a flat map peaks in the middle of the grid."""
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "k,criteria")
    assert shell.rows("k")["1"]["heads"] == ["L2H1"]
    assert shell.rows("k")["1"]["scores"]["pointing"]["value"] == 1.0
    middle = [
        s["box"][0] <= SIDE / 2 < s["box"][2] and s["box"][1] <= SIDE / 2 < s["box"][3]
        for s in samples()
    ]
    without = [
        drawn
        for drawn in (one["heads"].split(",") for one in shell.numbers()["settings"]["readings"])
        if "L2H1" not in drawn and drawn != ["auto"]
    ]
    assert without, "some random heads are flat"
    row = shell.rows("criteria")["random heads"]
    drawn = int(re.search(r"mean of (\d+)", row["said"])[1])  # type: ignore[index]
    expected = (len(without) * sum(middle) / len(middle) + drawn - len(without)) / drawn
    assert row["scores"]["pointing"]["value"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("noisy")
def test_dearer_tables_look_anew_and_leave_the_engine_as_it_was(shell: Any) -> None:
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "entropy,query_row")
    found = shell.rows("entropy")
    assert list(found) == [
        "cut 1 x mean",
        "cut 1.5 x mean",
        "cut 2 x mean",
        "weighted by mass",
        "4-connected",
    ]
    ours = ("--adapter", "cell", "--model", "cells", "--data", "jsonl:first.jsonl", "--draws", "2")
    for label, option in {
        "cut 2 x mean": ("--cut", "2"),
        "weighted by mass": ("--weighting", "mass"),
        "4-connected": ("--connectivity", "4"),
    }.items():
        shell.discover(*ours, *option, "--out", f"d-{option[1]}")
        theirs = json.loads(Path(f"d-{option[1]}/discovery.json").read_text())["modes"]["paper"]
        assert found[label]["heads"] == theirs["heads"]
    assert list(shell.rows("query_row")) == ["expression_last", "expression_all", "prompt_last"]
    assert [row["default"] for row in shell.rows("query_row").values()] == [True, False, False]
    settings = shell.numbers()["settings"]
    assert settings["prompt"]["query_row"] == "expression_last"
    assert settings["query_rows"] == ["expression_last", "expression_all", "prompt_last"]
    kept = Path("out/calibration/prompt_last/observations.jsonl").read_text().splitlines()[0]
    assert json.loads(kept)["settings"]["prompt"]["query_row"] == "prompt_last"


SMOOTHED = """
import numpy as np
from vg_engine.core.readout.regions import GridRegion

def told(values, *, sigma=9.0, kernel=99):
    mask = np.zeros(values.shape, dtype=bool)
    side = {0.0: 1, 0.4: 2, 1.0: 3, 9.0: 6}.get(sigma, 4)
    mask[:side, :side] = True
    return GridRegion((0.0, 0.0, float(side), float(side)), mask, (0.5, 0.5), 0.5)
"""


@pytest.mark.usefixtures("noisy")
def test_a_region_that_undoes_the_smoothing_is_told_what_it_was(shell: Any, bring: Any) -> None:
    bring(SMOOTHED, ["[vg_engine.regions]", "told = vg_theirs:told"])
    first = shell.line("b0", 0, 0, 2, box=[0, 0, 10, 10])
    shell.write([first, shell.line("b1", 0, 0, 2, box=[0, 0, 10, 10])], "second.jsonl")
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma", "--region", "told")
    fits = {label: row["scores"]["miou"]["value"] for label, row in shell.rows("sigma").items()}
    # A square of 1, 2, 3 or 4 cells from the corner against the truth, which is the corner's cell.
    assert fits["0"] == 1.0
    assert fits["0.4"] == pytest.approx(1 / 4)
    assert fits["1"] == pytest.approx(1 / 9, abs=1e-6)
    assert fits["1.8"] == pytest.approx(1 / 16)
    stated = ("--region", "told:sigma=0.4", "--out", "stated")
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma", *stated)
    found = shell.rows("sigma", "stated").values()
    assert {row["scores"]["miou"]["value"] for row in found} == {0.25}


@pytest.mark.usefixtures("noisy")
def test_scores_on_the_pictures_that_chose_the_heads_are_called_flattered(shell: Any) -> None:
    done = shell.ablate(
        *CELL, *ONE, "--calibration", "jsonl:first.jsonl", "--data", "jsonl:first.jsonl"
    )
    assert "warning: heads were chosen on 8 of the 8 scored pictures" in done.stderr
    assert len(shell.numbers()["warnings"]) == 1
    assert "flatter" in Path("out/report.html").read_text()
    # Some of the same pictures under another name of the data set.
    mixed = [shell.line("a3", 1, 1, 2), shell.line("b0", 1, 1, 2), shell.line("b1", 2, 1, 2)]
    shell.write(mixed, "mixed.jsonl")
    other = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:mixed.jsonl", "--out", "mixed")
    done = shell.ablate(*CELL, *ONE, *other)
    assert "1 of the 3 scored pictures" in done.stderr
    # One name, two pictures: no leak.
    renamed = [one | {"picture": f"a{n}"} for n, one in enumerate(samples()[::2][:8])]
    shell.write(renamed, "renamed.jsonl")
    other = ("--calibration", "jsonl:first.jsonl", "--data", "jsonl:renamed.jsonl", "--out", "new")
    done = shell.ablate(*CELL, *ONE, *other)
    assert "warning" not in done.stderr
    assert shell.numbers("new")["warnings"] == []


@pytest.mark.usefixtures("noisy")
def test_data_with_masks_alone_is_scored_by_them(shell: Any) -> None:
    masked = [{key: value for key, value in one.items() if key != "box"} for one in samples()]
    shell.write(masked, "second.jsonl")
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma")
    assert list(shell.numbers()["metrics"]) == ["pointing", "ciou"]
    assert set(shell.rows("sigma")["1"]["scores"]) == {"pointing", "ciou"}
    shell.write([shell.line(f"b{n}", n % 5, 1, 2) for n in range(9)], "second.jsonl")
    shell.ablate(*CELL, *BOTH, *QUICK, "--tables", "sigma", "--out", "boxed")
    assert list(shell.numbers("boxed")["metrics"]) == ["acc@0.5", "miou", "pointing"]


def test_scenes_of_two_draws_share_names_and_no_picture(engine: Engine) -> None:
    def scenes(options: str) -> list[Sample]:
        found = open_data(f"scenes?split=calibration&{options}")
        return [one for one in found if isinstance(one, Sample)]

    assert shared_pictures(engine, scenes("n=8"), scenes("n=6")) == 3
    assert shared_pictures(engine, scenes("n=8"), scenes("n=6&draw=1")) == 0
