"""The exam's table: `python scripts/embedded/evaluate.py FOLDER --untrained FOLDER --out DIR`.

Heads are selected without labels on one set of calibration scenes. The rule, the prompt, k
and the region are chosen with labels on another one. The exam's scenes are looked at last
and choose nothing but the row marked as an oracle.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seen import Read, Seen, look, select
from vocabulary import SYSTEM

from vg_engine import __version__, load
from vg_engine.core import regions, selection
from vg_engine.core.edge_level import edge_level
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.metrics import Estimate, bootstrap_interval, iou, pointing
from vg_engine.core.types import Prompt
from vg_engine.plugins.datasets.exam import Sample, calibration, digest, exam
from vg_engine.plugins.datasets.scenes import KINDS
from vg_engine.registry.schema import dump_head_set

DRAWS = 200  # of random heads
REGIONS: dict[str, Read] = {
    "paper": regions.paper,
    "otsu": regions.otsu,
    "mean_std": regions.mean_std,
    "mean_std:c=2": partial(regions.mean_std, c=2.0),
    "peak_share": regions.peak_share,
    "half_level": regions.half_level,
    "half_level:level=0.5": partial(regions.half_level, level=0.5),
    "half_level:level=0.45": partial(regions.half_level, level=0.45),
    "box_fit": regions.box_fit,
    "edge_level": edge_level,
}
PROMPTS = {
    "bare, expression_last": Prompt("bare", system=SYSTEM),
    "chat, expression_last": Prompt("chat"),
    "chat, prompt_last": Prompt("chat", query_row="prompt_last"),
    "chat, where is, prompt_last": Prompt(
        "chat", template="where is {expression}", query_row="prompt_last"
    ),
}
RULES: dict[str, Any] = {
    "paper": selection.PaperSelection,
    "paper+sensitivity": selection.PaperSensitivitySelection,
    "sensitivity": selection.SensitivitySelection,
    "consensus": selection.ConsensusSelection,
    "mean_all": selection.MeanOfAll,
}
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
FIRST_REGION = "half_level:level=0.5"  # with which heads are compared


@dataclass(frozen=True)
class Choice:
    """What the calibration scenes decided."""

    prompt: str
    rule: str
    k: int
    region: str
    pointing: float
    accuracy: float
    error: float

    @property
    def total(self) -> float:
        """What is compared."""
        return self.pointing + self.accuracy


def choose(seen: dict[str, tuple[Seen, Seen]]) -> tuple[Choice, list[dict[str, Any]]]:
    """Choose prompt, rule and k with one region, then the region for them.

    What counts is the sum of pointing and Acc@0.5. Of everything within one standard error of the
    best, the fewest heads win (the one-standard-error rule), then the higher sum.

    Args:
        seen: per prompt, where heads are selected and where the choice is scored.
    """
    ranked = {
        (prompt, rule): select(made(k=max(SIZES)), calibrated).ranked
        for prompt, (calibrated, _) in seen.items()
        for rule, made in RULES.items()
    }

    def score(prompt: str, rule: str, k: int, region: str) -> Choice:
        hits, ious = seen[prompt][1].answers(ranked[prompt, rule][:k], REGIONS[region])
        right = ious >= 0.5
        error = float((hits + right.astype(float)).std() / len(hits) ** 0.5)
        return Choice(prompt, rule, k, region, float(hits.mean()), float(right.mean()), error)

    tried = [
        score(prompt, rule, k, FIRST_REGION)
        for prompt, rule in ranked
        for k in (SIZES if rule != "mean_all" else (len(ranked[prompt, rule]),))
        if k <= len(ranked[prompt, rule])
    ]
    best = max(tried, key=lambda choice: choice.total)
    enough = [choice for choice in tried if choice.total >= best.total - best.error]
    few = min(enough, key=lambda choice: (choice.k, -choice.total))
    finals = [score(few.prompt, few.rule, few.k, region) for region in REGIONS]
    final = max(finals, key=lambda choice: choice.total)
    ordered = sorted([*tried, *finals], key=lambda choice: -choice.total)
    return final, [vars(choice) for choice in ordered]


def row(name: str, hits: np.ndarray, ious: np.ndarray, seen: Seen) -> dict[str, Any]:
    """One line of the table; intervals are clustered by picture."""
    kinds = np.array([sample.kind for sample in seen.samples])
    clusters = seen.scenes

    def estimate(values: np.ndarray) -> Estimate:
        return bootstrap_interval(values.astype(np.float64), clusters)

    return {
        "heads": name,
        "n": len(hits),
        "pointing": vars(estimate(hits)),
        "acc": vars(estimate(ious >= 0.5)),
        "iou": vars(estimate(ious)),
        "kinds": {
            kind: {
                "pointing": float(hits[kinds == kind].mean()),
                "acc": float((ious[kinds == kind] >= 0.5).mean()),
            }
            for kind in KINDS
        },
    }


def random_heads(seen: Seen, like: Sequence[Head], read: Read, seed: int = 0) -> dict[str, Any]:
    """As many random heads of the same layers, the mean of `DRAWS` draws."""
    layers = {head.layer for head in like}
    pool = [head for head in seen.heads if head.layer in layers]
    rng = np.random.default_rng(seed)
    hits, right, ious = [], [], []
    for _ in range(DRAWS):
        drawn = [pool[i] for i in rng.permutation(len(pool))[: len(like)]]
        one_hits, one_ious = seen.answers(drawn, read)
        hits.append(one_hits)
        ious.append(one_ious)
        right.append(one_ious >= 0.5)
    mean_hits, mean_right, mean_ious = (np.mean(values, axis=0) for values in (hits, right, ious))
    line = row("", mean_hits, mean_ious, seen)
    line["heads"] = f"random, {len(like)} of the same layers ({DRAWS} draws)"
    line["acc"] = vars(bootstrap_interval(mean_right, seen.scenes))
    for kind in KINDS:
        chosen = np.array([sample.kind == kind for sample in seen.samples])
        line["kinds"][kind]["acc"] = float(mean_right[chosen].mean())
    return line


def centre_box(seen: Seen, samples: Sequence[Sample]) -> dict[str, Any]:
    """A box of the calibration scenes' mean size in the middle of every picture."""
    sides = np.array([[s.box[2] - s.box[0], s.box[3] - s.box[1]] for s in samples]).mean(axis=0)
    middle = np.array(samples[0].image.shape[1::-1]) / 2
    box = np.concatenate([middle - sides / 2, middle + sides / 2])
    truth = np.array([sample.box for sample in seen.samples], dtype=np.float64)
    hits = [pointing((float(middle[0]), float(middle[1])), s.mask) for s in seen.samples]
    ious = np.asarray(iou(np.repeat(box[None], len(truth), axis=0), truth))
    return row("centre box", np.array(hits), ious, seen)


