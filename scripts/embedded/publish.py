"""Put a trained model where it ships: `python scripts/embedded/publish.py RUN`.

Copies the model folder into the registry, and what it answers right into the model card.
`choose.py` then tells prompt and region for its entry, `headsets.py` its heads and tables.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

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


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="what train.py wrote")
    args = parser.parse_args(arguments)
    for file in (args.run / "model").iterdir():
        shutil.copy(file, REGISTRY / "embedded" / file.name)
    card = REGISTRY / "embedded" / "README.md"
    text = between(card.read_text(encoding="utf-8"), "answers", answers(args.run / "log.jsonl", 8))
    card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
