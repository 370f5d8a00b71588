"""The journal: whatever is torn off its end, going on gives the same file."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from vg_engine.core.errors import InputError, OutputError
from vg_engine.studies.shared.journal import Journal, differences, digest, pack, unpack

SETTINGS = {"model": "m", "prompt": {"form": "bare"}, "batch": 2}
DATE = {"date": "2026-01-01"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "j.jsonl"


def opened(path, **more):
    return Journal(path, "discover", SETTINGS, **more)


def batch(number):
    return [{"id": f"{number}-{k}", "value": number * 0.1 + k} for k in range(1 + number % 3)]


def write(path, batches):
    """Go on until there are `batches`; what the file holds then."""
    with opened(path, remarks=DATE) as journal:
        while journal.done < batches:
            journal.append(batch(journal.done))
    return path.read_bytes()


def test_whatever_is_torn_off_the_end_is_written_again_the_same(path) -> None:
    expected = write(path, 5)
    for cut in range(len(expected) + 1):
        path.write_bytes(expected[:cut])
        assert write(path, 5) == expected, f"cut after {cut} bytes"
    assert not list(path.parent.glob("*.damaged"))


def test_a_folder_belongs_to_one_command(path) -> None:
    kept = path.with_name("records.jsonl")
    with Journal(kept, "eval", SETTINGS), pytest.raises(InputError, match="choose another folder"):
        Journal(path.with_name("observations.jsonl"), "discover", SETTINGS)
    Journal(kept, "eval", SETTINGS).close()
    assert [file.name for file in path.parent.iterdir()] == ["records.jsonl"]


def test_records_are_those_of_whole_batches_in_order(path) -> None:
    lines = write(path, 4).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # batch 3 has one record, batch 2 has three
    with opened(path) as journal:
        assert journal.done == 3
        ids = [record["id"] for record in journal.records()]
        assert ids == [r["id"] for n in range(3) for r in batch(n)]
        assert journal.remarks == DATE
    path.write_bytes(b"".join(lines[:-2]))
    with opened(path) as journal:
        assert journal.done == 2, "the third batch lacks a record: done again whole"


def test_a_broken_line_in_the_middle_costs_what_follows_and_no_more(path, caplog) -> None:
    expected = write(path, 5)
    lines = expected.splitlines(keepends=True)
    lines[3] = b'{"batch": 1, "of": 2, "id": \xff\n'
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    with opened(path) as journal:
        assert journal.done == 1
    assert path.with_name("j.jsonl.damaged").read_bytes() == damaged, "hours of work may be in it"
    assert "is damaged after batch 1" in caplog.text
    assert write(path, 5) == expected


def test_other_settings_and_a_second_writer_are_refused(path) -> None:
    before = write(path, 2)
    with pytest.raises(InputError, match=r"prompt form: bare there, chat now.*--out"):
        Journal(path, "discover", SETTINGS | {"prompt": {"form": "chat"}})
    with pytest.raises(InputError, match="belongs to a discover run"):
        Journal(path, "eval", SETTINGS)
    with opened(path), pytest.raises(OutputError, match="another process"):
        opened(path)
    assert path.read_bytes() == before
    with pytest.raises(OutputError, match="cannot be written"):
        opened(path.parent / "none" / "j.jsonl")


@pytest.mark.parametrize(
    "records", [[], [{"id": 1, "error": "no such file"}], [{"samples": [], "faults": [{"id": 1}]}]]
)
def test_a_journal_without_work_is_begun_anew_with_other_settings(path, records) -> None:
    with opened(path, remarks=DATE) as journal:
        if records:
            journal.append(records)
    other = SETTINGS | {"prompt": {"form": "chat"}}
    with Journal(path, "discover", other) as journal:
        assert (journal.done, journal.remarks) == (0, {})
        journal.append(batch(0))
    with Journal(path, "discover", other) as journal:
        assert next(journal.records())["id"] == "0-0"


def test_settings_that_differ_are_told_in_words() -> None:
    old = {"prompt": {"ending": "."}, "limit": None, "heads": ["L1H2", "L3H4"], "rule": "paper"}
    new = {"limit": 9, "heads": [], "controls": True, "rule": "paper"}
    assert differences(old, new) == (
        "controls: none there, yes now, heads: L1H2, L3H4 there, none now, limit: none there, 9 now"
    )


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b"{}\n", b"some text without an end"])
def test_a_file_that_is_not_ours_is_left_alone(path, content) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a journal of this tool"):
        opened(path)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_what_was_done(path) -> None:
    """A child whose files may not grow beyond a few hundred bytes."""
    child = f"""
import resource, signal
from pathlib import Path
from vg_engine.core.errors import OutputError
from vg_engine.studies.shared.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(path)!r}), "discover", {SETTINGS!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
try:
    for n in range(1000):
        journal.append([{{"id": n, "value": "x" * 50}}])
except OutputError as error:
    print(error)
journal.close()
"""
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert os.strerror(errno.EFBIG) in ran.stdout
    assert "run the same command again" in ran.stdout
    lines = path.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
    with opened(path) as journal:
        assert journal.done == len(lines) - 1 > 2


def test_arrays_survive_bit_by_bit() -> None:
    values = np.array([[np.inf, np.nan, 1e-30], [0.1, -0.0, 3.0]], np.float32)
    back = unpack(json.loads(json.dumps(pack(values))))
    assert back.tobytes() == values.tobytes()
    assert back.shape == values.shape


def test_the_key_follows_the_settings_not_their_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
