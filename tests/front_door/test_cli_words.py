"""What the commands call things, and hints at what was meant."""

import json

import commands
import pytest


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (("doctor",), "doctor [OPTIONS] [MODEL]"),
        (("convert",), "convert [OPTIONS] SRC DST"),
        (("heads", "compare"), "heads compare [OPTIONS] [SET]..."),
        (("heads",), "heads [OPTIONS] COMMAND [ARGS]..."),
        ((), "[OPTIONS] COMMAND [ARGS]..."),
        (("adapters",), "adapters [OPTIONS]"),
    ],
)
def test_help_is_plain(words, usage):
    text = commands.call(*words, "--help").stdout
    assert f"{usage} " in text
    for foreign in ("<bool>", "[[", "{"):
        assert foreign not in text


def test_an_option_by_another_name_is_hinted_at():
    assert "called --rule" in commands.refused("discover", "--mode", "paper")


def test_input_that_is_an_array_gets_one_line(tmp_path):
    record = {"image": "a.png", "text": "a cat"}
    (tmp_path / "all.json").write_text(json.dumps([record, record], indent=1))
    error = commands.refused("run", "--input", tmp_path / "all.json")
    assert "is a JSON array; write one record per line" in error
