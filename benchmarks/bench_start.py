"""Time that the command line takes to start: `python benchmarks/bench_start.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ratios import interleaved, report


def main() -> None:
    """Measure whole processes and print."""

    def command(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=False, capture_output=True)

    scene = str(Path(__file__).parents[1] / "examples" / "scene.png")
    asked = ("-m", "vg_engine", "run", "--text", "the red circle", "--image")
    seconds = interleaved(
        {
            "python -c pass": lambda: command("-c", "pass"),
            "vg-engine --help": lambda: command("-m", "vg_engine", "--help"),
            "vg-engine adapters": lambda: command("-m", "vg_engine", "adapters"),
            "vg-engine heads": lambda: command("-m", "vg_engine", "heads"),
            "vg-engine run, no such picture": lambda: command(*asked, "none.png"),
            "vg-engine run, no such adapter": lambda: command(*asked, scene, "--adapter", "none"),
            "vg-engine run": lambda: command(*asked, scene),
        },
        rounds=9,
    )
    report(seconds, "python -c pass")


if __name__ == "__main__":
    main()
