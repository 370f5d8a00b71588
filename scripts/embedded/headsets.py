"""Find, score and publish the embedded model's head sets, step by step.

    python scripts/embedded/headsets.py find DIR      # vg-engine discover, all rules, one pass
    vg-engine eval --out EXAM $(python scripts/embedded/headsets.py names)
    python scripts/embedded/headsets.py tables EXAM   # controls and tables go where they are read

The tables stand in the README and the model card; nothing in them is typed by hand.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from publish import REGISTRY, ROOT, between

from vg_engine import DiscoverSettings, discover, load
from vg_engine.core.evaluation.intervals import Estimate
from vg_engine.core.heads import Head
from vg_engine.registry.catalog import head_set as shipped
from vg_engine.registry.schema import dump_head_set

DATA = "scenes?split=calibration&n=1000"
MAIN = "embedded"  # the set that the model's entry names
SETS: Mapping[str, tuple[str, int]] = {
    MAIN: ("consensus", 16),
    "embedded-paper": ("paper", 3),
    "embedded-paper-sensitivity": ("paper+sensitivity", 3),
    "embedded-sensitivity": ("sensitivity", 3),
    "embedded-contrastive": ("contrastive", 3),
    "embedded-consensus": ("consensus", 3),
    "embedded-supervised": ("supervised", 3),
}
SHOWN = ("pointing", "acc@0.5", "miou", "ciou")


def find(folder: Path) -> None:
    """Look at the calibration scenes once, and write a head set per rule."""
    rules = list(dict.fromkeys(rule for rule, _ in SETS.values()))
    with load(heads="auto") as engine:
        found = discover(
            engine,
            DATA,
            folder,
            rules=rules,
            settings=DiscoverSettings(k=None),
            remarks={"date": dt.datetime.now(dt.UTC).date().isoformat()},
            progress=lambda done, total: print(f"{done} of {total}", end="\r", flush=True),
        )
    for name, (rule, k) in SETS.items():
        chosen = replace(found.found[rule], k=k)
        made = replace(found, found={**found.found, rule: chosen}).head_set(name, rule)
        stated = {
            **made.provenance,
            "source": f"vg-engine discover --rule {rule} --k {k} --name {name}",
            "licence": "Apache-2.0",
        }
        made = replace(made, provenance=MappingProxyType(stated))
        (REGISTRY / "heads" / f"{name}.yaml").write_text(dump_head_set(made), encoding="utf-8")
        print(f"{name:<28} {', '.join(map(str, made.heads))}")


def distinct() -> dict[str, list[str]]:
    """The sets that hold other heads than those before them -> all that hold the same."""
    same: dict[frozenset[Head], list[str]] = {}
    for name in SETS:
        same.setdefault(frozenset(shipped(name).heads), []).append(name)
    return {names[0]: names for names in same.values()}


def tables(report: Mapping[str, Any]) -> None:
    """Put what the exam says into the head sets, the README and the model card."""
    rows = {row["name"]: row for row in report["table"]}
    stands_for = {
        name: next(other for other in names if other in rows)
        for names in distinct().values()
        for name in names
    }
    for name in SETS:
        told = {"exam": f"{report['n']} sentences, {report['data']}"}
        told |= {"these heads": _plain(rows[stands_for[name]])}
        told |= {row["name"]: _plain(row) for row in report["table"] if row["control"]}
        made = shipped(name)
        stated = MappingProxyType({**made.provenance, "controls": told})
        text = dump_head_set(replace(made, provenance=stated))
        (REGISTRY / "heads" / f"{name}.yaml").write_text(text, encoding="utf-8")
    pages = {ROOT / "README.md": SHOWN[:2], REGISTRY / "embedded" / "README.md": SHOWN}
    for path, shown in pages.items():
        text = between(path.read_text(encoding="utf-8"), "exam", table(report, shown))
        path.write_text(text, encoding="utf-8")


def table(report: Mapping[str, Any], shown: Sequence[str]) -> str:
    """The exam's table in Markdown: every set, then the controls."""
    titles = [report["metrics"][name]["title"] for name in shown]
    counted = f"n = {report['n']} sentences about {report['pictures']} pictures"
    lines = [
        f"{counted}; 95 % intervals, bootstrapped by picture",
        "",
        f"| heads | {' | '.join(titles)} |",
        "| --- |" + " --- |" * len(shown),
    ]
    for row in report["table"]:
        cells = [str(_estimate(row["scores"][name])) for name in shown]
        lines.append(f"| {_named(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _named(row: Mapping[str, Any]) -> str:
    name = row["name"]
    if name not in SETS:
        return f"*{name}*"
    same = next(names for names in distinct().values() if name in names)
    k = SETS[name][1]
    heads = f": {', '.join(map(str, shipped(name).heads))}" if k <= 3 else ""
    rules = ", ".join(f"`{SETS[other][0]}`" for other in same)
    words = f"{rules}, k = {k}{heads}"
    return f"**{words}** (default)" if name == MAIN else words


def _estimate(score: Mapping[str, Any]) -> Estimate:
    known = {
        key: float("nan") if score[key] is None else score[key] for key in ("value", "low", "high")
    }
    return Estimate(**known, n=score["n"])


def _plain(row: Mapping[str, Any]) -> dict[str, float]:
    values = {name: row["scores"][name]["value"] for name in SHOWN}
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and do one of the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("find").add_argument("folder", type=Path)
    steps.add_parser("names")
    steps.add_parser("tables").add_argument("exam", type=Path)
    args = parser.parse_args(arguments)
    if args.step == "find":
        torch.set_num_threads(1)
        find(args.folder)
    elif args.step == "names":
        print(" ".join(f"--heads {name}" for name in distinct()))
    else:
        tables(json.loads((args.exam / "eval.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
