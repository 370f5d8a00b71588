"""Options from a YAML file."""

import json
from pathlib import Path
from typing import Any

import commands
import pytest


def test_a_config_gives_what_the_command_line_leaves_open(folder: Path, kit: Any) -> None:
    (folder / "c.yaml").write_text(
        "adapter: cell\nmodel: cells\nimage: a.png\ntext: ['1,2', '3,3']\nheads: L2H1\n"
        "json: true\nbatch-size: 1\nregion: otsu\npostprocess: sure\n"
        "prompt: {form: chat, template: 'the {expression}'}\noptions: {geometry: pad}\n"
    )
    done = commands.call("run", "--config", "c.yaml", "--region", "paper", "--prompt", "bare")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["expression"] for a in answers] == ["1,2", "3,3"]
    expected = {
        "region": "paper", "prompt": "bare", "template": "the {expression}", "postprocess": ["sure"]
    }  # fmt: skip
    assert expected.items() <= answers[0]["provenance"].items()
    assert dict(kit.CellAdapter.specs[0].options) == {"geometry": "pad"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imag: a.png", "no option 'imag'; did you mean image"),
        ("trust_remote_code: true", "say --trust-remote-code on the command line"),
        ("config: x", "a config names no other config"),
        ("model: [a, b]", "model takes one value"),
        ("model: {a: b}", "model takes one value"),
        ("prompt: {from: chat}", "prompt: unknown key 'from'; did you mean form"),
        ("- a", "config c.yaml: must be `key: value` lines, got list"),
        ("a: [", "while parsing a flow node, did not find expected node content"),
        ("[" * 5000, "c.yaml, line 1: more than 20 levels deep"),
        ("options: 3", "options: must be `key: value` lines, got int 3"),
        ("prompt: {template: 3}", "prompt: template: must be text, got int 3; write it in quotes"),
        ("text: a\ntext: b", "c.yaml, line 2: key 'text' twice; keep one"),
        ("batch-size: 1\nbatch_size: 2", "batch_size twice, with - and with _; keep one"),
        ("text: [a, yes]", "text takes text, got ['a', True]; write it in quotes"),
        ("imag:", "no option 'imag'; did you mean image"),
        ("batch_size: many", "--batch-size"),
    ],
)
def test_a_wrong_config_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "c.yaml").write_text(text)
    assert words in commands.refused(
        "run", "--image", "a.png", "--text", "1,2", "--config", "c.yaml"
    )
