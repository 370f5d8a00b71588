import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from vg_engine.cli import console
from vg_engine.cli.main import app
from vg_engine.plugins.exporters.masks import from_rle

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1")


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["run", *arguments], input=stdin)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_picture_one_text(folder: Path) -> None:
    done = run(*CELL, "--image", "a.png", "--text", "1,2", "--out", "out")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert line.startswith("a.png: 1,2  ->  box ")
    assert line.endswith(f"  {Path('out') / 'a-1-2.png'}")
    assert "note: cells have no model" in done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-1-2.png", "results.jsonl"]
    with Image.open("out/a-1-2.png") as image:
        assert image.size[0] == 640
    (record,) = records(Path("out/results.jsonl").read_text())
    assert record["overlay"] == "a-1-2.png"
    assert (record["id"], record["image"], record["expression"]) == (1, "a.png", "1,2")


def test_every_text_about_every_picture(folder: Path) -> None:
    done = run(
        *CELL,
        "--image",
        "a.png",
        "--image",
        "b.png",
        "--text",
        "1,2",
        "--text",
        " 3,4 ",
        "--json",
        "--out",
        "out",
        "--mask",
    )
    assert done.exit_code == 0, done.output
    answers = records(done.stdout)
    assert [(a["image"], a["expression"]) for a in answers] == [
        ("a.png", "1,2"), ("a.png", "3,4"), ("b.png", "1,2"), ("b.png", "3,4"),
    ]  # fmt: skip
    assert records(Path("out/results.jsonl").read_text()) == answers
    for answer in answers:
        with Image.open(Path("out") / answer["mask_files"][0]) as image:
            assert np.array_equal(np.asarray(image) == 255, from_rle(answer["masks"][0]))
    names = {path.name for path in Path("out").iterdir()}
    assert {"a-all.png", "b-all.png", "a-3-4.png", "b-1-2.mask.png"} < names


def test_without_out_nothing_is_written(folder: Path) -> None:
    before = set(folder.iterdir())
    done = run(*CELL, "--image", "a.png", "--text", "1,2")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1
    assert set(folder.iterdir()) == before


