"""Time that the command line takes to start: `python benchmarks/bench_start.py`."""

from __future__ import annotations

import subprocess
import sys

from ratios import interleaved, report


def main() -> None:
    """Measure whole processes and print."""

    def command(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    seconds = interleaved(
        {
            "python -c pass": lambda: command("-c", "pass"),
            "vg-engine --help": lambda: command("-m", "vg_engine", "--help"),
            "vg-engine adapters": lambda: command("-m", "vg_engine", "adapters"),
            "vg-engine heads": lambda: command("-m", "vg_engine", "heads"),
        },
        rounds=9,
    )
    report(seconds, "python -c pass")


if __name__ == "__main__":
    main()
