"""`SIGKILL` at any moment of discovery and evaluation: what comes out is as if it had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONGEST = 300.0  # seconds that a run may take on a busy machine
WORK = {
    "discover": (
        "observations.jsonl",
        ("--data", "scenes?split=calibration&n=44", "--samples", "36", "--draws", "2"),
        ("--rule", "paper", "--rule", "consensus", "--per-head", "4"),
    ),
    "eval": (
        "records.jsonl",
        ("--limit", "44", "--random-draws", "2", "--resamples", "50"),
        ("--heads", "embedded-paper", "--heads", "L3H1"),
    ),
}


def start(work: str, out: Path) -> subprocess.Popen[bytes]:
    _, data, how = WORK[work]
    command = [sys.executable, "-m", "vg_engine", work, *data, *how]
    return subprocess.Popen(
        [*command, "--batch-size", "2", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(work: str, out: Path) -> dict[str, bytes]:
    """Run to the end; the files that are there then, without the command's own folder name."""
    assert start(work, out).wait(LONGEST) == 0
    return {p.name: p.read_bytes().replace(str(out).encode(), b"OUT") for p in out.iterdir()}


def kill_within(work: str, out: Path, rng: random.Random) -> int:
    """Kill a run at a random moment after its first new batch; returns the lines it leaves."""
    journal = out / WORK[work][0]
    before = journal.stat().st_size if journal.exists() else 0
    run = start(work, out)
    deadline = time.monotonic() + LONGEST
    while run.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size > before:
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0.0, 0.3))
    run.send_signal(signal.SIGKILL)
    run.wait(LONGEST)
    return len(journal.read_bytes().splitlines())


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("work", WORK)
def test_what_was_killed_ends_as_if_it_had_not_been(work: str, kills: int, tmp_path: Path) -> None:
    expected = finish(work, tmp_path / "whole")
    rng = random.Random(kills)
    lines = [kill_within(work, tmp_path / "killed", rng) for _ in range(kills)]
    assert lines == sorted(lines), "nothing that was done is lost"
    journal = WORK[work][0]
    assert lines[0] < len(expected[journal].splitlines()), "it was killed at its work"
    assert finish(work, tmp_path / "killed") == expected
    records = map(json.loads, (tmp_path / "killed" / journal).read_text().splitlines()[1:])
    keys = [key for one in records for key in one.get("samples") or [one["id"]]]
    assert len(set(keys)) == len(keys), "nothing is counted twice"
