"""Put a trained model and its exam where they ship: `python scripts/embedded/publish.py RUN EXAM`.

Copies the model folder into the registry, its head sets beside the others, prompt, heads and
region into its entry, and the tables into the model card and the README.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = ROOT / "registry"


def between(text: str, mark: str, content: str) -> str:
    """The text with what stands between `<!-- mark -->` and `<!-- /mark -->` replaced."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    if not re.search(pattern, text, flags=re.DOTALL):
        raise SystemExit(f"no place marked {mark!r}")
    return re.sub(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)


def answers(log: Path, reports: int) -> str:
    """Accuracy per task over the last reports of a run, as a table."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    tasks: dict[str, list[float]] = {}
    for line in lines[-reports:]:
        for task, share in line["tasks"].items():
            tasks.setdefault(task, []).append(share)
    rows = ["| task | answers right |", "| --- | --- |"]
    rows += [f"| {task} | {sum(v) / len(v):.2f} |" for task, v in sorted(tasks.items())]
    return "\n".join(rows)


def controls(report: dict[str, Any], index: int) -> dict[str, Any]:
    """What a head set scored in the exam, and the controls beside it."""
    rows = report["regions"][report["choice"]["region"]]
    named = {
        "these heads": rows[index],
        "random heads": rows[2 + index],
        "mean of all heads": rows[4],
    }
    return {
        "exam": f"{rows[0]['n']} expressions, region {report['choice']['region']}",
        **{
            name: {key: round(row[key]["value"], 3) for key in ("pointing", "acc", "iou")}
            for name, row in named.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="what train.py wrote")
    parser.add_argument("exam", type=Path, help="what evaluate.py wrote")
    args = parser.parse_args(arguments)
    for file in (args.run / "model").iterdir():
        shutil.copy(file, REGISTRY / "embedded" / file.name)
    report: dict[str, Any] = json.loads((args.exam / "exam.json").read_text(encoding="utf-8"))
    for index, name in enumerate(("embedded", "embedded-paper")):
        found = yaml.safe_load((args.exam / f"{name}.yaml").read_text(encoding="utf-8"))
        found |= {"region": report["choice"]["region"], "controls": controls(report, index)}
        text = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)
        (REGISTRY / "heads" / f"{name}.yaml").write_text(text, encoding="utf-8")
    heads = yaml.safe_load((args.exam / "embedded.yaml").read_text(encoding="utf-8"))
    path = REGISTRY / "models" / "embedded.yaml"
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    entry |= {"prompt": heads["prompt"], "heads": "embedded", "region": report["choice"]["region"]}
    path.write_text(yaml.safe_dump(entry, sort_keys=False, width=100), encoding="utf-8")

    tables = (args.exam / "exam.md").read_text(encoding="utf-8").strip()
    card = REGISTRY / "embedded" / "README.md"
    text = between(card.read_text(encoding="utf-8"), "exam", tables)
    text = between(text, "answers", answers(args.run / "log.jsonl", 8))
    card.write_text(text, encoding="utf-8")
    chosen = report["choice"]["region"]
    start = tables.index(f"**Region: `{chosen}`**")
    first = tables[start:].split("| pointing / Acc@0.5 by kind")[0].strip()
    readme = ROOT / "README.md"
    readme.write_text(between(readme.read_text(encoding="utf-8"), "exam", first), encoding="utf-8")


if __name__ == "__main__":
    main()