def table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """One table in Markdown."""
    lines = [
        f"**Region: `{name}`** (n = {rows[0]['n']}; 95 % intervals, bootstrapped by picture)",
        "",
        "| heads | pointing | Acc@0.5 | mean IoU |",
        "| --- | --- | --- | --- |",
    ]
    for line in rows:
        cells = [str(Estimate(**line[key])) for key in ("pointing", "acc", "iou")]
        lines.append(f"| {line['heads']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_kind(rows: Sequence[dict[str, Any]]) -> str:
    """Pointing and Acc@0.5 per kind of expression, in Markdown."""
    lines = ["| pointing / Acc@0.5 by kind | " + " | ".join(KINDS) + " |"]
    lines.append("| --- |" + " --- |" * len(KINDS))
    for line in rows:
        cells = [f"{v['pointing']:.2f} / {v['acc']:.2f}" for v in line["kinds"].values()]
        lines.append(f"| {line['heads'].split(' (')[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def head_set(name: str, rule: str, found: Any, choice: Choice, n: int, k: int) -> HeadSet:
    """The registry's entry for selected heads."""
    prompt = PROMPTS[choice.prompt]
    stated = {"form": prompt.form, "template": prompt.template, "query_row": prompt.query_row}
    if prompt.system:
        stated["system"] = prompt.system
    heads = found.ranked[:k]
    frequency = tuple(float(value) for value in found.frequency[:k]) if len(found.frequency) else ()
    return HeadSet(
        name,
        heads,
        rule,
        model=("embedded",),
        layers=1 + max(head.layer for head in found.all_heads),
        heads_per_layer=1 + max(head.head for head in found.all_heads),
        frequency=frequency,
        provenance={
            "data": "synthetic scenes of this project",
            "split": "calibration, draw 0",
            "n": n,
            "seed": 0,
            "prompt": stated,
            "tool_version": __version__,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "source": "scripts/embedded/evaluate.py",
            "licence": "Apache-2.0",
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, write tables, figures and head sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the trained model")
    parser.add_argument("--untrained", type=Path, help="the same model before training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000, help="calibration samples for heads")
    parser.add_argument(
        "--choosing", type=int, default=600, help="calibration samples to choose on"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calibration-only", action="store_true", help="do not open the exam")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    first, second = calibration(args.samples), calibration(args.choosing, draw_number=1)
    engine = load(str(args.folder), adapter="llava", heads="auto", region="paper")
    seen = {
        name: (look(engine, first, prompt), look(engine, second, prompt))
        for name, prompt in PROMPTS.items()
    }
    choice, tried = choose(seen)
    (args.out / "choices.json").write_text(json.dumps(tried, indent=1), encoding="utf-8")
    print(choice, flush=True)
    if args.calibration_only:
        return

    samples = exam()
    looked = look(engine, samples, PROMPTS[choice.prompt])
    calibrated = seen[choice.prompt][0]
    chosen = select(RULES[choice.rule](k=choice.k), calibrated)
    paper = select(RULES["paper"](), calibrated)
    untrained = None
    if args.untrained:
        raw = load(str(args.untrained), adapter="llava", heads="auto", region="paper")
        untrained = (
            look(raw, samples, PROMPTS[choice.prompt]),
            select(RULES["paper"](), look(raw, first, PROMPTS[choice.prompt])).heads,
        )
    singles = [
        (looked.answers([head], regions.half_level)[0].mean(), head)
        for head in looked.heads
        if head.layer >= selection.SKIPPED_LAYERS
    ]
    oracle = max(singles)[1]
    every = [head for head in looked.heads if head.layer >= selection.SKIPPED_LAYERS]
    report: dict[str, Any] = {
        "exam": digest(samples),
        "choice": vars(choice),
        "mean_attention": {
            str(h): round(float(a), 4)
            for h, a in zip(paper.all_heads, paper.mean_attention, strict=True)
        },
        "tau": paper.threshold,
        "regions": {},
    }
    text = []
    for region in dict.fromkeys(("paper", choice.region)):
        read = REGIONS[region]
        named = f" ({', '.join(map(str, chosen.heads))})" if choice.k <= 6 else ""
        rows = [
            row(f"**default**: {choice.rule}, k = {choice.k}{named}",
                *looked.answers(chosen.heads, read), looked),
            row(f"paper's criteria, k = 3 ({', '.join(map(str, paper.heads))})",
                *looked.answers(paper.heads, read), looked),
            random_heads(looked, chosen.heads, read),
            random_heads(looked, paper.heads, read),
            row("mean of all heads (layers 2 on)", *looked.answers(every, read), looked),
            row(f"best single head ({oracle}; oracle)", *looked.answers([oracle], read), looked),
        ]  # fmt: skip
        if untrained:
            rows.append(
                row(
                    "untrained model, paper's criteria",
                    *untrained[0].answers(untrained[1], read),
                    untrained[0],
                )
            )
        rows.append(centre_box(looked, first))
        report["regions"][region] = rows
        text += [table(region, rows), by_kind(rows[:5])]
    (args.out / "exam.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (args.out / "exam.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    for name, rule, found, k in (
        ("embedded", choice.rule, chosen, choice.k),
        ("embedded-paper", "paper", paper, 3),
    ):
        entry = head_set(name, rule, found, choice, args.samples, k)
        (args.out / f"{name}.yaml").write_text(dump_head_set(entry), encoding="utf-8")
    print("\n\n".join(text))


if __name__ == "__main__":
    main()
