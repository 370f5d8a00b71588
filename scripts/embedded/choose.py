"""Choice of prompt, rule, k and region: `python scripts/embedded/choose.py FOLDER --out DIR`.

Heads are selected without labels on one set of calibration scenes. The rule, the prompt, k
and the region are chosen with labels on another one. The exam's scenes are not opened: what was
chosen is scored on them by `vg-engine eval`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from seen import Read, Seen, look
from vocabulary import SYSTEM

from vg_engine import load
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.readout import regions
from vg_engine.core.readout.edge_level import edge_level
from vg_engine.core.selection import rules
from vg_engine.core.selection.ranking import select
from vg_engine.plugins.datasets.exam import calibration

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
    "paper": rules.Paper(),
    "paper+sensitivity": rules.PaperSensitivity(),
    "sensitivity": rules.Sensitivity(),
    "consensus": rules.Consensus(),
    "mean_all": rules.AttentionOnly(),
}
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
FIRST_REGION = "half_level:level=0.5"  # with which heads are compared


@dataclass(frozen=True)
class Choice:
    """The choice that the calibration scenes made."""

    prompt: str
    rule: str
    k: int
    region: str
    pointing: float
    accuracy: float
    error: float

    @property
    def total(self) -> float:
        """The value that choices are compared by."""
        return self.pointing + self.accuracy


def choose(seen: dict[str, tuple[Seen, Seen]]) -> tuple[Choice, list[dict[str, Any]]]:
    """Choose prompt, rule and k with one region, then the region for them.

    What counts is the sum of pointing and Acc@0.5. Of everything within one standard error of the
    best, the fewest heads win (the one-standard-error rule), then the higher sum.

    Args:
        seen: per prompt, where heads are selected and where the choice is scored.
    """
    ranked = {
        (prompt, name): select(rule, calibrated.observed, name=name, k=None).ranked
        for prompt, (calibrated, _) in seen.items()
        for name, rule in RULES.items()
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


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, and write what was tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the trained model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000, help="calibration samples for heads")
    parser.add_argument(
        "--choosing", type=int, default=600, help="calibration samples to choose on"
    )
    parser.add_argument("--threads", type=int, default=1)
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


if __name__ == "__main__":
    main()
