"""Streams that are full, closed or read no further: an exit code, and a line at most."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="other streams")
CLOSED = -100  # for a pipe that nobody reads


def ended(*arguments: str, stdout: int | None = None, stderr: int | None = None) -> tuple[int, str]:
    """The exit code of a command, and what it wrote to a stderr that is open."""
    reader, closed = os.pipe()
    os.close(reader)
    streams = {
        "stdout": closed if stdout == CLOSED else stdout,
        "stderr": closed if stderr == CLOSED else stderr or subprocess.PIPE,
    }
    command = [sys.executable, "-m", "vg_engine", *arguments]
    done = subprocess.run(command, check=False, text=True, **streams)  # type: ignore[call-overload]
    os.close(closed)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("arguments", [["--help"], ["heads", "--json"], ["heads"]])
def test_a_pipe_that_is_read_no_further_ends_a_command_without_a_word(arguments: list[str]) -> None:
    assert ended(*arguments, stdout=CLOSED) == (141, "")


def test_a_stderr_that_is_read_no_further_is_no_crash() -> None:
    assert ended("heads", "--none", stderr=CLOSED)[0] == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["heads"]])
def test_a_full_stdout_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = ended(*arguments, stdout=full.fileno())
    assert code == 2
    assert said.splitlines() == [
        "error: stdout cannot be written (No space left on device); send it elsewhere"
    ]