def test_a_batch_goes_on_past_what_fails(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.png").rename(folder / "sub" / "c.png")
    lines = [
        '{"id": "first", "image": "c.png", "text": "1,2"}',
        '{"image": "none.png", "text": "1,2"}',
        "no json",
        "",
        '{"id": 9, "image": "c.png", "text": "broken"}',
        '{"image": "c.png", "text": "  "}',
        '{"image": "c.png"}',
        '{"text": "1,2"}',
        "[1]",
        '{"id": "last", "image": "c.png", "text": "5,5"}',
    ]
    (folder / "sub" / "q.jsonl").write_text("\n".join(lines))
    done = run(*CELL, "--input", "sub/q.jsonl", "--json", "--out", "out")
    assert done.exit_code == 2, done.output
    answers = records(done.stdout)
    assert [a["id"] for a in answers] == ["first", 2, 3, 9, 6, 7, 8, 9, "last"]
    errors = [a.get("error") for a in answers]
    assert errors[0] is errors[-1] is None
    for error, words in zip(
        errors[1:-1],
        ["no such file", "line 3 is no JSON", "35", "is empty", "names no text", "names no image",
         "line 9 is no record"],
        strict=True,
    ):  # fmt: skip
        assert error is not None
        assert words in error
    assert records(Path("out/results.jsonl").read_text()) == answers
    assert answers[0]["overlay"] == "first-1-2.png"
    assert done.stderr.count("error: record ") == 7


def test_a_batch_that_all_succeeds_exits_with_0(folder: Path) -> None:
    text = "".join(f'{{"image": "a.png", "text": "{n % 6},{n // 6}"}}\n' for n in range(20))
    done = run(*CELL, "--input", "-", "--json", "--batch-size", "3", stdin=text)
    assert done.exit_code == 0, done.output
    assert [r["expression"] for r in records(done.stdout)] == [
        f"{n % 6},{n // 6}" for n in range(20)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", "1,2"], "no picture is given; name one with --image"),
        (["--image", "a.png"], "nothing to look for; say it with --text"),
        (["--image", "a.png", "--text", " "], "the expression is empty"),
        (["--image", "none.png", "--text", "1,2"], "none.png: no such file; check the path"),
        (["--image", "a.png", "--image", "text.png", "--text", "1,2"], "not a picture"),
        (["--image", "a.png", "--text", "1,2", "--max-pixels", "9"], "raise --max-pixels"),
        (["--image", "a.png", "--text", "1,2", "--heads", "L9H1"], "L9H1 is out of range"),
        (["--image", "a.png", "--text", "1,2", "--heads", "nobodys"], "no head set 'nobodys'"),
        (["--image", "a.png", "--text", "1,2", "--adapter", "sell"], "did you mean cell"),
        (["--image", "a.png", "--text", "1,2", "--region", "papr"], "did you mean paper?"),
        (["--image", "a.png", "--text", "1,2", "--postprocess", "shur"], "did you mean sure?"),
        (["--image", "a.png", "--text", "1,2", "--prompt", "talk"], "must be 'bare' or 'chat'"),
        (["--image", "a.png", "--text", "1,2", "--query-row", "x"], "choose expression_last"),
        (["--image", "a.png", "--text", "broken"], "expected 36 image tokens, got 35"),
        (["--image", "a.png", "--text", "1,2", "--input", "q.jsonl"], "--input stands alone"),
        (["--input", "none.jsonl"], "--input none.jsonl cannot be read"),
        (["--input", "empty.jsonl"], "--input empty.jsonl is empty"),
        (["--input", "a\0b"], "cannot be read: embedded null byte"),
        (["--image", "a.png", "--text", "1,2", "--heads", f"L{'9' * 5000}H1"], "no head set"),
        (["--image", "a.png", "--text", "1,2", "--region", "otsu:factor=1.5"], "a whole number"),
        (["--image", "a.png", "--text", "1,2", "--region", "mean_std:c=nan"], "takes a number"),
        (["--input", "a.png"], "it is not UTF-8 text"),
        (["--image", "a.png", "--text", "1,2", "--max-pixels", "x"], "--max-pixels"),
        (["--imagee", "a.png"], "--imagee"),
        (["--image", "a.png", "--text", "1,2", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(
    folder: Path, arguments: list[str], words: str
) -> None:
    (folder / "text.png").write_text("text")
    (folder / "empty.jsonl").write_text("\n")
    before = set(folder.iterdir())
    done = run(*CELL, "--out", "out", *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert set(folder.iterdir()) == before


def test_masks_need_a_place(folder: Path) -> None:
    done = run(*CELL, "--image", "a.png", "--text", "1,2", "--mask")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "say where with --out" in done.stderr


def test_a_folder_that_cannot_be_written_stops_before_the_work(folder: Path) -> None:
    (folder / "file").write_text("x")
    kit = sys.modules["vg_cells"]
    for out in ("file", "file/below"):
        done = run(*CELL, "--image", "a.png", "--text", "1,2", "--out", out)
        assert done.exit_code == 2
        assert "cannot be written" in done.stderr
    assert not kit.CellAdapter.specs  # type: ignore[attr-defined]


def test_a_bug_shows_its_traceback(folder: Path) -> None:
    done = run(*CELL, "--image", "a.png", "--text", "bug")
    assert done.exit_code == 1
    assert isinstance(done.exception, ZeroDivisionError)


def test_ctrl_c_keeps_what_was_written(folder: Path) -> None:
    (folder / "q.jsonl").write_text(
        '{"image": "a.png", "text": "1,2"}\n{"image": "a.png", "text": "stop"}\n'
    )
    done = run(*CELL, "--input", "q.jsonl", "--out", "out", "--batch-size", "1")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "error: stopped; what was written stays"
    assert [r["expression"] for r in records(Path("out/results.jsonl").read_text())] == ["1,2"]
    assert not list(Path("out").glob(".*"))


def test_a_config_gives_what_the_command_line_leaves_open(folder: Path) -> None:
    (folder / "c.yaml").write_text(
        "adapter: cell\nmodel: cells\nimage: a.png\ntext: ['1,2', '3,3']\nheads: L2H1\n"
        "json: true\nbatch-size: 1\nregion: otsu\npostprocess: sure\n"
        "prompt: {form: chat, template: 'the {expression}'}\noptions: {geometry: pad}\n"
    )
    done = run("--config", "c.yaml", "--region", "paper", "--prompt", "bare")
    assert done.exit_code == 0, done.output
    answers = records(done.stdout)
    assert [a["expression"] for a in answers] == ["1,2", "3,3"]
    stated = answers[0]["provenance"]
    assert (stated["region"], stated["prompt"], stated["template"]) == (
        "paper", "bare", "the {expression}",
    )  # fmt: skip
    assert stated["postprocess"] == ["sure"]
    kit: Any = sys.modules["vg_cells"]
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
        ("imag:", "no option 'imag'; did you mean image"),
        ("batch_size: many", "--batch-size"),
    ],
)
def test_a_wrong_config_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "c.yaml").write_text(text)
    done = run(*CELL, "--config", "c.yaml", "--image", "a.png", "--text", "1,2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_reach_the_engine(folder: Path) -> None:
    done = run(
        *CELL, "--image", "a.png", "--text", "1,2", "--json", "--geometry", "pad", "--device",
        "cpu", "--dtype", "float32", "--revision", "main", "--trust-remote-code", "--postprocess",
        "sure", "--query-row", "prompt_last", "--region", "mean_std:c=1.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    kit: Any = sys.modules["vg_cells"]
    (spec,) = kit.CellAdapter.specs
    assert (spec.device, spec.dtype, spec.revision) == ("cpu", "float32", "main")
    assert spec.trust_remote_code
    assert dict(spec.options) == {"geometry": "pad"}
    (answer,) = records(done.stdout)
    assert answer["provenance"]["query_row"] == "prompt_last"
    assert answer["provenance"]["region"] == "mean_std:c=1.5"
    assert "sure" in answer["notes"]


def test_notes_are_said_once(folder: Path) -> None:
    done = run("--adapter", "cell", "--model", "cells", "--image", "a.png", *("--text", "1,2") * 3)
    assert done.exit_code == 0, done.output
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == len(set(notes))
    assert "vg-engine discover" in done.stderr


def test_names_of_files_are_safe_and_each_is_there_once(folder: Path) -> None:
    (folder / "q.jsonl").write_text(
        "".join(
            json.dumps({"id": name, "image": "a.png", "text": "1,2"}) + "\n"
            for name in ("../../up", "x/y", "x/y", "ünï", "", "a" * 300)
        )
    )
    done = run(*CELL, "--input", "q.jsonl", "--out", "out")
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in Path("out").glob("*.png"))
    assert names == [
        "1-2.png", f"{'a' * 40}-1-2.png", "n-1-2.png", "up-1-2.png", "x-y-1-2-2.png", "x-y-1-2.png",
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_in_a_terminal_is_one_line(folder: Path) -> None:
    """The real thing: a signal while the command waits for its questions."""
    command = [sys.executable, "-m", "vg_engine", "run", "--input", "-", "--out", "out"]
    work = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(2400):
        if Path("out").is_dir():
            break
        time.sleep(0.05)
    time.sleep(0.2)
    work.send_signal(signal.SIGINT)
    out, err = work.communicate(timeout=60)
    assert (work.returncode, out) == (130, "")
    assert err == "error: stopped; what was written stays\n"
    assert not Path("out").exists()


def test_a_record_that_is_no_text_leaves_the_others_alone(folder: Path) -> None:
    lines = [
        '{"image": "a.png", "text": "\\ud800"}',
        '{"image": "\\ud800.png", "text": "1,2"}',
        '{"id": "\\ud800", "image": "a.png", "text": "1,2"}',
        '{"image": "a.png", "text": "\\u200b"}',
        "[" * 100_000,
        '{"image": "a\\u0000.png", "text": "1,2"}',
        '{"image": "a.png", "text": "3,4"}',
    ]
    done = run(*CELL, "--input", "-", "--json", "--out", "out", stdin="\ufeff" + "\n".join(lines))
    assert done.exit_code == 2, done.output
    answers = records(done.stdout)
    assert ["error" in a for a in answers] == [True, True, False, True, True, True, False]
    assert "broken text" in answers[0]["error"]
    assert answers[1]["image"] == "\ud800.png"
    assert answers[2]["id"] == "\ud800"
    assert records(Path("out/results.jsonl").read_text()) == answers


def test_stdout_of_few_characters_still_carries_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stdout)
    console.result('{"text": "tasse \xe9 \u676f \U0001f3e0"}')
    written = stdout.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert json.loads(written) == {"text": "tasse \xe9 \u676f \U0001f3e0"}
    assert "\xe9" in written


def test_nothing_that_is_asked_about_is_overwritten(folder: Path) -> None:
    for name in ("1-2.png", "x-1-2.mask.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    lines = [
        {"id": "\u676f", "image": "1-2.png", "text": "1,2"},
        {"id": "x", "image": "x-1-2.mask.png", "text": "1,2"},
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(*CELL, "--input", "q.jsonl", "--out", ".", "--mask")
    assert done.exit_code == 0, done.output
    assert {name: (folder / name).read_bytes() for name in before} == before
    (folder / "results.jsonl").write_text(json.dumps(lines[0]))
    done = run(*CELL, "--input", "results.jsonl", "--out", ".")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "would overwrite results.jsonl" in done.stderr
    assert json.loads((folder / "results.jsonl").read_text()) == lines[0]


def test_folders_that_came_of_nothing_go_with_their_parents(folder: Path) -> None:
    done = run(*CELL, "--image", "none.png", "--text", "1,2", "--out", "x/y/z")
    assert done.exit_code == 2
    assert not Path("x").exists()


def test_a_folder_in_the_place_of_the_results_stops_before_the_answers(folder: Path) -> None:
    (folder / "out" / "results.jsonl").mkdir(parents=True)
    done = run(*CELL, "--image", "a.png", "--text", "1,2", "--out", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "results.jsonl is a folder" in done.stderr
    assert [path.name for path in (folder / "out").iterdir()] == ["results.jsonl"]


def test_a_sheet_says_how_much_of_it_there_is(folder: Path) -> None:
    texts = [part for n in range(14) for part in ("--text", f"{n % 6},{n // 6}")]
    done = run(*CELL, "--image", "a.png", *texts[:24], "--out", "out")
    assert "all answers about a.png side by side" in done.stderr
    done = run(*CELL, "--image", "a.png", *texts, "--out", "out")
    assert "the first 12 answers about a.png side by side" in done.stderr


def test_other_libraries_are_silent_while_we_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import logging as theirs

    before = theirs.get_verbosity()
    kit: Any = sys.modules["vg_cells"]
    heard = []
    prepare = kit.CellAdapter.vg_prepare_inputs

    def listening(self: Any, scenes: Any, expressions: Any) -> Any:
        heard.append(theirs.get_verbosity())
        return prepare(self, scenes, expressions)

    monkeypatch.setattr(kit.CellAdapter, "vg_prepare_inputs", listening)
    assert run(*CELL, "--image", "a.png", "--text", "1,2").exit_code == 0
    assert heard == [theirs.ERROR]
    assert theirs.get_verbosity() == before
